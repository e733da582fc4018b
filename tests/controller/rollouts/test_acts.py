"""What a person may do to a rollout, when, and the words for what comes of it."""

import pytest

from controller.errors import ControllerError
from controller.fleet import Fleet
from controller.rollouts.acts import (
    find,
    meant,
    pause,
    promote,
    resume,
    undo_places,
    undo_target,
    undone_with,
)
from controller.rollouts.overview import overview
from controller.rollouts.wording import stop_words, what_changed
from protocols.desired import Deployment
from protocols.rollout import Finding, Rollout, Strategy, Wave
from tests.controller.cascades import make_bundle, ref_of
from tests.controller.world import NOW_S, deployment, device, fleet, inventory

V1, V2, V3 = (ref_of(make_bundle(version=version)) for version in (1, 2, 3))
WAVES = Strategy(waves=(Wave(percent=50),))


def of(*deployments: Deployment, **phases: str) -> Fleet:
    found = fleet(device("pi-1"), deployments=deployments)
    for made in deployments:
        phase = phases.get(f"v{made.bundle.version}")
        if phase is not None:
            state = {"fleet": "test", "deployment": made.id, "phase": phase}
            found.rollouts[made.id] = Rollout.model_validate(state)
    return found


def test_the_one_that_is_under_way_is_meant() -> None:
    found = of(deployment(V1, strategy=WAVES), deployment(V2, order=2, devices=("pi-9",)))
    assert pause(found, "digits").deployment.bundle == V1
    assert meant(found, "digits").bundle == V1
    assert meant(found, "digits-v2-2").bundle == V2
    assert find(found, "digits").bundle == V2
    assert find(found, None).bundle == V2
    assert find(found, "digits-v1-1").bundle == V1


@pytest.mark.parametrize("act", [pause, resume, promote])
def test_nothing_to_act_on(act: object) -> None:
    assert callable(act)
    with pytest.raises(ControllerError, match=r"^cannot find a rollout of faces: nothing is"):
        act(of(), "faces")
    with pytest.raises(ControllerError, match="it has no waves, it went everywhere at once"):
        act(of(deployment(V1)), "digits")
    for phase, words in (("stopped", "it has stopped"), ("completed", "it is completed")):
        with pytest.raises(ControllerError, match=f"{words}; deploy to begin again"):
            act(of(deployment(V1, strategy=WAVES), v1=phase), "digits")
    with pytest.raises(ControllerError, match="it was aborted"):
        act(of(deployment(V1, strategy=WAVES, aborted=True)), "digits")


def test_what_is_so_already() -> None:
    with pytest.raises(ControllerError, match="it is not paused"):
        resume(of(deployment(V1, strategy=WAVES)), "digits")
    with pytest.raises(ControllerError, match="it is paused already"):
        pause(of(deployment(V1, strategy=WAVES, paused=True)), "digits")
    once = of(deployment(V1, strategy=WAVES, paused=True), v1="paused")
    step = promote(once, "digits")
    assert (step.deployment.paused, step.deployment.promoted) == (False, 1)
    once.deployments[step.deployment.id] = step.deployment
    with pytest.raises(ControllerError, match=r"it is in its last wave \(all\)"):
        promote(once, "digits")


def test_undo_goes_to_the_last_that_was_good() -> None:
    found = of(
        deployment(V1),
        deployment(V2, order=2, strategy=WAVES),
        deployment(V3, order=3, strategy=WAVES),
        v2="stopped",
        v3="completed",
    )
    present, back = undo_target(found, "digits", None)
    assert (present.bundle, back.bundle) == (V3, V1)
    assert undo_target(found, "digits", 2)[1].bundle == V2
    with pytest.raises(ControllerError, match=r"digits@3 was never deployed besides \(only"):
        undo_target(found, "digits", 3)
    with pytest.raises(ControllerError, match="nothing of it is deployed"):
        undo_target(of(deployment(V1, aborted=True)), "digits", None)
    with pytest.raises(ControllerError, match=r"no earlier bundle holds .*: nothing\)"):
        undo_target(of(deployment(V1)), "digits", None)


def test_one_that_others_have_taken_over_is_not_meant() -> None:
    found = of(deployment(V1, strategy=WAVES), deployment(V2, order=2))
    assert meant(found, "digits").bundle == V2
    with pytest.raises(ControllerError, match="it has no waves"):
        pause(found, "digits")


def test_undo_means_all_deployments_of_the_bundle() -> None:
    hall = {"room": "hall"}
    wide = deployment(V2, order=2)
    own = deployment(V2, order=3, devices=("pi-1",))
    found = of(deployment(V1), wide, own)
    assert undone_with(found, own) == [own, wide]
    assert undo_places(found, own) == [((), {})], "all of them: the wide one has the device, too"

    two = [deployment(V2, order=n, devices=(f"pi-{n}",)) for n in (2, 3)]
    in_hall = deployment(V2, order=4, selector=hall)
    found = of(deployment(V1), *two, in_hall)
    assert undo_places(found, in_hall) == [((), hall), (("pi-2", "pi-3"), {})]


def test_undo_leaves_what_others_rule_on() -> None:
    wide = deployment(V1)
    other = deployment(V2, order=2, devices=("pi-2",))
    own = deployment(V1, order=3, devices=("pi-3",))
    found = fleet(
        *(device(f"pi-{n}", inventory=inventory(f"pi-{n}")) for n in (1, 2, 3)),
        deployments=[wide, other, own],
    )
    assert undo_places(found, own) == [(("pi-1", "pi-3"), {})]


def test_a_second_undo_goes_further_back() -> None:
    found = of(deployment(V1), deployment(V2, order=2), deployment(V3, order=3))
    for order, expected in ((4, V2), (5, V1)):
        present, back = undo_target(found, "digits", None)
        assert back.bundle == expected
        for one in undone_with(found, present):
            found.deployments[one.id] = one.with_(aborted=True)
        made = deployment(back.bundle, order=order)
        found.deployments[made.id] = made
    with pytest.raises(ControllerError, match="no earlier bundle holds"):
        undo_target(found, "digits", None)


def test_how_it_reads() -> None:
    made = deployment(V2, strategy=WAVES)
    state = Rollout(fleet="test", deployment=made.id)
    assert what_changed(made, None, state) == "begins with wave 1 of 2 (50%)"
    assert what_changed(made, state, state.with_(wave=1)) == "opens wave 2 of 2 (all)"
    assert (
        what_changed(made, state, state.with_(phase="paused")) == "is paused in wave 1 of 2 (50%)"
    )
    more = what_changed(made, state, state.with_(admitted=0.5))
    assert more == "reaches more devices in wave 1 of 2 (50%)"
    done = state.with_(phase="completed", reached=9)
    assert what_changed(made, state, done) == "is completed: 9 devices have it"
    findings = tuple(Finding(gate="p95", device=f"pi-{n}", message="slow") for n in range(7))
    stopped = state.with_(phase="stopped", findings=findings, unhealthy=70, reached=100)
    assert stop_words(stopped) == (
        "gate p95: pi-0 slow; 70 of 100 devices unhealthy: pi-0, pi-1, pi-2, pi-3, pi-4 and 65 more"
    )
    drifted = state.with_(findings=(Finding(gate="confidence", message="they have drifted"),))
    assert stop_words(drifted) == "gate confidence: they have drifted"


def test_a_completed_rollout_that_was_aborted_later_is_aborted() -> None:
    found = of(deployment(V1, strategy=WAVES, aborted=True), v1="completed")
    found.rollouts["digits-v1-1"] = found.rollouts["digits-v1-1"].with_(wave=1)
    there = overview(found.deployments["digits-v1-1"], found, None, NOW_S)
    assert there.outcome.exit_code == 3
    assert [wave.state for wave in there.waves] == ["passed", "passed"]


def test_one_whose_devices_others_have_taken_is_superseded() -> None:
    found = of(deployment(V1, strategy=WAVES), deployment(V2, order=2))
    there = overview(found.deployments["digits-v1-1"], found, None, NOW_S)
    assert (there.outcome.settled, there.outcome.exit_code) == (True, 3)
    assert there.outcome.message == "1 superseded"
