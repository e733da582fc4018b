"""Rollouts of a fleet in memory: what devices report becomes waves, stops and reverts."""

from dataclasses import replace

from controller.fleet import Device, Fleet
from controller.planner import plan
from controller.progress import outcome, progress
from controller.rollouts.acts import pause, resume
from controller.rollouts.overview import overview, turns
from controller.rollouts.rollout import rollout, rollout_steps
from controller.rollouts.waves import place, touched
from controller.steps import PutRollout
from protocols.bundle import CONFIDENCE_BINS, Bundle, BundleRef
from protocols.desired import Deployment
from protocols.device import (
    WAITS,
    CascadePhase,
    CascadeStats,
    Reported,
    ReportedCascade,
    StageStats,
)
from protocols.rollout import Gates, Rollout, Strategy, Wave
from tests.controller.cascades import make_bundle, ref_of
from tests.controller.world import (
    CONTROLLER,
    ME,
    NOW_S,
    TOPICS,
    apply,
    controller,
    deployment,
    device,
    fleet,
    inventory,
    telemetry,
)

V1, V2 = make_bundle(), make_bundle(version=2)
BUNDLES: dict[str, Bundle] = {ref_of(b).artifact.sha256: b for b in (V1, V2)}
CANARY = {"ring": "canary"}
STRATEGY = Strategy(
    canary=CANARY, waves=(Wave(percent=50),), soak_s=60.0, gates=Gates(unhealthy=0.0)
)


_MESSAGES = {"verified": f"{WAITS}battery 12 %, unplugged", "fetching": ""}


class Story:
    """A fleet of eight, two of them canaries, with version 1 everywhere and 2 on its way."""

    def __init__(self, strategy: Strategy | None = STRATEGY, **more: object) -> None:
        self.now_s = NOW_S
        self.fleet = fleet(*(_device(n) for n in range(8)), deployments=[deployment(ref_of(V1))])
        self.settle()
        self.new = deployment(ref_of(V2), order=2, strategy=strategy, created_ts=NOW_S, **more)
        self.put(self.new)

    def put(self, made: Deployment) -> None:
        self.new = made
        self.fleet.deployments[made.id] = made

    @property
    def state(self) -> Rollout:
        return self.fleet.rollouts[self.new.id]

    def roll(self, seconds: float = 1.0) -> list[PutRollout]:
        self.now_s += seconds
        steps = rollout_steps(self.fleet, BUNDLES, self.now_s, ME)
        for step in steps:
            topic = TOPICS.rollout(step.rollout.deployment)
            self.fleet.fold(topic, CONTROLLER.sign_rollout(step.rollout), self.now_s)
        return steps

    def settle(self, **phases: CascadePhase) -> set[str]:
        """Let the planner tell the devices, and these report; return who was told something."""
        steps = plan(self.fleet, BUNDLES, self.now_s, ME)
        told = {document.device for document in apply(self.fleet, steps)}
        for name, one in self.fleet.devices.items():
            if one.desired is not None and one.online:
                self.fleet.devices[name] = _reporting(
                    one, self.now_s, phases.get(name.replace("-", "_"))
                )
        return told

    def go(self, seconds: float = 1.0, **phases: CascadePhase) -> set[str]:
        self.roll(seconds)
        return self.settle(**phases)

    def phases(self) -> dict[str, str]:
        return {p.device: p.phase for p in progress(self.new, self.fleet, V2)}

    def running(self, ref: BundleRef) -> set[str]:
        return {
            d.name
            for d in self.fleet.devices.values()
            if d.desired is not None and any(c.bundle == ref for c in d.desired.cascades)
        }

    def until(self, phase: str, **phases: CascadePhase) -> None:
        for _ in range(30):
            self.go(61.0, **phases)
            if self.state.phase == phase:
                return
        raise AssertionError(self.state)


def _device(number: int) -> Device:
    labels = CANARY if number < 2 else {"ring": "main"}
    name = f"pi-{number}"
    return device(name, inventory=inventory(name, labels=labels), telemetry=telemetry(name))


def _reporting(one: Device, now_s: float, phase: CascadePhase | None) -> Device:
    assert one.desired is not None
    (cascade,) = one.desired.cascades
    bad = phase is not None and cascade.bundle == ref_of(V2)
    reported = ReportedCascade(
        bundle=cascade.bundle,
        phase=phase if bad and phase is not None else "running",
        running=ref_of(V1) if bad else cascade.bundle,
        message=_MESSAGES.get(phase or "", "cannot load digits/large") if bad else "",
    )
    version = reported.running.version if reported.running is not None else 0
    stats = CascadeStats(
        name="digits", version=version, stages=(), answers=1000, escalated=250, p95_ms=20.0
    )
    assert one.telemetry is not None
    return replace(
        one,
        reported=Reported(
            device=one.name,
            boot_id="b1",
            generation=one.desired.generation,
            cascades=(reported,),
        ),
        telemetry=one.telemetry.with_(cascades=(stats,)),
        heard_s=now_s,
    )


def test_wave_after_wave_until_all_run_it() -> None:
    story = Story()
    assert story.settle() == set(), "nobody is told before a rollout has begun"
    assert set(story.phases().values()) == {"waiting"}

    assert story.go() == {"pi-0", "pi-1"}
    assert story.running(ref_of(V1)) == {f"pi-{n}" for n in range(2, 8)}
    story.roll()
    assert (story.state.wave, story.state.phase) == (0, "soaking")
    assert story.go(30.0) == set()
    story.go(31.0)
    assert len(story.go()) == 2, "half of all devices, the canaries among them"
    story.until("completed")

    assert story.running(ref_of(V2)) == {f"pi-{n}" for n in range(8)}
    found = overview(story.new, story.fleet, V2, story.now_s)
    assert (found.outcome.settled, found.outcome.exit_code) == (True, 0)
    assert [w.state for w in found.waves] == ["passed"] * 3
    assert rollout_steps(story.fleet, BUNDLES, story.now_s + 999, ME) == []


def test_a_canary_that_rejects_it_stops_it_and_all_go_back() -> None:
    story = Story()
    story.go(pi_1="rejected")
    (step,) = story.roll()

    assert story.state.phase == "stopped"
    assert step.describe() == (
        "rollout digits-v2-2 stops in wave 1 of 3 (canary): gate bundle: pi-1 rejected: "
        "cannot load digits/large"
    )
    assert story.phases() == {
        **{f"pi-{n}": "reverting" for n in range(2)},
        **{f"pi-{n}": "untouched" for n in range(2, 8)},
    }
    assert story.settle() == {"pi-0", "pi-1"}
    assert story.running(ref_of(V1)) == {f"pi-{n}" for n in range(8)}
    assert story.phases()["pi-0"] == "reverted"
    found = overview(story.new, story.fleet, V2, story.now_s)
    assert (found.outcome.settled, found.outcome.exit_code) == (True, 3)
    assert "gate bundle: pi-1 rejected" in found.outcome.message
    for _ in range(5):
        assert story.go(100.0) == set(), "it never starts again by itself"


def test_a_canary_that_is_slower_stops_it() -> None:
    story = Story()
    story.go()
    slow = story.fleet.devices["pi-0"]
    assert slow.telemetry is not None
    (stats,) = slow.telemetry.cascades
    worse = slow.telemetry.with_(cascades=(stats.with_(p95_ms=44.0),))

    def heard(later_s: float) -> None:
        at_s = story.now_s + later_s
        story.fleet.devices["pi-0"] = replace(slow, telemetry=worse, heard_s=at_s)
        story.roll(later_s)

    heard(1.0)
    heard(11.0)
    assert not story.state.findings, "it may be a moment"
    story.roll(1000.0)
    assert not story.state.findings, "time alone proves nothing: it was not heard again"
    assert story.state.wave == 0
    heard(1.0)
    assert story.state.phase == "stopped"
    (finding,) = story.state.findings
    assert (finding.gate, finding.device) == ("p95", "pi-0")
    assert "p95 44 ms, 20 ms before: 2.2 times" in finding.message


def test_confidences_that_drift_on_all_together_stop_it() -> None:
    shares = tuple(1 / CONFIDENCE_BINS for _ in range(CONFIDENCE_BINS))
    known = tuple(c.with_(confidence={"small": shares}) for c in V2.certificates)
    bundles = {sha256: b.with_(certificates=known) for sha256, b in BUNDLES.items()}
    story = Story()
    story.go()

    def answered(count: int, *names: str) -> None:
        """Let devices answer, with all of their confidences in the lowest bin."""
        for name in names or ("pi-0", "pi-1"):
            there = story.fleet.devices[name]
            assert there.telemetry is not None
            counts = (count, *[0] * (CONFIDENCE_BINS - 1))
            stage = StageStats(name="small", variant="int8", loaded=True, confidence=counts)
            (stats,) = there.telemetry.cascades
            after = there.telemetry.with_(cascades=(stats.with_(stages=(stage,)),))
            story.fleet.devices[name] = replace(there, telemetry=after)

    answered(300)
    first = rollout(story.new, story.fleet, bundles, story.now_s)
    assert (first.phase, first.confidences["small"].shifted) == ("soaking", True)
    story.fleet.rollouts[story.new.id] = first
    answered(600)
    second = rollout(story.new, story.fleet, bundles, story.now_s + 1)
    assert (second.phase, second.unhealthy) == ("stopped", 0)
    (finding,) = second.findings
    assert (finding.gate, finding.device) == ("confidence", None)
    answered(600, "pi-7")
    excused = rollout(story.new, story.fleet, bundles, story.now_s + 1)
    assert excused.phase == "soaking", "those without the bundle have drifted, too"
    assert excused.confidences["small"].excused
    off = story.new.with_(strategy=STRATEGY.with_(gates=Gates(confidence=False)))
    assert rollout(off, story.fleet, bundles, story.now_s + 1).phase == "soaking"


def test_who_joins_late_with_the_label_gets_it() -> None:
    story = Story(selector={"ring": "main"}, strategy=Strategy(soak_s=60.0))
    story.until("completed")
    late = replace(_device(9), name="pi-9")
    story.fleet.devices["pi-9"] = late
    assert story.settle() == {"pi-9"}
    assert "pi-9" in story.running(ref_of(V2))


def test_who_was_away_catches_up() -> None:
    story = Story()
    away = story.fleet.devices["pi-1"]
    assert away.status is not None
    offline = replace(away, status=away.status.with_(online=False))
    story.fleet.devices["pi-1"] = offline
    story.until("completed")
    assert story.phases()["pi-1"] == "offline"
    found = overview(story.new, story.fleet, V2, story.now_s)
    assert found.away == ("pi-1",)
    assert found.outcome.exit_code == 0
    story.fleet.devices["pi-1"] = replace(story.fleet.devices["pi-1"], status=away.status)
    story.settle()
    assert story.phases()["pi-1"] == "running"


def test_who_puts_it_off_holds_nothing_up_and_catches_up() -> None:
    held = Story()
    for _ in range(20):
        held.go(61.0, pi_1="fetching")
    assert (held.state.wave, held.state.phase) == (0, "reaching")
    story = Story()
    story.until("completed", pi_1="verified")
    assert story.phases()["pi-1"] == "verified"
    story.settle()
    assert story.phases()["pi-1"] == "running"


def test_two_controllers_and_one_writer() -> None:
    story = Story()
    story.fleet.controllers["other"] = controller("other")
    mine = rollout_steps(story.fleet, BUNDLES, NOW_S, ME)
    theirs = rollout_steps(story.fleet, BUNDLES, NOW_S, "other")
    assert sorted([len(mine), len(theirs)]) == [0, 1]
    (step,) = [*mine, *theirs]
    assert step.rollout == rollout(story.new, story.fleet, BUNDLES, NOW_S)


def test_the_state_lost_with_the_broker_is_taken_from_the_devices() -> None:
    story = Story()
    story.go()
    story.fleet.rollouts.clear()
    assert story.settle() == set(), "nobody is told to go back before somebody decides"
    lost = story.fleet.devices["pi-0"]
    story.fleet.devices["pi-0"] = replace(lost, desired=None)
    assert "pi-0" not in story.settle(), "not even if its document is unreadable, too"
    story.go()
    assert {"pi-0", "pi-1"} <= story.running(ref_of(V2))
    story.until("completed")


def test_the_state_lost_is_not_guessed_where_two_deployments_have_the_bundle() -> None:
    story = Story()
    story.go()
    twin = deployment(ref_of(V2), order=3, id="twin", strategy=STRATEGY, created_ts=NOW_S)
    story.put(twin)
    assert rollout(twin, story.fleet, BUNDLES, NOW_S).wave_s == NOW_S
    story.fleet.rollouts.clear()
    (first, second) = rollout_steps(story.fleet, BUNDLES, NOW_S, ME)
    twice = [first.rollout.deployment, second.rollout.deployment]
    assert twice == ["digits-v2-2", "twin"]


def test_one_that_had_stopped_does_not_begin_again_when_its_state_is_lost() -> None:
    story = Story()
    story.go(pi_1="rejected")
    story.roll()
    story.settle()
    story.fleet.rollouts.clear()
    story.now_s += 100_000.0
    (step,) = story.roll()
    assert "is held in wave 1 of 3 (canary): gate state: it was made 28 h ago" in step.describe()
    assert story.settle() == set()
    assert (story.state.phase, story.state.admitted) == ("paused", 0.0)
    assert story.roll(1000.0) == []
    found = overview(story.new, story.fleet, V2, story.now_s)
    assert [f.gate for f in found.findings] == ["state"], "and whoever looks sees why"


def test_one_that_took_long_to_be_signed_begins_at_a_word() -> None:
    story = Story(promoted=1)
    story.now_s += 200_000.0
    story.roll()
    assert (story.state.phase, story.state.revision) == ("paused", 1)
    story.put(pause(story.fleet, "digits").deployment)
    assert story.roll() == [], "held is held"
    story.put(resume(story.fleet, "digits").deployment)
    assert (story.new.paused, story.new.promoted) == (False, 2)
    story.go()
    assert (story.state.wave, story.state.findings) == (0, ()), "no wave is left out for it"
    assert story.running(ref_of(V2)) == {"pi-0", "pi-1"}
    story.until("completed")


def test_old_states_that_are_lost_take_the_bundle_from_nobody() -> None:
    story = Story()
    story.until("completed")
    twin = deployment(ref_of(V2), order=3, id="twin", strategy=STRATEGY, created_ts=NOW_S)
    story.put(twin)
    story.go()
    story.fleet.rollouts.clear()
    story.now_s += 200_000.0
    story.go()
    assert story.running(ref_of(V2)) == {f"pi-{n}" for n in range(8)}
    assert (story.state.phase, story.state.admitted) == ("paused", 0.0)
    assert story.fleet.rollouts["digits-v2-2"].admitted > 0.5


def test_an_abort_in_the_middle_goes_back() -> None:
    story = Story()
    story.go()
    story.put(story.new.with_(aborted=True))
    assert story.roll() == []
    assert story.settle() == {"pi-0", "pi-1"}
    assert set(story.phases().values()) == {"aborted"}


def test_pause_resume_and_promote() -> None:
    story = Story(paused=True)
    story.roll()
    assert story.state.phase == "paused"
    assert story.settle() == set()
    story.put(story.new.with_(paused=False))
    story.go()
    assert story.running(ref_of(V2)) == {"pi-0", "pi-1"}
    story.put(story.new.with_(promoted=1))
    story.go()
    assert (story.state.wave, story.state.promoted) == (1, 1)
    assert len(story.running(ref_of(V2))) == 4


def test_a_deployment_that_is_under_way_is_never_settled() -> None:
    story = Story(strategy=Strategy(soak_s=60.0))
    story.go()
    assert set(story.phases().values()) == {"running"}
    assert outcome(progress(story.new, story.fleet, V2)).settled
    assert not overview(story.new, story.fleet, V2, story.now_s).outcome.settled


def test_a_schedule_of_the_same_bundle_goes_in_waves_too() -> None:
    story = Story()
    story.until("completed")
    again = deployment(
        ref_of(V2), order=3, id="again", strategy=STRATEGY, wishes={"goal": "energy"}
    )
    story.put(again)
    assert set(story.phases().values()) == {"waiting"}
    story.roll()
    assert story.state.admitted < 0.5


def test_only_those_are_planned_whom_a_step_concerns() -> None:
    story = Story()
    found = story.fleet.devices.values()
    before = Rollout(fleet="test", deployment=story.new.id)
    canaries = before.with_(admitted=0.5)
    assert len(touched(story.new, None, before, found)) == 8
    assert touched(story.new, before, canaries, found) == ["pi-0", "pi-1"]
    assert touched(story.new, canaries, canaries.with_(phase="soaking"), found) == []
    assert touched(story.new, canaries, canaries.with_(phase="stopped"), found) == ["pi-0", "pi-1"]


def test_turns_are_the_places_in_order() -> None:
    story = Story()
    waves = turns(story.new, story.fleet)
    assert [name for name, _ in waves] == ["canary", "50%", "all"]
    assert [len(names) for _, names in waves] == [2, 2, 4]
    there = [place(story.new, story.fleet.devices[n]) for _, names in waves for n in names]
    assert there == sorted(there)


def test_the_end_wins_where_two_write_the_same_revision() -> None:
    story = Story()
    (first,) = story.roll()
    topic = TOPICS.rollout(story.new.id)
    stopped = first.rollout.with_(phase="stopped", ended_s=NOW_S)
    for one in (stopped, first.rollout):
        story.fleet.fold(topic, CONTROLLER.sign_rollout(one), NOW_S)
    assert story.state.phase == "stopped"
    after = first.rollout.with_(revision=2)
    story.fleet.fold(topic, CONTROLLER.sign_rollout(after), NOW_S)
    assert story.state == after, "what was written later counts"


def test_an_older_state_that_comes_late_changes_nothing() -> None:
    story = Story()
    (first,) = story.roll()
    story.settle()
    story.roll()
    topic, late = TOPICS.rollout(story.new.id), CONTROLLER.sign_rollout(first.rollout)
    assert story.fleet.fold(topic, late, NOW_S) is None
    assert story.fleet.fold(topic, late, NOW_S, retained=True) is not None
    assert isinstance(story.fleet, Fleet)
