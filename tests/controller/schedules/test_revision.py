from collections.abc import Sequence

import pytest

from controller.errors import ControllerError
from controller.fleet import Device, Fleet
from controller.planner import plan
from controller.progress import progress
from controller.schedules.revision import (
    Author,
    edited,
    find_target,
    has_taken,
    history,
    kept,
    revision_steps,
    start_of,
    version_of,
    without_rows,
)
from protocols.bundle import Bundle
from protocols.desired import Deployment
from protocols.rollout import Rollout, Strategy
from protocols.schedule import Dwell, Schedule, Window, Wishes, default_cascade_schedule
from tests.controller.cascades import make_bundle, ref_of
from tests.controller.world import (
    ME,
    NOW_S,
    RELEASE,
    TOPICS,
    apply,
    deployment,
    device,
    fleet,
    inventory,
)

BUNDLE, OTHER = make_bundle(), make_bundle(name="letters")
REF = ref_of(BUNDLE)
BUNDLES: dict[str, Bundle] = {ref_of(b).artifact.sha256: b for b in (BUNDLE, OTHER)}
ROW = default_cascade_schedule(("small", "large"), 2, (0, 1))
QUICK = Schedule(dwell=Dwell(hold_s=2.0))


def of_two(*deployments: Deployment) -> Fleet:
    return fleet(device("pi-1"), device("pi-2"), deployments=deployments)


def publish(found: Fleet, name: str, schedule: Schedule | None, *nonces: str) -> list[Deployment]:
    """Publish a schedule and let the planner act on it; return what was published."""
    target = find_target(found, name)
    steps = revision_steps(found, target, BUNDLE, schedule, Author("me", NOW_S, nonces))
    for step in steps:
        made = step.deployment
        found.fold(TOPICS.deployment(made.id), RELEASE.sign_deployment(made), NOW_S)
    apply(found, plan(found, BUNDLES, NOW_S, ME))
    return [step.deployment for step in steps]


def dwell_of(found: Fleet, name: str) -> float:
    desired = found.devices[name].desired
    assert desired is not None
    return desired.schedule.dwell.hold_s


def test_the_lines_of_a_cascade_reach_every_device_and_keep_its_rows_compiled() -> None:
    found = of_two(deployment(REF, 1, selector={}, wishes=Wishes(goal="energy")))

    (made,) = publish(found, "digits", QUICK, "aa")

    assert made.schedule == QUICK.with_(version=1)
    assert (made.bundle, made.wishes, made.order) == (REF, Wishes(goal="energy"), 2)
    assert (dwell_of(found, "pi-1"), dwell_of(found, "pi-2")) == (2.0, 2.0)
    desired = found.devices["pi-1"].desired
    assert desired is not None
    assert desired.schedule.version == 1
    assert desired.schedule.cascades["digits"].compute[0].stages["large"].threads == 4


def test_one_device_has_its_own_and_keeps_it_when_the_others_change() -> None:
    found = of_two(deployment(REF, 1))
    (own,) = publish(found, "pi-1", Schedule(dwell=Dwell(hold_s=9.0)), "aa")
    assert own.devices == ("pi-1",)
    assert (dwell_of(found, "pi-1"), dwell_of(found, "pi-2")) == (9.0, 4.0)

    target = find_target(found, "digits")
    assert [d.name for d in target.devices] == ["pi-2"]
    assert [d.id for d in kept(found, target)] == [own.id]
    again, wide = publish(found, "digits", QUICK, "bb", "cc")

    assert (dwell_of(found, "pi-1"), dwell_of(found, "pi-2")) == (9.0, 2.0)
    assert again.order > wide.order
    assert (again.id, again.schedule, again.by) == ("digits-v1-cc", own.schedule, own.by)


def test_a_later_canary_of_another_version_stays_what_it_is() -> None:
    newer = make_bundle(version=2)
    canary = deployment(ref_of(newer), 2, devices=("pi-1",))
    found = of_two(deployment(REF, 1), canary)

    target = find_target(found, "digits")
    steps = revision_steps(found, target, BUNDLE, QUICK, Author("me", NOW_S, ("aa", "bb")))

    assert [s.deployment.id for s in steps] == ["digits-v2-bb", "digits-v1-aa"]
    assert steps[0].deployment.order > steps[1].deployment.order


def test_versions_rise_over_everything_that_was_deployed() -> None:
    found = of_two(deployment(REF, 1))
    for number in range(1, 4):
        (made,) = publish(found, "digits", QUICK, f"n{number}")
        assert made.schedule is not None
        assert made.schedule.version == number
    (back,) = publish(found, "digits", None, "n4")

    assert back.schedule is None
    assert dwell_of(found, "pi-1") == 4.0
    assert [d.order for d in history(found, "digits")] == [5, 4, 3, 2, 1]
    assert version_of(found, "digits", 2) == QUICK.with_(version=2)
    with pytest.raises(ControllerError, match="cannot find version 9 of digits: there is 1, 2, 3"):
        version_of(found, "digits", 9)


def test_rows_as_they_were_stay_the_compiler_s() -> None:
    found = of_two(deployment(REF, 1))
    target = find_target(found, "digits")
    start = start_of(target, found, BUNDLES)

    assert edited(start, start.with_(version=4), target) is None
    assert edited(start, start.with_(cascades={}), target) is None
    assert edited(start, start.with_(dwell=QUICK.dwell), target) == QUICK
    mine = start.with_(cascades={"digits": ROW})
    assert edited(start, mine, target) == mine


def test_a_person_s_rows_stay_until_they_are_left_out() -> None:
    found = of_two(deployment(REF, 1, schedule=Schedule(version=1, cascades={"digits": ROW})))
    target = find_target(found, "digits")
    start = start_of(target, found, BUNDLES)
    assert start.cascades["digits"] == ROW

    assert edited(start, start, target) is None
    assert edited(start, start.with_(dwell=QUICK.dwell), target) == start.with_(dwell=QUICK.dwell)
    assert edited(start, start.with_(cascades={}), target) == Schedule()
    bare = without_rows(target.deployment).schedule
    assert bare == Schedule(version=1)


def test_an_edit_begins_with_the_lines_that_hold_there() -> None:
    lines = deployment(ref_of(OTHER), 2, schedule=QUICK.with_(version=5))
    found = of_two(deployment(REF, 1), lines)

    start = start_of(find_target(found, "digits"), found, BUNDLES)

    assert (start.dwell, start.version, list(start.cascades)) == (QUICK.dwell, 0, ["digits"])


@pytest.mark.parametrize(
    ("name", "cascade", "says"),
    [
        ("pi-3", None, "cannot find pi-3: digits, letters is deployed, and the devices are pi-1"),
        ("pi-3", "digits", "cannot find pi-3: no such device"),
        ("pi-1", None, "cannot tell which cascade of pi-1 is meant: digits, letters"),
        ("pi-1", "words", "cannot find words on pi-1: digits, letters is deployed there"),
        ("letters", None, "cannot tell which deployment of letters is meant: letters-v1-2, "),
        ("digits-v1-9", None, "cannot use digits-v1-9: it was aborted"),
    ],
)
def test_a_name_that_is_not_clear(name: str, cascade: str | None, says: str) -> None:
    hall, attic = (
        device(n, inventory=inventory(n, labels={"room": r}))
        for n, r in (("pi-1", "hall"), ("pi-2", "attic"))
    )
    letters = ref_of(OTHER)
    found = fleet(
        hall,
        attic,
        deployments=[
            deployment(REF, 1),
            deployment(letters, 2, selector={"room": "hall"}),
            deployment(letters, 3, selector={"room": "attic"}),
            deployment(REF, 9, aborted=True),
        ],
    )
    with pytest.raises(ControllerError) as caught:
        find_target(found, name, cascade)
    assert str(caught.value).startswith(says)


def test_a_device_has_taken_it_once_it_accepted_the_document_that_says_so() -> None:
    found = of_two(deployment(REF, 1))
    assert not has_taken(found.devices["pi-1"], found, BUNDLES)
    publish(found, "digits", QUICK, "aa")
    assert not has_taken(found.devices["pi-1"], found, BUNDLES), "nothing was reported"


NIGHT = Window(start_minute=22 * 60, end_minute=6 * 60, compute=1)


@pytest.mark.parametrize("schedule", [None, QUICK, QUICK.with_(windows=(NIGHT,))])
def test_quiet_hours_do_not_keep_a_deployment_from_being_there(schedule: Schedule | None) -> None:
    """The planner adds the hours that are wished for to the windows of the schedule."""
    wanted = deployment(REF, 1, schedule=schedule, wishes=Wishes(quiet=(NIGHT,)))
    found = of_two(wanted)
    assert phases(wanted, found) == ["pending", "pending"]
    apply(found, plan(found, BUNDLES, NOW_S, ME))
    assert phases(wanted, found) == ["planned", "planned"]


def phases(wanted: Deployment, found: Fleet) -> Sequence[str]:
    return [one.phase for one in progress(wanted, found, BUNDLE)]


def test_a_person_s_rows_are_waited_for() -> None:
    before = deployment(REF, 1)
    found = of_two(before)
    apply(found, plan(found, BUNDLES, NOW_S, ME))
    assert phases(before, found) == ["planned", "planned"]
    mine = deployment(REF, 2, schedule=Schedule(version=1, cascades={"digits": ROW}))
    found.deployments[mine.id] = mine
    assert phases(mine, found) == ["pending", "pending"]
    apply(found, plan(found, BUNDLES, NOW_S, ME))
    assert phases(mine, found) == ["planned", "planned"]
    there: Device = found.devices["pi-1"]
    assert there.desired is not None
    assert there.desired.schedule.cascades["digits"] == ROW


def test_no_schedule_changes_where_a_rollout_is_under_way() -> None:
    waves = Strategy(soak_s=60.0)
    found = of_two(deployment(REF), deployment(REF, order=2, strategy=waves, devices=["pi-1"]))
    with pytest.raises(ControllerError, match="its rollout is under way; wait for its end"):
        publish(found, "digits-v1-1", QUICK, "a")
    assert publish(found, "pi-2", QUICK, "a")[0].devices == ("pi-2",)
    taken = deployment(REF, order=3, devices=["pi-1"])
    found.deployments[taken.id] = taken
    assert publish(found, "pi-1", QUICK, "e")[0].devices == ("pi-1",), (
        "nothing comes there any more"
    )
    for gone in (taken.id, "digits-v1-e"):
        del found.deployments[gone]
    done = Rollout(fleet="test", deployment="digits-v1-2", phase="completed", admitted=1.0)
    found.rollouts["digits-v1-2"] = done
    again = publish(found, "digits-v1-1", None, "b", "c", "d")
    assert [one.devices for one in again] == [("pi-2",), ("pi-1",), ()]
    assert {one.strategy for one in again} == {None}, "it has reached its devices already"
    found.rollouts["digits-v1-2"] = done.with_(phase="stopped")
    with pytest.raises(ControllerError, match="its rollout has stopped"):
        find_target(found, "digits-v1-2")
