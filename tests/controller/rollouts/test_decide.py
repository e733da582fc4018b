"""The rules of a rollout, over fleets and orders of events that nobody thought of."""

from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.rollouts.decide import LISTEN_S, Member, begin, decide
from controller.rollouts.drift import Drift
from controller.rollouts.gates import found
from controller.rollouts.waves import batch, goal, place, wave_names
from protocols.desired import Deployment
from protocols.rollout import Baseline, Finding, Gates, Rollout, Strategy, Wave
from tests.controller.cascades import make_bundle, ref_of
from tests.controller.world import NOW_S, deployment, device, inventory

REF = ref_of(make_bundle())
NAMES = [f"pi-{n}" for n in range(12)]
STRICT = Gates(unhealthy=0.0)
BAD = found("bundle", "x", "rejected: cannot load")

waves = st.lists(
    st.one_of(
        st.builds(Wave, percent=st.sampled_from([5, 25, 50, 100])),
        st.builds(Wave, count=st.integers(1, 8)),
    ),
    max_size=3,
).map(tuple)
strategies = st.builds(
    Strategy,
    canary=st.sampled_from([None, {"ring": "canary"}]),
    waves=waves,
    per_minute=st.none() | st.integers(1, 40),
    soak_s=st.sampled_from([0.0, 5.0, 60.0]),
    gates=st.just(STRICT),
)


@dataclass
class World:
    """A fleet in which every device that is reached runs the bundle a while later."""

    deployment: Deployment
    now_s: float = NOW_S
    state: Rollout | None = None
    members: dict[str, Member] = field(default_factory=dict)
    log: list[tuple[float, int, Rollout]] = field(default_factory=list)

    @property
    def strategy(self) -> Strategy:
        assert self.deployment.strategy is not None
        return self.deployment.strategy

    def join(self, name: str, *, canary: bool = False, online: bool = True) -> None:
        labels = {"ring": "canary"} if canary else {}
        there = place(self.deployment, device(name, inventory=inventory(name, labels=labels)))
        is_canary = canary and self.strategy.canary is not None
        self.members[name] = Member(name, there, is_canary, online, heard_s=self.now_s)

    def change(self, name: str, **changes: object) -> None:
        self.members[name] = replace(self.members[name], **changes)  # type: ignore[arg-type]

    @property
    def reached(self) -> set[str]:
        admitted = self.state.admitted if self.state is not None else 0.0
        return {m.name for m in self.members.values() if m.place <= admitted}

    def step(self, seconds: float = 1.0, *, runs: bool = True) -> Rollout:
        """Let time pass, the devices follow, and the controller decide."""
        self.now_s += seconds
        for name in self.reached if runs else ():
            member = self.members[name]
            if member.online:
                self.change(name, runs=not member.findings, heard_s=self.now_s)
        before = self.state or begin(self.deployment, self.now_s)
        members = list(self.members.values())
        count = len(self.reached)
        self.state = decide(self.deployment, self.strategy, before, members, self.now_s)
        again = decide(self.deployment, self.strategy, before, members[::-1], self.now_s)
        assert again == self.state, "another controller comes to the same"
        self.log.append((self.now_s, len(self.reached) - count, self.state))
        return self.state

    def run(self, most: int = 2000) -> Rollout:
        for _ in range(most):
            if self.step(20.0).phase in {"completed", "stopped"}:
                break
        assert self.state is not None
        return self.state


def world(strategy: Strategy, names: list[str] = NAMES, canaries: int = 2) -> World:
    made = World(deployment(REF, strategy=strategy))
    for number, name in enumerate(names):
        made.join(name, canary=number < canaries)
    return made


@settings(max_examples=40)
@given(strategy=strategies, count=st.integers(1, len(NAMES)))
def test_all_devices_have_it_in_the_end(strategy: Strategy, count: int) -> None:
    found_ = world(strategy, NAMES[:count], canaries=1)
    end = found_.run()
    assert (end.phase, end.admitted) == ("completed", 1.0)
    assert found_.reached == set(NAMES[:count])
    assert end.baselines == {}


@dataclass(frozen=True)
class Act:
    """One thing that happens to a fleet."""

    kind: str
    who: int
    seconds: float


acts = st.lists(
    st.builds(
        Act,
        st.sampled_from(["wait", "leave", "return", "join", "pause", "resume", "promote"]),
        st.integers(0, len(NAMES) - 1),
        st.sampled_from([0.5, 3.0, 30.0, 90.0]),
    ),
    max_size=40,
)


def happen(world_: World, act: Act) -> None:
    name = NAMES[act.who]
    if act.kind == "join" and name not in world_.members:
        world_.join(name, canary=act.who % 3 == 0)
    elif act.kind in {"leave", "return"} and name in world_.members:
        world_.change(name, online=act.kind == "return")
    elif act.kind in {"pause", "resume"}:
        world_.deployment = world_.deployment.with_(paused=act.kind == "pause")
    elif act.kind == "promote":
        world_.deployment = world_.deployment.with_(promoted=world_.deployment.promoted + 1)
    world_.step(act.seconds)


@settings(max_examples=100)
@given(strategy=strategies, story=acts)
def test_whatever_happens(strategy: Strategy, story: list[Act]) -> None:
    found_ = world(strategy, NAMES[:6])
    for act in story:
        before, paused = found_.state, found_.deployment.paused
        happen(found_, act)
        after = found_.state
        assert after is not None
        if before is not None:
            assert after.admitted >= before.admitted, "a running rollout never takes back"
            assert after.wave >= before.wave
        held = paused and act.kind != "resume"
        if before is not None and held and before.phase not in {"completed", "stopped"}:
            assert (after.admitted, after.wave) == (before.admitted, before.wave), "pause holds"
    rate = strategy.per_minute
    if rate is not None:
        for start_s, _, _ in found_.log:
            counted = [n for at_s, n, _ in found_.log if start_s <= at_s < start_s + 60]
            joined = sum(act.kind == "join" for act in story)
            assert sum(counted) <= rate + joined, "who joins at a place reached is reached"


@settings(max_examples=40)
@given(
    strategy=strategies,
    late=st.lists(st.sampled_from(NAMES[6:]), unique=True),
    at=st.integers(0, 30),
)
def test_who_joins_late_has_it_in_the_end(strategy: Strategy, late: list[str], at: int) -> None:
    found_ = world(strategy, NAMES[:6])
    for _ in range(at):
        found_.step(5.0)
    for name in late:
        found_.join(name)
    assert found_.run().phase == "completed"
    assert found_.reached == {*NAMES[:6], *late}


@settings(max_examples=40)
@given(strategy=strategies, victim=st.integers(0, 11), story=acts)
def test_a_stopped_rollout_never_starts_by_itself(
    strategy: Strategy, victim: int, story: list[Act]
) -> None:
    found_ = world(strategy)
    found_.change(NAMES[victim], findings=(BAD,))
    end = found_.run()
    assert end.phase == "stopped"
    assert NAMES[victim] in found_.reached
    assert end.findings == (BAD,)
    assert (end.unhealthy, end.reached) == (1, len(found_.reached))
    found_.change(NAMES[victim], findings=())
    for act in story:
        happen(found_, act)
        assert found_.state == end


@settings(max_examples=40)
@given(strategy=strategies, promotions=st.integers(1, 3))
def test_promote_opens_exactly_one_wave_each(strategy: Strategy, promotions: int) -> None:
    found_ = world(strategy)
    found_.step(runs=False)
    last = len(wave_names(strategy)) - 1
    for number in range(1, promotions + 1):
        found_.deployment = found_.deployment.with_(promoted=number)
        for _ in range(3):
            state = found_.step(runs=False)
            assert (state.wave, state.promoted) == (min(number, last), number)


@settings(max_examples=40)
@given(strategy=strategies)
def test_waves_are_as_large_as_they_should_be(strategy: Strategy) -> None:
    found_ = world(strategy)
    for _ in range(100):
        state = found_.step(20.0)
        if state.phase == "completed":
            break
        assert len(found_.reached) <= goal(strategy, state.wave, len(NAMES), 2)


@given(rate=st.integers(1, 400), offset_s=st.sampled_from([0.1, 0.25, 0.7]))
def test_a_rate_holds_in_every_minute(rate: int, offset_s: float) -> None:
    size, every_s = batch(Strategy(per_minute=rate))
    at_s, batches = -every_s, []
    for tick in range(int(200 / offset_s)):
        if tick * offset_s - at_s >= every_s:
            at_s = tick * offset_s
            batches.append(at_s)
    for start_s in batches:
        assert size * sum(start_s <= at_s < start_s + 60 for at_s in batches) <= rate
    assert size * len(batches) >= rate, "and it is not much less, over 200 s"


def test_canaries_come_first() -> None:
    found_ = world(Strategy(canary={"ring": "canary"}, waves=(Wave(count=1),)))
    assert wave_names(found_.strategy) == ("canary", "1 device", "all")
    found_.step()
    assert found_.reached == {"pi-0", "pi-1"}


def test_the_first_devices_are_others_in_the_next_deployment() -> None:
    first = [
        min(NAMES, key=lambda n: place(deployment(REF, order=order), device(n)))
        for order in range(1, 20)
    ]
    assert len(set(first)) > 3


def soaking(**gates: object) -> World:
    """Return a rollout whose first of two waves, 6 of 12 devices, has just begun to soak."""
    strategy = Strategy(waves=(Wave(percent=50),), soak_s=60.0, gates=Gates.model_validate(gates))
    found_ = world(strategy)
    found_.step()
    assert found_.step().phase == "soaking"
    return found_


def test_offline_devices_do_not_hold_a_wave_up() -> None:
    found_ = world(Strategy(waves=(Wave(percent=50),), soak_s=60.0))
    found_.step(runs=False)
    away = sorted(found_.reached)[:3]
    for name in away:
        found_.change(name, online=False)
    found_.step()
    assert found_.step(61.0).wave == 1
    assert set(away) <= found_.reached


def test_a_wave_that_nobody_is_there_for_waits() -> None:
    found_ = world(Strategy(waves=(Wave(count=1),), soak_s=1.0))
    found_.step(runs=False)
    (canary,) = found_.reached
    found_.change(canary, online=False)
    for _ in range(50):
        assert found_.step(60.0).wave == 0
    found_.change(canary, online=True)
    assert found_.run().phase == "completed"


def test_canaries_that_vanish_after_they_ran_it_open_no_wave() -> None:
    found_ = world(Strategy(canary={"ring": "canary"}, soak_s=5.0))
    found_.step()
    assert found_.step().phase == "soaking"
    for name in found_.reached:
        found_.change(name, online=False)
        assert found_.members[name].runs, "by its last retained word"
    for _ in range(10):
        assert found_.step(60.0).wave == 0


def test_an_unhealthy_share_is_rounded_down_as_people_do() -> None:
    for count in (29, 30):
        found_ = world(
            Strategy(soak_s=0.0, gates=Gates(unhealthy=0.29)), [f"pi-{n}" for n in range(100)]
        )
        for number in range(count):
            found_.change(f"pi-{number}", findings=(BAD,))
        assert found_.run().phase == ("completed" if count == 29 else "stopped")


def test_silence_opens_no_wave() -> None:
    found_ = soaking()
    for name in found_.reached:
        found_.change(name, heard_s=None)
    assert found_.step(1000.0, runs=False).wave == 0
    assert found_.step().wave == 1


def test_few_unhealthy_devices_of_many_are_tolerated_and_said() -> None:
    found_ = soaking(unhealthy=0.2)
    (name, other, *_) = sorted(found_.reached)
    found_.change(name, findings=(BAD,), runs=False)
    end = found_.run()
    assert (end.phase, end.unhealthy, end.findings) == ("completed", 1, (BAD,))
    found_ = soaking(unhealthy=0.2)
    for bad in (name, other):
        found_.change(bad, findings=(BAD,), runs=False)
    assert found_.run().phase == "stopped"


def test_a_gate_stops_a_paused_rollout_too() -> None:
    found_ = soaking()
    found_.deployment = found_.deployment.with_(paused=True)
    assert found_.step().phase == "paused"
    found_.change(min(found_.reached), findings=(BAD,))
    assert found_.step().phase == "stopped"


def test_a_drift_of_all_together_stops_it() -> None:
    found_ = soaking()
    shift = Finding(gate="confidence", message="confidences of small have drifted")
    assert found_.state is not None
    members = list(found_.members.values())
    end = decide(
        found_.deployment, found_.strategy, found_.state, members, NOW_S + 9, Drift({}, shift)
    )
    assert (end.phase, end.findings, end.unhealthy) == ("stopped", (shift,), 0)


def test_a_clock_that_was_ahead_holds_nobody_up() -> None:
    strategy = Strategy(per_minute=1, soak_s=1.0)
    found_ = world(strategy)
    ahead = begin(found_.deployment, NOW_S).with_(admitted_s=NOW_S + 86_400)
    found_.state = ahead
    for _ in range(3):
        found_.step(61.0)
    assert len(found_.reached) == 2


def test_nobody_is_reached_before_it_was_heard_but_silence_does_not_block() -> None:
    found_ = world(Strategy(waves=(Wave(count=1),), soak_s=1.0))
    first = min(found_.members.values(), key=lambda m: m.place).name
    found_.change(first, heard_s=None)
    found_.step()
    assert found_.reached == set()
    found_.change(first, heard_s=found_.now_s)
    found_.step()
    assert found_.reached == {first}
    found_ = world(Strategy(waves=(Wave(count=1),), soak_s=1.0))
    found_.change(first, heard_s=None)
    found_.step()
    found_.step(LISTEN_S)
    assert found_.reached == {first}


def test_a_wave_does_not_end_while_a_device_is_slow() -> None:
    found_ = soaking()
    name = min(found_.reached)
    found_.change(name, slow=True)
    since_s = found_.step().baselines[name].slow_s
    assert since_s == found_.now_s
    state = found_.step(120.0)
    assert (state.wave, state.baselines[name].slow_s) == (0, since_s)
    found_.change(name, slow=False)
    assert found_.step().wave == 1
    found_ = soaking()
    found_.change(min(found_.reached), slow=True, online=False)
    found_.step()
    assert found_.step(120.0).wave == 1, "nobody waits for one that has left"


def test_how_a_device_was_is_remembered() -> None:
    found_ = world(Strategy(waves=(Wave(count=2),), soak_s=60.0))
    for name in NAMES:
        found_.change(name, now=Baseline(p95_ms=20.0, battery_percent=90.0))
    found_.step()
    assert found_.state is not None
    assert set(found_.state.baselines) == found_.reached
    for name in found_.reached:
        found_.change(name, now=Baseline(p95_ms=99.0, battery_percent=80.0))
    state = found_.step()
    assert set(state.baselines.values()) == {Baseline(p95_ms=20.0, battery_percent=80.0)}


def test_no_wave_of_nothing_is_ever_completed() -> None:
    found_ = World(deployment(REF, strategy=Strategy(soak_s=0.0)))
    for _ in range(5):
        assert found_.step(100.0).phase == "reaching"
    found_.join("pi-1")
    assert found_.run().phase == "completed"
