"""What happens next in a rollout. Pure: the devices' standing and the time in, the new state out.

It holds nothing between two calls but the state that the broker retains. A rollout that has ended
stays as it is: only a new deployment begins again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor

from controller.rollouts.drift import Drift
from controller.rollouts.waves import ENDED, batch, goal, is_held, wave_names
from protocols.desired import Deployment
from protocols.rollout import MAX_BASELINES, MAX_FINDINGS, Baseline, Finding, Rollout, Strategy

NO_DRIFT = Drift({})
UNKNOWN = Baseline()

LISTEN_S = 30.0
"""Some times as long as a device is silent between two telemetry messages."""


@dataclass(frozen=True, slots=True)
class Member:
    """A device that a rollout is for, as it stands now.

    Attributes:
        name: of the device.
        place: in (0, 1].
        canary: whether it is one.
        online: whether it is connected.
        runs: whether it runs the bundle.
        heard_s: Unix time of its last telemetry; None: never.
        now: how it is at this moment.
        findings: what the gates say of it, once it was reached.
        slow: whether its p95 is over the limit, be it for a moment.
    """

    name: str
    place: float
    canary: bool = False
    online: bool = True
    runs: bool = False
    heard_s: float | None = None
    now: Baseline = UNKNOWN
    findings: tuple[Finding, ...] = ()
    slow: bool = False


def begin(deployment: Deployment, now_s: float, admitted: float = 0.0) -> Rollout:
    """Return the state of a rollout that begins.

    Args:
        deployment: with a strategy.
        now_s: Unix time.
        admitted: what it had reached, where its state was lost.
    """
    return Rollout(
        fleet=deployment.fleet, deployment=deployment.id, wave_s=now_s, admitted=admitted
    )


def decide(
    deployment: Deployment,
    strategy: Strategy,
    state: Rollout,
    members: Sequence[Member],
    now_s: float,
    drift: Drift = NO_DRIFT,
) -> Rollout:
    """Return the state that follows, the same one if nothing has happened.

    Args:
        deployment: says whether a person holds it, and how many waves are to open at once.
        strategy: the deployment's.
        state: as it is retained.
        members: all devices that it is for, whatever order.
        now_s: Unix time in seconds.
        drift: of the confidences of all devices together.
    """
    state = _let_go(deployment, state)
    if state.phase in ENDED or deployment.aborted or is_held(state):
        return state
    state = _not_ahead(state, now_s)
    reached = [m for m in members if m.place <= state.admitted]
    bad = {m.name for m in reached if m.findings}
    if drift.finding is not None or len(bad) > _tolerated(strategy, len(reached)):
        return _ended(state, "stopped", reached, now_s, drift.finding)
    baselines = _marked(state.baselines, reached, now_s)
    state = state.with_(confidences=dict(drift.windows), baselines=baselines)
    if deployment.paused:
        return state.with_(phase="paused")
    state = _promoted(deployment, strategy, state, now_s)
    canaries = sum(m.canary for m in members)
    missing = goal(strategy, state.wave, len(members), canaries) - len(reached)
    if missing > 0:
        return _reach(strategy, state, members, missing, now_s)
    if not any(m.runs and m.online for m in reached) or not all(
        m.runs for m in reached if m.online and m.name not in bad
    ):
        return state.with_(phase="soaking" if state.soaking_s is not None else "reaching")
    return _soak(strategy, state, reached, now_s)


def _let_go(deployment: Deployment, state: Rollout) -> Rollout:
    """Return the state, which waits for a person's word no more if there was one since."""
    if not is_held(state) or deployment.promoted <= state.promoted:
        return state
    return state.with_(phase="reaching", promoted=deployment.promoted, findings=())


def _tolerated(strategy: Strategy, reached: int) -> int:
    """Return how many devices may be unhealthy; 0.29 * 100 is a little less than 29."""
    return floor(strategy.gates.unhealthy * reached + 1e-9)


def _marked(
    baselines: dict[str, Baseline], reached: Sequence[Member], now_s: float
) -> dict[str, Baseline]:
    """Return the baselines with the moment from which each device is slow."""
    slow = {m.name: m.slow for m in reached}
    return {
        name: one.with_(slow_s=now_s if slow[name] else None)
        if name in slow and slow[name] is not (one.slow_s is not None)
        else one
        for name, one in baselines.items()
    }


def _not_ahead(state: Rollout, now_s: float) -> Rollout:
    """Return the state as if another controller's clock had not been ahead of ours."""
    ahead = {
        name: now_s
        for name in ("admitted_s", "wave_s", "soaking_s")
        if (then_s := getattr(state, name)) is not None and then_s > now_s
    }
    return state.with_(**ahead) if ahead else state


def _promoted(deployment: Deployment, strategy: Strategy, state: Rollout, now_s: float) -> Rollout:
    """Open the waves that a person has opened; there is nothing behind the last one."""
    last = len(wave_names(strategy)) - 1
    for _ in range(max(0, deployment.promoted - state.promoted)):
        if state.wave < last:
            state = _open(state, now_s)
    return state.with_(promoted=max(state.promoted, deployment.promoted))


def _open(state: Rollout, now_s: float) -> Rollout:
    return state.with_(wave=state.wave + 1, wave_s=now_s, soaking_s=None, phase="reaching")


def _reach(
    strategy: Strategy, state: Rollout, members: Sequence[Member], missing: int, now_s: float
) -> Rollout:
    """Reach as many more devices as the rate allows, in the order of their places."""
    state = state.with_(phase="reaching")
    size, every_s = batch(strategy)
    if state.admitted_s is not None and now_s - state.admitted_s < every_s:
        return state
    waiting = sorted((m for m in members if m.place > state.admitted), key=lambda m: m.place)
    turn = waiting[: min(size, missing)]
    if _listens(state, turn, now_s):
        return state
    baselines = _remembered(state.baselines, {m.name: m.now for m in turn})
    return state.with_(admitted=turn[-1].place, admitted_s=now_s, baselines=baselines)


def _listens(state: Rollout, turn: Sequence[Member], now_s: float) -> bool:
    """Whether to wait for a word from those whose turn it is.

    A controller that has just started has heard of none, and could not compare them with how they
    were. Who says nothing at all does not hold the others up for long.
    """
    since_s = max(state.wave_s, state.admitted_s or 0.0)
    unheard = any(m.online and m.heard_s is None for m in turn)
    return unheard and now_s - since_s < LISTEN_S


def _remembered(before: dict[str, Baseline], new: dict[str, Baseline]) -> dict[str, Baseline]:
    """Return the baselines with new ones; of too many the oldest go."""
    both = {**{name: one for name, one in before.items() if name not in new}, **new}
    return dict(list(both.items())[-MAX_BASELINES:])


def _soak(strategy: Strategy, state: Rollout, reached: Sequence[Member], now_s: float) -> Rollout:
    """Begin to soak, go on with it, or open the next wave once it is over."""
    if state.soaking_s is None:
        levels = {m.name: m.now.battery_percent for m in reached}
        baselines = {
            name: one.with_(battery_percent=levels.get(name, one.battery_percent))
            for name, one in state.baselines.items()
        }
        return state.with_(phase="soaking", soaking_s=now_s, baselines=baselines)
    soaked_s, state = now_s - state.soaking_s, state.with_(phase="soaking")
    # One that is gone says no more of whether it is still slow.
    slow = any(m.slow and m.online and not m.findings for m in reached)
    undecided = slow or _unheard(state, reached)
    if soaked_s < strategy.soak_s or undecided:
        return state
    if state.wave < len(wave_names(strategy)) - 1:
        return _open(state, now_s)
    return _ended(state.with_(admitted=1.0), "completed", reached, now_s)


def _unheard(state: Rollout, reached: Sequence[Member]) -> list[str]:
    """Return the devices that have said nothing while they soaked: silence is no good news.

    A controller that has just started has heard of none: it must not open a wave for that.
    """
    since_s = state.soaking_s or 0.0
    return [
        m.name
        for m in reached
        if m.online and m.runs and (m.heard_s is None or m.heard_s < since_s)
    ]


def _ended(
    state: Rollout,
    phase: str,
    reached: Sequence[Member],
    now_s: float,
    finding: Finding | None = None,
) -> Rollout:
    findings = [finding] if finding is not None else []
    findings += [one for m in sorted(reached, key=lambda m: m.name) for one in m.findings]
    return state.with_(
        phase=phase,
        ended_s=now_s,
        baselines={},
        confidences={},
        findings=tuple(findings[:MAX_FINDINGS]),
        unhealthy=sum(bool(m.findings) for m in reached),
        reached=len(reached),
    )
