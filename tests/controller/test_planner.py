from collections.abc import Mapping
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.election import electorate, owner
from controller.fleet import Device, Fleet, RungHistory
from controller.planner import PlannerPolicy, is_due, plan
from controller.steps import CannotFit, PutDesired, Step
from protocols.bundle import Bundle
from protocols.desired import Deployment, Desired
from protocols.device import CoreClass, Reported
from protocols.schedule import DEFAULT_THRESHOLDS, Dwell, Schedule, default_cascade_schedule
from tests.controller.cascades import Piece, make_bundle, ref_of
from tests.controller.world import (
    ME,
    NOW_S,
    apply,
    controller,
    deployment,
    desired,
    device,
    fleet,
    history,
    inventory,
    pins,
    status,
    telemetry,
)

V1, V2 = make_bundle(), make_bundle(version=2)
FACES = make_bundle((Piece("only", [("fp32", 20.0)]),), name="faces")
BUNDLES: dict[str, Bundle] = {ref_of(b).artifact.sha256: b for b in (V1, V2, FACES)}
POLICY = PlannerPolicy(revise_after_s=300, restore_after_s=1800, restore_threads_after_s=600)


def steps_of(
    found: Fleet, now_s: float = NOW_S, bundles: Mapping[str, Bundle] = BUNDLES
) -> list[Step]:
    return plan(found, bundles, now_s, ME, POLICY)


def document(steps: list[Step]) -> Desired:
    (step,) = steps
    assert isinstance(step, PutDesired)
    return step.desired


def settled(found: Fleet, now_s: float = NOW_S) -> Desired:
    """Plan and apply; return the one document that was written."""
    (written,) = apply(found, steps_of(found, now_s))
    return written


def deployed() -> Fleet:
    """Return a fleet on which version 1 of digits has been deployed a long while ago."""
    found = fleet(device(), deployments=[deployment(ref_of(V1))])
    apply(found, steps_of(found, NOW_S - 100_000))
    return found


def under(found: Fleet, now_s: float = NOW_S, **ladders: RungHistory) -> Fleet:
    """Return the fleet with its one device heard just now, at these rungs since those times."""
    only = replace(
        found.devices["pi"],
        telemetry=telemetry(),
        heard_s=now_s,
        **ladders,  # type: ignore[arg-type]
    )
    found.devices["pi"] = only
    return found


def test_a_deployment_becomes_a_desired_document() -> None:
    found = fleet(device(), deployments=[deployment(ref_of(V1))])

    written = settled(found)

    (cascade,) = written.cascades
    assert cascade.bundle == ref_of(V1)
    assert cascade.variants == {"small": "int8", "large": "fp32"}
    assert (written.generation, written.device, written.ts) == (1, "pi", NOW_S)
    assert written.reason == "digits@1 is deployed"
    assert steps_of(found) == []


def test_threads_and_cpus_are_the_device_s_fast_ones() -> None:
    big_little = (
        CoreClass(cpus=(4, 5), capacity=1024),
        CoreClass(cpus=(0, 1, 2, 3), capacity=400),
    )
    near = (CoreClass(cpus=(7,), capacity=1024), CoreClass(cpus=(4, 5, 6), capacity=900))
    for cores, cpus in ((big_little, (4, 5)), (near, (7, 4, 5, 6))):
        written = settled(deployed_later(inventory(cores=cores)))
        run = written.schedule.cascades["digits"].compute[0].stages["large"]
        assert (run.threads, run.cpus) == (len(cpus), cpus)
        small = written.schedule.cascades["digits"].compute[0].stages["small"]
        assert (small.threads, small.cpus) == (1, cpus)
    eight = settled(deployed_later(inventory(cores=(CoreClass(cpus=tuple(range(8)), capacity=1),))))
    assert eight.schedule.cascades["digits"].compute[0].stages["large"].threads == 4
    assert eight.schedule.cascades["digits"].compute[0].stages["large"].cpus is None
    unknown = settled(deployed_later(inventory(cores=())))
    run = unknown.schedule.cascades["digits"].compute[0].stages["small"]
    assert (run.threads, run.cpus) == (1, None)


def deployed_later(described: object) -> Fleet:
    return fleet(device(inventory=described), deployments=[deployment(ref_of(V1))])


def test_the_bundle_s_own_rows_are_kept_but_for_threads() -> None:
    row = V1.schedule.with_(base_threshold=0)
    row = row.with_(compute=tuple(r.with_(escalations_per_s=9.0) for r in row.compute))
    bundle = V1.with_(schedule=row)
    found = fleet(device(), deployments=[deployment(ref_of(bundle))])

    steps = steps_of(found, bundles={ref_of(bundle).artifact.sha256: bundle})

    rows = document(steps).schedule.cascades["digits"]
    assert {r.escalations_per_s for r in rows.compute} == {9.0}
    assert rows.residency == row.residency


def test_a_person_s_schedule_goes_before_all() -> None:
    rows = default_cascade_schedule(("small", "large"), threads=3)
    mine = Schedule(dwell=Dwell(hold_s=1.0), cascades={"digits": rows})
    found = fleet(device(), deployments=[deployment(ref_of(V1), schedule=mine)])

    written = settled(found)

    assert written.schedule == mine
    assert written.schedule.thresholds == DEFAULT_THRESHOLDS


def test_pins_are_passed_on() -> None:
    found = deployed()
    pinned = pins("pi", {"cascade": "digits", "stage": "large", "loaded": False})
    found.devices["pi"] = replace(found.devices["pi"], pins=pinned)

    written = settled(found)

    assert written.pins == pinned.pins
    assert written.reason == "pins have changed"


def test_the_highest_order_rules_for_each_cascade() -> None:
    found = fleet(
        device(),
        deployments=[
            deployment(ref_of(V2), 3),
            deployment(ref_of(V1), 1),
            deployment(ref_of(FACES), 2),
        ],
    )

    written = settled(found)

    assert [(c.bundle.name, c.bundle.version) for c in written.cascades] == [
        ("faces", 1),
        ("digits", 2),
    ]


def test_an_abort_lets_the_one_before_rule_again() -> None:
    found = deployed()
    second = deployment(ref_of(V2), 2)
    found.deployments[second.id] = second
    assert settled(found).reason == "digits@2 replaces digits@1"

    found.deployments[second.id] = second.with_(aborted=True)

    written = settled(found)
    assert written.cascades[0].bundle == ref_of(V1)
    assert written.generation == 3


def test_without_any_deployment_the_cascade_goes() -> None:
    found = deployed()
    found.deployments.clear()

    written = settled(found)

    assert written.cascades == ()
    assert written.reason == "digits is no longer deployed"
    assert steps_of(found) == []


def test_selectors_and_names_choose_the_devices() -> None:
    found = fleet(
        device("a", inventory=inventory("a", labels={"room": "1"})),
        device("b"),
        device("c"),
        deployments=[
            deployment(ref_of(V1), 1, selector={"room": "1"}),
            deployment(ref_of(V1), 2, devices=("c", "nobody")),
        ],
    )

    assert [d.device for d in apply(found, steps_of(found))] == ["a", "c"]


def test_a_cascade_whose_bundle_is_not_known_yet_stays_as_it_is() -> None:
    found = deployed()
    unknown = make_bundle(version=9)
    found.deployments["later"] = deployment(ref_of(unknown), 9, id="later")

    assert steps_of(found) == []


def test_what_cannot_fit_is_said_and_the_old_version_stays() -> None:
    found = deployed()
    huge = make_bundle((Piece("only", [("fp32", 9000.0)]),), version=3)
    found.deployments["huge"] = deployment(ref_of(huge), 3, id="huge")

    (step,) = steps_of(found, bundles={**BUNDLES, ref_of(huge).artifact.sha256: huge})

    assert isinstance(step, CannotFit)
    assert (step.device, step.deployment, step.cascade) == ("pi", "huge", "digits")
    assert "needs 9000 MiB" in step.describe()


def test_two_cascades_share_the_memory_and_the_earlier_one_has_it_first() -> None:
    small = device(inventory=inventory(memory_mib=400.0))
    found = fleet(small, deployments=[deployment(ref_of(V1), 1), deployment(ref_of(FACES), 2)])
    assert {c.bundle.name for c in settled(found).cascades} == {"digits", "faces"}

    tight = device(inventory=inventory(memory_mib=330.0))
    found = fleet(tight, deployments=[deployment(ref_of(V1), 1), deployment(ref_of(FACES), 2)])
    steps = steps_of(found)
    assert [type(step) for step in steps] == [CannotFit, PutDesired]


@pytest.mark.parametrize(
    "found",
    [
        device(inventory=None),
        device(status=None, inventory=None),
    ],
)
def test_a_device_that_has_not_described_itself_waits(found: Device) -> None:
    assert steps_of(fleet(found, deployments=[deployment(ref_of(V1))])) == []


def test_a_device_that_is_away_is_told_all_the_same() -> None:
    away = device(status=status(online=False))

    assert len(steps_of(fleet(away, deployments=[deployment(ref_of(V1))]))) == 1


def test_a_device_of_another_controller_is_left_alone() -> None:
    found = fleet(device(), deployments=[deployment(ref_of(V1))])
    found.controllers = {"other": controller("other")}

    assert steps_of(found) == []


def test_a_deploy_acts_only_where_nobody_serves() -> None:
    found = fleet(device(), deployments=[deployment(ref_of(V1))])
    found.controllers = {ME: controller(mode="deploy"), "other": controller("other")}
    assert steps_of(found) == []

    found.controllers["other"] = controller("other", online=False)
    assert len(steps_of(found)) == 1


def test_the_generation_goes_on_from_what_the_device_has_accepted() -> None:
    ahead = device(reported=Reported(device="pi", boot_id="b", generation=41))

    written = settled(fleet(ahead, deployments=[deployment(ref_of(V1))]))

    assert written.generation == 42


def test_a_device_that_has_passed_its_document_by_gets_it_anew() -> None:
    found = deployed()
    only = found.devices["pi"]
    found.devices["pi"] = replace(only, reported=Reported(device="pi", boot_id="b", generation=7))

    written = settled(found)

    assert (written.generation, written.reason) == (
        8,
        "the device had accepted generation 7 before",
    )
    assert steps_of(found) == []


def test_a_document_refused_as_old_is_written_anew_and_one_not_trusted_is_not() -> None:
    found = deployed()
    only = found.devices["pi"]
    for refused, generation, count in ((1, 1, 1), (None, 0, 0), (2, 1, 0)):
        reported = Reported.model_validate(
            {
                "device": "pi",
                "boot_id": "b",
                "generation": generation,
                "refusal": {"generation": refused, "message": "cannot"},
            }
        )
        found.devices["pi"] = replace(only, reported=reported)
        assert len(steps_of(found)) == count


# Sustained pressure.


def test_lasting_memory_pressure_takes_the_smaller_variant_then_the_last_stage() -> None:
    found = deployed()
    high_since = NOW_S - 300
    under(found, residency=history(2, high_since))

    first = settled(found)
    assert first.cascades[0].variants["large"] == "int8"
    assert first.reason == "memory short for 300 s: large goes from fp32 to int8"
    assert steps_of(under(found, NOW_S + 299), NOW_S + 299) == [], "our last word is too young"

    second = settled(under(found, NOW_S + 300), NOW_S + 300)
    assert second.cascades[0].dropped == ("large",)
    assert second.reason == "memory short for 600 s: large is dropped"
    assert steps_of(under(found, NOW_S + 9000), NOW_S + 9000) == [], "nothing is left to take"


def test_short_or_old_pressure_changes_nothing() -> None:
    for since_s, heard_s, rung in (
        (NOW_S - 299, NOW_S, 2),
        (NOW_S - 9000, NOW_S - POLICY.stale_s - 1, 2),
        (NOW_S - 9000, NOW_S, 1),
    ):
        found = under(deployed(), heard_s, residency=history(rung, since_s))
        assert steps_of(found) == []
    found = under(deployed(), residency=history(3, NOW_S - 9000))
    found.devices["pi"] = replace(found.devices["pi"], status=status(online=False))
    assert steps_of(found) == []


def test_after_a_long_calm_it_comes_back_step_by_step() -> None:
    found = deployed()
    settled(under(found, residency=history(4, NOW_S - 300)))
    settled(under(found, NOW_S + 300), NOW_S + 300)
    calm_since = NOW_S + 400

    def calm(now_s: float) -> list[Step]:
        return steps_of(under(found, now_s, residency=history(0, calm_since)), now_s)

    assert calm(calm_since + 1799) == []
    back = document(calm(calm_since + 1800))
    assert back.reason == "memory calm for 1800 s: large comes back"
    apply(found, calm(calm_since + 1800))
    assert calm(calm_since + 3599) == []
    assert document(calm(calm_since + 3600)).cascades[0].variants["large"] == "fp32"


def test_nothing_comes_back_where_there_is_no_room_for_it() -> None:
    found = deployed()
    settled(under(found, residency=history(2, NOW_S - 300)))
    later_s = NOW_S + 5000
    under(found, later_s, residency=history(0, NOW_S + 100))
    for available_mib in (1024.0 + 139.0, None):
        found.devices["pi"] = replace(
            found.devices["pi"], telemetry=telemetry(available_mib=available_mib)
        )
        assert steps_of(found, later_s) == []


def test_lasting_cpu_pressure_halves_the_threads_and_a_calm_doubles_them() -> None:
    found = deployed()

    def threads(now_s: float, rung: int, since_s: float) -> int:
        written = settled(under(found, now_s, compute=history(rung, since_s)), now_s)
        return written.schedule.cascades["digits"].compute[0].stages["large"].threads

    assert threads(NOW_S, 2, NOW_S - 300) == 2
    assert threads(NOW_S + 300, 3, NOW_S - 300) == 1
    assert steps_of(under(found, NOW_S + 999), NOW_S + 999) == []
    assert threads(NOW_S + 3000, 0, NOW_S + 1000) == 2
    assert threads(NOW_S + 4800, 0, NOW_S + 1000) == 4
    assert steps_of(under(found, NOW_S + 9999), NOW_S + 9999) == []


def test_threads_come_back_sooner_than_models_and_do_not_put_them_off() -> None:
    found = deployed()
    settled(under(found, residency=history(2, NOW_S - 300), compute=history(2, NOW_S - 300)))
    calm = {"residency": history(0, NOW_S + 10), "compute": history(0, NOW_S + 10)}

    def steps(at_s: float) -> list[Step]:
        return steps_of(under(found, NOW_S + at_s, **calm), NOW_S + at_s)

    assert steps(609) == []
    threads = document(steps(610))
    assert threads.reason == "CPU calm for 600 s: digits goes from 2 to 4 threads"
    assert (threads.ts, threads.forms_ts) == (NOW_S + 610, NOW_S)
    apply(found, [PutDesired(threads)])
    assert steps(1809) == []
    models = document(steps(1810))
    assert models.reason == "memory calm for 1800 s: large goes from int8 to fp32"
    assert models.forms_ts == NOW_S + 1810


def test_a_document_that_does_not_say_when_its_forms_changed_is_as_old_as_they_are() -> None:
    found = deployed()
    settled(under(found, residency=history(2, NOW_S - 300)))
    only = found.devices["pi"]
    assert only.desired is not None
    found.devices["pi"] = replace(only, desired=only.desired.with_(forms_ts=0.0))
    later = NOW_S + 1799
    assert steps_of(under(found, later, residency=history(0, NOW_S - 9)), later) == []
    assert steps_of(under(found, later + 1, residency=history(0, NOW_S - 9)), later + 1)


def test_the_reason_names_what_is_shed_beside_another_form() -> None:
    found = under(deployed(), residency=history(2, NOW_S - 301), compute=history(2, NOW_S - 301))
    told = document(steps_of(found))
    assert told.shed == 1
    assert "memory short for 301 s: " in told.reason
    assert "CPU short for 301 s: steps of C0 taken back: 1, 0 before" in told.reason


def test_the_reason_names_the_threads() -> None:
    found = under(deployed(), compute=history(2, NOW_S - 301))

    assert document(steps_of(found)).reason == (
        "CPU short for 301 s: digits goes from 4 to 2 threads"
    )


def test_a_restart_loses_nothing_that_was_decided() -> None:
    found = deployed()
    settled(under(found, residency=history(2, NOW_S - 300), compute=history(2, NOW_S - 300)))
    again = found.without_documents()
    again.deployments, again.controllers = found.deployments, found.controllers
    again.devices = {"pi": replace(device(), desired=found.devices["pi"].desired)}

    assert steps_of(again) == []


def test_a_new_version_starts_at_its_best_unless_memory_is_short_now() -> None:
    for rung, variant in ((0, "fp32"), (2, "int8")):
        found = deployed()
        settled(under(found, residency=history(2, NOW_S - 300)))
        found.deployments["v2"] = deployment(ref_of(V2), 2, id="v2")
        under(found, NOW_S + 1, residency=history(rung, NOW_S + 1))
        assert document(steps_of(found, NOW_S + 1)).cascades[0].variants["large"] == variant


def test_a_document_from_the_future_does_not_hold_up() -> None:
    found = fleet(device(), deployments=[deployment(ref_of(V1))])
    apply(found, steps_of(found, NOW_S + 1_000_000))

    assert len(steps_of(under(found, residency=history(2, NOW_S - 300)))) == 1


def test_is_due_only_when_load_may_be_a_reason() -> None:
    assert not is_due(device(), NOW_S, POLICY)
    assert not is_due(under(deployed()).devices["pi"], NOW_S, POLICY)
    pressed = under(deployed(), residency=history(2, NOW_S - 300)).devices["pi"]
    assert is_due(pressed, NOW_S, POLICY)


# Properties.


@dataclass(frozen=True)
class World:
    """What may be true of a device and its deployments."""

    memory_mib: float | None
    cpus: int
    online: bool
    generation: int
    accepted: int
    residency: int
    compute: int
    since_s: float
    orders: list[int]
    aborted: tuple[bool, bool, bool]
    known: set[str]
    pinned: bool

    def device(self, name: str) -> Device:
        """Return the device."""
        since_s, cpus = NOW_S - self.since_s, tuple(range(self.cpus))
        cores = (CoreClass(cpus=cpus, capacity=1024),) if cpus else ()
        pin = {"cascade": "digits", "stage": "large", "threads": 2}
        return device(
            name,
            status=status(name, online=self.online),
            inventory=inventory(name, memory_mib=self.memory_mib, cores=cores),
            telemetry=telemetry(name),
            heard_s=NOW_S,
            reported=Reported(device=name, boot_id="b", generation=self.accepted),
            desired=desired(name, self.generation, ts=since_s) if self.generation else None,
            residency=history(self.residency, since_s),
            compute=history(self.compute, since_s),
            pins=pins(name, pin) if self.pinned else None,
        )

    def deployments(self) -> list[Deployment]:
        """Return the deployments."""
        refs = [ref_of(bundle) for bundle in (V1, V2, FACES)]
        return [
            deployment(ref, order, aborted=aborted)
            for ref, order, aborted in zip(refs, self.orders, self.aborted, strict=True)
        ]


worlds: st.SearchStrategy[World] = st.builds(
    World,
    memory_mib=st.none() | st.floats(64, 4096),
    cpus=st.integers(0, 8),
    online=st.booleans(),
    generation=st.integers(0, 9),
    accepted=st.integers(0, 9),
    residency=st.integers(0, 4),
    compute=st.integers(0, 4),
    since_s=st.floats(0, 5000),
    orders=st.permutations([1, 2, 3]),
    aborted=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    known=st.sets(st.sampled_from(sorted(BUNDLES))),
    pinned=st.booleans(),
)


@settings(max_examples=200, deadline=None)
@given(world=worlds, waits_s=st.lists(st.floats(0, 4000), max_size=4))
def test_plans_are_idempotent_and_generations_rise(world: World, waits_s: list[float]) -> None:
    found = fleet(world.device("pi"), deployments=world.deployments())
    bundles = {sha256: BUNDLES[sha256] for sha256 in world.known}
    now_s = NOW_S
    for wait_s in [0.0, *waits_s]:
        now_s += wait_s
        before = found.devices["pi"] = replace(found.devices["pi"], heard_s=now_s)
        for written in apply(found, plan(found, bundles, now_s, ME, POLICY)):
            assert written.generation > max(
                before.desired.generation if before.desired else 0, world.accepted
            )
            assert written.reason
        again = plan(found, bundles, now_s, ME, POLICY)
        assert [step for step in again if isinstance(step, PutDesired)] == []


@settings(max_examples=100, deadline=None)
@given(world=worlds, names=st.sets(st.sampled_from("abcdef"), min_size=1))
def test_each_device_is_written_by_exactly_one(world: World, names: set[str]) -> None:
    found = fleet(*(world.device(f"pi-{n}") for n in range(4)), deployments=world.deployments())
    found.controllers = {name: controller(name) for name in names}
    voters = electorate(found.controllers.values())

    writers: list[str] = []
    for name in names:
        for step in plan(found, BUNDLES, NOW_S, name, POLICY):
            if isinstance(step, PutDesired):
                assert owner(voters, step.desired.device) == name
                writers.append(step.desired.device)

    assert len(writers) == len(set(writers))
    assert plan(found, BUNDLES, NOW_S, "stranger", POLICY) == []


def test_only_the_devices_asked_for_are_planned() -> None:
    found = fleet(device("a"), device("b"), deployments=[deployment(ref_of(V1))])

    steps = plan(found, BUNDLES, NOW_S, ME, POLICY, devices={"b", "gone"})

    assert document(steps).device == "b"
