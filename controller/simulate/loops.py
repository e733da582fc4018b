"""Both loops on one device, on a clock that the samples move: governor and planner as they are.

Pure. Whatever closes the loop, a recorded trace or a plant, gives samples and says what fits; this
is the rest: telemetry goes to the planner now and then, and what it writes comes into force.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from controller.errors import FitError
from controller.fleet import Device, fold_device
from controller.planner import PlannerPolicy, is_due, plan_device
from controller.steps import CannotFit, PutDesired
from protocols import governor
from protocols.bundle import Bundle
from protocols.desired import Deployment, Desired
from protocols.device import Rungs, Sample, Telemetry
from protocols.schedule import Schedule
from protocols.topics import TopicName, Topics

TELEMETRY_S = 5.0
"""So often does an agent that is left at its defaults say how it is."""
_EARLY_S = 0.5
"""A recorded sample may come so much sooner than the one before said."""
SWITCH_S = 20.0
"""From a desired document with other models to their serving: fetched, checked and swapped.
Assumed."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A device, and what was deployed to it.

    Attributes:
        device: online, with its inventory; without a desired document.
        ruling: its deployments, at least one, oldest first.
        bundles: of all of them, by the SHA-256 of their envelopes.
    """

    device: Device
    ruling: tuple[Deployment, ...]
    bundles: Mapping[str, Bundle]

    @property
    def fleet(self) -> str:
        """The fleet's name."""
        return self.ruling[0].fleet

    @property
    def cpus(self) -> int | None:
        """How many CPUs its agent may use; None: it has not said."""
        cores = self.device.inventory.cores if self.device.inventory is not None else ()
        return sum(len(group.cpus) for group in cores) or None


def first_desired(subject: Subject, now_s: float, policy: PlannerPolicy) -> Desired:
    """Return what the planner deploys to a device that has nothing yet.

    Args:
        subject: the device.
        now_s: Unix time in seconds.
        policy: how patient the planner is.

    Raises:
        FitError: a cascade cannot run there.
    """
    steps = _plan(subject, subject.device, now_s, policy)
    for step in steps:
        if isinstance(step, CannotFit):
            raise FitError(step.message)
    return next(step.desired for step in steps if isinstance(step, PutDesired))


@dataclass(frozen=True, slots=True)
class Tick:
    """What a sample led to."""

    changes: tuple[governor.Change, ...]
    revision: Desired | None
    """What the planner wrote at this sample; it comes into force at once, or `SWITCH_S` later."""


class Loops:
    """Both loops' state.

    Args:
        subject: the device and its deployments.
        now_s: of the clock that samples go by.
        policy: how patient the planner is.
        epoch_s: Unix time when that clock was at 0.
        stale_s: so far may samples lie apart, whatever the schedule says.
        local_minute: at the start, see `governor.start`.

    Raises:
        FitError: a cascade cannot run there.
    """

    def __init__(
        self,
        subject: Subject,
        now_s: float,
        policy: PlannerPolicy,
        *,
        epoch_s: float = 0.0,
        stale_s: float = 0.0,
        local_minute: int | None = None,
    ) -> None:
        self._subject, self._policy = subject, policy
        self._epoch_s, self._stale_s = epoch_s, stale_s
        self.desired = first_desired(subject, epoch_s + now_s, policy)
        self._device = replace(subject.device, desired=self.desired)
        self._topic = _telemetry_topic(subject)
        self._schedules: tuple[Schedule, Schedule] | None = None
        self._waits: tuple[float, Desired] | None = None
        self._told_s, self._looked_s, self._seq, self._starts = now_s, now_s, 0, 0
        self._state = governor.start(now_s, self.desired.schedule, local_minute)

    @property
    def rungs(self) -> Rungs:
        """Where the device stands."""
        return governor.rungs(self._state)

    def start_again(self, now_s: float, local_minute: int | None = None) -> None:
        """Let the agent have started anew: its governor knows nothing of before."""
        self._starts += 1
        self._state = governor.start(now_s, self.desired.schedule, local_minute)

    def sense(
        self, sample: Sample, fits: Callable[[int], bool], local_minute: int | None = None
    ) -> Tick:
        """Take a sample: the reflex at once, the planner every few seconds.

        Args:
            sample: its time is of our clock.
            fits: whether what a residency rung keeps loaded goes into memory.
            local_minute: see `governor.step`.
        """
        now_s = sample.time_s
        step = governor.step(
            self._state, sample, self._patient(self.desired.schedule), fits, local_minute
        )
        self._state = step.state
        revision = None
        if now_s - self._told_s >= TELEMETRY_S - _EARLY_S:
            self._told_s = now_s
            revision = self._tell(sample)
        if self._waits is not None and now_s >= self._waits[0]:
            self.desired, self._waits = self._waits[1], None
        return Tick(step.changes, revision)

    def _patient(self, schedule: Schedule) -> Schedule:
        """Return a schedule to which samples that come as they do are not all stale."""
        if schedule.dwell.stale_s >= self._stale_s:
            return schedule
        if self._schedules is None or self._schedules[0] is not schedule:
            dwell = schedule.dwell.with_(stale_s=self._stale_s)
            self._schedules = schedule, schedule.with_(dwell=dwell)
        return self._schedules[1]

    def _tell(self, sample: Sample) -> Desired | None:
        """Send telemetry through the controller's fold, and let the planner look at it."""
        self._seq += 1
        now_s = sample.time_s
        now_ts = self._epoch_s + now_s
        telemetry = Telemetry(
            device=self._device.name,
            boot_id=f"b{self._starts}",
            seq=self._seq,
            ts=now_ts,
            uptime_s=now_s,
            sample=sample,
            rungs=self.rungs,
        )
        self._device = fold_device(self._device, self._topic, telemetry.encode(), None, now_ts)
        again_s = self._looked_s + self._policy.revise_after_s / 5  # as the controller's session
        if now_s < again_s or not is_due(self._device, now_ts, self._policy):
            return None
        self._looked_s = now_s
        steps = _plan(self._subject, self._device, now_ts, self._policy)
        written = next((step.desired for step in steps if isinstance(step, PutDesired)), None)
        if written is not None:
            self._write(now_s, written)
        return written

    def _write(self, now_s: float, desired: Desired) -> None:
        same = desired.cascades == self.desired.cascades
        self._device = replace(self._device, desired=desired)
        self._waits = (now_s if same else now_s + SWITCH_S, desired)


def _plan(
    subject: Subject, device: Device, now_s: float, policy: PlannerPolicy
) -> list[PutDesired | CannotFit]:
    steps = plan_device(subject.fleet, device, subject.ruling, subject.bundles, now_s, policy)
    return [step for step in steps if isinstance(step, (PutDesired, CannotFit))]


def _telemetry_topic(subject: Subject) -> TopicName:
    topics = Topics(subject.fleet)
    return topics.parse(topics.device(subject.device.name, "telemetry"))
