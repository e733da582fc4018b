"""The outer loop: what each device should have, from what all of them say. Pure.

The planner keeps nothing between two calls: what it decided before stands in the retained desired
documents, and its dwell times run from their `ts`. So a restart loses nothing, and of two
controllers that plan the same device both come to the same.

The inner loop reacts in seconds and takes all of it back by itself. The planner waits for minutes
(`PlannerPolicy`), so that it only takes over where the reflex alone has not helped, and gives back
only after a calm that is many times as long as the reflex needs to recover.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from controller.election import electorate, owner
from controller.errors import FitError
from controller.fit import Form, forms, model_budget_mib, row_of
from controller.fleet import Device, Fleet, RungHistory
from controller.progress import means, reaches
from controller.rollouts.waves import has_bundle, is_under_way
from controller.schedules.compile import Compiled, compile_cascade
from controller.standing import enrolment_to_bind, why_stranger
from controller.steps import CannotFit, NotPlanned, PutDesired, Step
from protocols.bundle import Bundle
from protocols.desired import Deployment, Desired, DesiredCascade, Pins
from protocols.enrolment import Enrolment
from protocols.rollout import Rollout
from protocols.schedule import CascadeSchedule, Schedule, Wishes

_REASON_CHARACTERS = 512

Key = str
"""The SHA-256 of a bundle's envelope."""


@dataclass(frozen=True, slots=True)
class PlannerPolicy:
    """How patient the outer loop is."""

    revise_after_s: float = 300.0
    """Pressure must last so long, and so long must have passed since the last word to a device."""
    restore_after_s: float = 1800.0
    """Memory must have been calm for so long before a device gets a model back."""
    restore_threads_after_s: float = 600.0
    """The CPU must have been calm for so long before a device gets threads back: that loads no
    other model, and what was given too soon is taken again after `revise_after_s`."""
    high_rung: int = 2
    """This rung or a worse one is pressure."""
    calm_rung: int = 0
    """This rung or a better one is calm."""
    stale_s: float = 60.0
    """What a device said longer ago decides nothing."""
    expire_after_s: float | None = None
    """A device must not accept a document that is older than this; None: it never expires."""
    spare_percent: float = 25.0
    """Memory that must stay available when something is given back: the default line of R1."""


@dataclass(frozen=True, slots=True)
class _Moves:
    """What sustained pressure, or calm, asks for: +1 less, -1 more, 0 as it is; and why."""

    memory: int = 0
    threads: int = 0
    memory_cause: str = ""
    threads_cause: str = ""


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A cascade that is to run on a device: its ladder of forms and where on it we stand."""

    deployment: Deployment
    bundle: Bundle
    forms: tuple[Form, ...]
    at: int

    @property
    def form(self) -> Form:
        return self.forms[self.at]

    def moved(self, by: int) -> "_Candidate":
        return _Candidate(self.deployment, self.bundle, self.forms, self.at + by)

    def change_mib(self, by: int) -> float:
        """How much a move changes the need; 0 where there is no such form."""
        there = self.at + by
        if not 0 <= there < len(self.forms):
            return 0.0
        return self.forms[there].resident_mib - self.form.resident_mib


def plan(
    fleet: Fleet,
    bundles: Mapping[Key, Bundle],
    now_s: float,
    me: str,
    policy: PlannerPolicy = PlannerPolicy(),
    *,
    devices: Iterable[str] | None = None,
) -> list[Step]:
    """Return the steps that bring the devices to what the deployments want.

    Args:
        fleet: all that is known.
        bundles: the verified bundles, by the SHA-256 of their envelopes; a cascade whose bundle is
            not among them stays as it is.
        now_s: Unix time in seconds.
        me: this controller's name; devices of others are left alone.
        policy: how patient to be.
        devices: only these; None: all.
    """
    voters = electorate(fleet.controllers.values())
    active = sorted(
        (d for d in fleet.deployments.values() if not d.aborted), key=lambda d: (d.order, d.id)
    )
    steps: list[Step] = []
    for name in sorted(fleet.devices if devices is None else devices):
        device = fleet.devices.get(name)
        if device is None or device.inventory is None or owner(voters, name) != me:
            continue
        if not device.member:
            steps += _turn_away(fleet, device)
            continue
        if _is_undecided(active, device, fleet.rollouts):
            continue
        ruling = ruling_deployments(active, device, fleet.rollouts)
        if held := _held(fleet, device, ruling):
            steps.append(held)
            continue
        bind = enrolment_to_bind(fleet.roster.get(name), device.inventory)
        steps += plan_device(
            fleet.topics.fleet, device, ruling, bundles, now_s, policy, enrolment=bind
        )
    return steps


def _turn_away(fleet: Fleet, device: Device) -> list[Step]:
    """Say of a device that has taken another one's name that it is noticed."""
    entry, inventory = fleet.roster.get(device.name), device.inventory
    if device.standing != "stranger" or entry is None or inventory is None:
        return []
    why = why_stranger(entry, inventory, device.desired)
    advice = f"`ctl device accept {device.name}` if it is right"
    return [NotPlanned(device.name, f"cannot plan for {device.name}: {why}; {advice}")]


def _is_undecided(
    active: Sequence[Deployment], device: Device, rollouts: Mapping[str, Rollout]
) -> bool:
    """Whether a device has a bundle of which nobody has said yet how far its rollout has come.

    It is left as it is meanwhile: the state may have been lost.
    """
    return any(
        d.id not in rollouts
        and is_under_way(d, rollouts)
        and means(d, device)
        and has_bundle(device, d)
        for d in active
    )


def _held(fleet: Fleet, device: Device, ruling: Sequence[Deployment]) -> NotPlanned | None:
    """Return why a device is left as it is: what it runs is not stopped for a key's sake."""
    ruled = {deployment.bundle.name for deployment in ruling}
    for one in fleet.void.values():
        name = one.bundle.name
        if one.aborted or name in ruled or not means(one, device):
            continue
        if _present(device, name) is not None:
            return NotPlanned(
                device.name,
                f"cannot plan for {device.name}: it runs {name}, which deployment {one.id} wants, "
                f"and whose key is trusted no more; deploy {name} again",
            )
    return None


def ruling_deployments(
    active: Sequence[Deployment], device: Device, rollouts: Mapping[str, Rollout]
) -> tuple[Deployment, ...]:
    """Return the deployments that rule on a device, one for each cascade name, oldest first.

    Where a rollout has not come yet, or has stopped, the deployment before it rules.

    Args:
        active: those that are not aborted, by rising order.
        device: the device.
        rollouts: by deployment.
    """
    ruling: dict[str, Deployment] = {}
    for deployment in active:
        if reaches(deployment, device, rollouts):
            ruling.pop(deployment.bundle.name, None)
            ruling[deployment.bundle.name] = deployment
    return tuple(ruling.values())


def plan_device(  # noqa: PLR0913 - what a device's document depends on
    fleet: str,
    device: Device,
    ruling: Sequence[Deployment],
    bundles: Mapping[Key, Bundle],
    now_s: float,
    policy: PlannerPolicy,
    *,
    enrolment: Enrolment | None = None,
) -> list[Step]:
    """Return the steps for one device: at most one new desired document, and what cannot fit.

    Earlier deployments get memory first, as the device itself does it. With an `enrolment` the
    document is for that machine alone, and is written even if nothing is deployed: it remembers
    which one was the first.
    """
    candidates, unfit = _candidates(device, ruling, bundles, policy)
    desired = _desired(fleet, device, candidates, ruling, now_s, policy, enrolment)
    return [*unfit, *([PutDesired(desired)] if desired is not None else [])]


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a device's schedule would be if it were written now, with nothing moved.

    Attributes:
        schedule: the lines of its deployments, and the rows of its cascades.
        compiled: the cascades whose rows the compiler has written.
    """

    schedule: Schedule
    compiled: Mapping[str, Compiled]


def outlook(
    device: Device,
    ruling: Sequence[Deployment],
    bundles: Mapping[Key, Bundle],
    policy: PlannerPolicy = PlannerPolicy(),
) -> Outlook:
    """Return what a device's schedule would be now, in the forms and as much shed as it has.

    Args:
        device: as it is known.
        ruling: the deployments that rule there, oldest first.
        bundles: by the SHA-256 of their envelopes; a cascade whose bundle is not among them keeps
            its rows.
        policy: the planner's.
    """
    candidates, _ = _candidates(device, ruling, bundles, policy)
    compiled, _ = _compile(candidates, device, 0)
    return Outlook(_schedule(candidates, ruling, device.desired, compiled), compiled)


def base_schedule(ruling: Sequence[Deployment]) -> Schedule:
    """Return whose lines, dwell times and windows hold on a device: the latest that has some."""
    return next((d.schedule for d in reversed(ruling) if d.schedule is not None), Schedule())


def _candidates(
    device: Device,
    ruling: Sequence[Deployment],
    bundles: Mapping[Key, Bundle],
    policy: PlannerPolicy,
) -> tuple[dict[str, _Candidate | DesiredCascade], list[CannotFit]]:
    """Return what is to run on a device, and what cannot."""
    unfit: list[CannotFit] = []
    candidates: dict[str, _Candidate | DesiredCascade] = {}
    left = model_budget_mib(device)
    for deployment in ruling:
        name = deployment.bundle.name
        bundle = bundles.get(deployment.bundle.artifact.sha256)
        present = _present(device, name)
        try:
            found = None if bundle is None else _candidate(deployment, bundle, device, left, policy)
        except FitError as error:
            unfit.append(CannotFit(device.name, deployment.id, name, str(error)))
            found = None
        if found is not None:
            candidates[name] = found
            left = None if left is None else left - found.forms[0].resident_mib
        elif present is not None:
            candidates[name] = present
    return candidates, unfit


def _candidate(
    deployment: Deployment,
    bundle: Bundle,
    device: Device,
    left_mib: float | None,
    policy: PlannerPolicy,
) -> _Candidate:
    ladder = forms(deployment, bundle, device, left_mib)
    present = _present(device, bundle.name)
    at = next((i for i, form in enumerate(ladder) if present and form.is_of(present)), 0)
    same = present is not None and present.bundle == deployment.bundle
    # A new version starts at its best, unless the device is short of memory at this moment.
    keeps = same or device.residency.rung >= policy.high_rung
    return _Candidate(deployment, bundle, ladder, at if keeps else 0)


def _present(device: Device, cascade: str) -> DesiredCascade | None:
    """Return how the device's desired document has a cascade now."""
    if device.desired is None:
        return None
    return next((c for c in device.desired.cascades if c.bundle.name == cascade), None)


def _desired(  # noqa: PLR0913, PLR0917 - what a device's document depends on
    fleet: str,
    device: Device,
    wanted: Mapping[str, _Candidate | DesiredCascade],
    ruling: Sequence[Deployment],
    now_s: float,
    policy: PlannerPolicy,
    enrolment: Enrolment | None,
) -> Desired | None:
    """Return the document that a device should get; None: what it has says the same already."""
    present = device.desired
    if present is None and not wanted and enrolment is None:
        return None
    pins = _pins(device)
    moves = _moves(device, now_s, policy)
    revised = _revise(wanted, device, moves, policy)
    compiled, shed = _compile(revised, device, moves.threads)
    cascades = tuple(_as_desired(one) for one in revised.values())
    same = present is not None and present.cascades == cascades
    desired = Desired(
        fleet=fleet,
        device=device.name,
        generation=_next_generation(device),
        cascades=cascades,
        schedule=_schedule(revised, ruling, present, compiled),
        pins=pins.pins if pins is not None else (),
        pins_ts=pins.ts if pins is not None else 0.0,
        shed=shed,
        ts=now_s,
        forms_ts=(present.forms_ts or present.ts) if present is not None and same else now_s,
        expires_ts=None if policy.expire_after_s is None else now_s + policy.expire_after_s,
        enrolment=enrolment,
    )
    renewed = _is_lost(device) or is_expiring(device, now_s, policy)
    if present is not None and _content(present) == _content(desired) and not renewed:
        return None
    return desired.with_(reason=_reason(device, desired, moves, compiled)[:_REASON_CHARACTERS])


def _pins(device: Device) -> Pins | None:
    """Return a device's pins: what was pinned later comes first, even if the broker has it no more.

    An older document that is played back, and one that was deleted, is no person's word.
    """
    there, present = device.pins, device.desired
    if present is None or present.pins_ts <= (there.ts if there is not None else 0.0):
        return there
    return Pins(fleet=present.fleet, device=device.name, pins=present.pins, ts=present.pins_ts)


def _as_desired(one: _Candidate | DesiredCascade) -> DesiredCascade:
    if isinstance(one, DesiredCascade):
        return one
    return DesiredCascade(
        bundle=one.deployment.bundle,
        variants=dict(one.form.variants),
        dropped=one.form.dropped,
        sources=one.deployment.sources,
    )


def _content(desired: Desired) -> tuple[object, ...]:
    """Return what a document says, without when and why."""
    return desired.cascades, desired.schedule, desired.pins, desired.enrolment


def _next_generation(device: Device) -> int:
    said = device.desired.generation if device.desired is not None else 0
    accepted = device.reported.generation if device.reported is not None else 0
    return max(said, accepted) + 1


def _is_lost(device: Device) -> bool:
    """Whether the device will never act on its document: it has accepted that generation before.

    It has a later one, or it says that it refused one as old as that (what the broker retains may
    then be an older document than the one that we saw last).
    """
    desired, reported = device.desired, device.reported
    if desired is None or reported is None or reported.generation < desired.generation:
        return False
    refused = reported.refusal.generation if reported.refusal is not None else None
    return reported.generation > desired.generation or (
        refused is not None and refused <= reported.generation
    )


def is_due(device: Device, now_s: float, policy: PlannerPolicy) -> bool:
    """Whether what a device says of its load alone may be reason to plan it again."""
    moves = _moves(device, now_s, policy)
    return bool(moves.memory or moves.threads)


def is_expiring(device: Device, now_s: float, policy: PlannerPolicy) -> bool:
    """Whether a device's document is to be written anew for its end: at half of its life."""
    if device.desired is None:
        return False
    ends_ts, after_s = device.desired.expires_ts, policy.expire_after_s
    if ends_ts is None or after_s is None:
        return (ends_ts is None) != (after_s is None)
    return ends_ts - now_s < after_s / 2


def _moves(device: Device, now_s: float, policy: PlannerPolicy) -> _Moves:
    """Return what the device's pressure asks for, once it and our last word are old enough."""
    if device.desired is None or device.heard_s is None or not device.online:
        return _Moves()
    if now_s - device.heard_s > policy.stale_s:
        return _Moves()
    said_s = _age_s(device.desired.ts, now_s)
    # Threads that come back meanwhile do not put off the models.
    formed_s = _age_s(device.desired.forms_ts or device.desired.ts, now_s)
    for_models = _Restore(policy.restore_after_s, formed_s)
    for_threads = _Restore(policy.restore_threads_after_s, said_s)
    memory, memory_for_s = _move(device.residency, now_s, policy, said_s, for_models)
    threads, threads_for_s = _move(device.compute, now_s, policy, said_s, for_threads)
    return _Moves(
        memory,
        threads,
        f"memory short for {memory_for_s:.0f} s"
        if memory > 0
        else f"memory calm for {memory_for_s:.0f} s",
        f"CPU short for {threads_for_s:.0f} s"
        if threads > 0
        else f"CPU calm for {threads_for_s:.0f} s",
    )


@dataclass(frozen=True, slots=True)
class _Restore:
    """A calm must last `after_s`, and so long must the last change have been ago: `since_s`."""

    after_s: float
    since_s: float


def _move(
    history: RungHistory, now_s: float, policy: PlannerPolicy, said_s: float, restore: _Restore
) -> tuple[int, float]:
    """Return the direction and for how long its reason has held."""
    if said_s < policy.revise_after_s:
        return 0, 0.0
    high_s = history.at_least_s(policy.high_rung, now_s)
    if high_s >= policy.revise_after_s:
        return 1, high_s
    calm_s = history.at_most_s(policy.calm_rung, now_s)
    if min(calm_s, restore.since_s) >= restore.after_s:
        return -1, calm_s
    return 0, 0.0


def _age_s(ts: float, now_s: float) -> float:
    """Return how old something is; what is from the future (another controller's clock) is old."""
    return now_s - ts if ts <= now_s else math.inf


def _revise(
    wanted: Mapping[str, _Candidate | DesiredCascade],
    device: Device,
    moves: _Moves,
    policy: PlannerPolicy,
) -> dict[str, _Candidate | DesiredCascade]:
    """Move one cascade by one form: down the one that saves most, up the one that costs least."""
    revised = dict(wanted)
    changes = [
        (name, one, one.change_mib(moves.memory))
        for name, one in wanted.items()
        if isinstance(one, _Candidate) and moves.memory and one.change_mib(moves.memory)
    ]
    if not changes:
        return revised
    name, one, change_mib = min(changes, key=lambda found: found[2])
    if change_mib < 0 or _has_room(device, change_mib, policy):
        revised[name] = one.moved(moves.memory)
    return revised


def _has_room(device: Device, more_mib: float, policy: PlannerPolicy) -> bool:
    """Whether the device can take so much more and stays clear of the first rung."""
    sample = device.telemetry.sample if device.telemetry is not None else None
    if sample is None or sample.memory_available_mib is None or sample.memory_total_mib is None:
        return False
    spare_mib = sample.memory_total_mib * policy.spare_percent / 100
    return sample.memory_available_mib - more_mib >= spare_mib


def _compile(
    cascades: Mapping[str, _Candidate | DesiredCascade], device: Device, move: int
) -> tuple[dict[str, Compiled], int]:
    """Return the rows of every cascade that nobody has written any for, and how much is shed.

    What was shed before stands in the desired document that the device has.
    """
    before = device.desired.shed if device.desired is not None else 0
    mine = {n: c for n, c in cascades.items() if isinstance(c, _Candidate) and not _is_given(c)}
    most = max((_compiled(one, device, 0).most_shed for one in mine.values()), default=0)
    shed = min(max(before + move, 0), most)
    return {name: _compiled(one, device, shed) for name, one in mine.items()}, shed


def _compiled(one: _Candidate, device: Device, shed: int) -> Compiled:
    row = row_of(one.deployment, one.bundle)
    wishes = one.deployment.wishes or Wishes()
    return compile_cascade(one.bundle, one.form, device.inventory, row, wishes, shed)


def _is_given(one: _Candidate) -> bool:
    """Whether a person has written the cascade's rows into the deployment."""
    schedule = one.deployment.schedule
    return schedule is not None and one.bundle.name in schedule.cascades


def _schedule(
    cascades: Mapping[str, _Candidate | DesiredCascade],
    ruling: Sequence[Deployment],
    present: Desired | None,
    compiled: Mapping[str, Compiled],
) -> Schedule:
    """Return the device's schedule: lines and dwell of the latest deployment that has some."""
    base = base_schedule(ruling)
    quiet = [window for d in ruling if d.wishes is not None for window in d.wishes.quiet]
    rows: dict[str, CascadeSchedule] = {}
    for name, one in cascades.items():
        if name in compiled:
            rows[name] = compiled[name].rows
        elif isinstance(one, _Candidate):
            rows[name] = row_of(one.deployment, one.bundle)
        elif present is not None and name in present.schedule.cascades:
            rows[name] = present.schedule.cascades[name]
    return base.with_(cascades=rows, windows=tuple(dict.fromkeys([*base.windows, *quiet])))


def _reason(
    device: Device, desired: Desired, moves: _Moves, compiled: Mapping[str, Compiled]
) -> str:
    """Say what is new in a document, and why, for a person."""
    present = device.desired
    before = {c.bundle.name: c for c in present.cascades} if present is not None else {}
    after = {c.bundle.name: c for c in desired.cascades}
    said = [f"{name} is no longer deployed" for name in before if name not in after]
    for name, cascade in after.items():
        said += _reason_of_cascade(before.get(name), cascade, moves)
    said += _reason_of_rows(present, desired, moves, compiled)
    said += _reason_of_shed(present, desired, moves, said)
    if desired.enrolment != (present.enrolment if present is not None else None):
        said.append("it is for the machine that was enrolled" if desired.enrolment else "for any")
    if present is not None and present.pins != desired.pins:
        said.append("pins have changed")
    if _is_lost(device) and device.reported is not None:
        said.append(f"the device had accepted generation {device.reported.generation} before")
    if not said and present is not None and _content(present) == _content(desired):
        said.append("when it expires has changed")
    return "; ".join(said) or "the schedule has changed"


def _reason_of_cascade(
    before: DesiredCascade | None, after: DesiredCascade, moves: _Moves
) -> list[str]:
    name = f"{after.bundle.name}@{after.bundle.version}"
    if before is None:
        return [f"{name} is deployed"]
    if before.bundle != after.bundle:
        return [f"{name} replaces {before.bundle.name}@{before.bundle.version}"]
    cause = f"{moves.memory_cause}: " if moves.memory else ""
    changed = [
        f"{stage} goes from {before.variants[stage]} to {variant}"
        for stage, variant in after.variants.items()
        if before.variants.get(stage, variant) != variant
    ]
    away = [f"{s} is dropped" for s in after.dropped if s not in before.dropped]
    back = [f"{s} comes back" for s in before.dropped if s not in after.dropped]
    return [f"{cause}{', '.join(words)}" for words in [[*changed, *away, *back]] if words]


def _reason_of_rows(
    present: Desired | None, desired: Desired, moves: _Moves, compiled: Mapping[str, Compiled]
) -> list[str]:
    """Say what has changed for the cascades that stay as they are, and which wishes are missed."""
    said = []
    before = present.schedule.cascades if present is not None else {}
    same = {c.bundle.name for c in desired.cascades if present and c in present.cascades}
    for name, after in desired.schedule.cascades.items():
        if name in before and name in same and _what_runs(before[name]) != _what_runs(after):
            said.append(_reason_of_row(name, before[name], after, moves, compiled.get(name)))
    missed = [f"{name} {words}" for name, one in compiled.items() for words in one.missed]
    return [*said, *missed]


def _reason_of_shed(
    present: Desired | None, desired: Desired, moves: _Moves, said: Sequence[str]
) -> list[str]:
    """Say that C0 changed where no cascade's rows tell it: another form has other rows anyway."""
    before = present.shed if present is not None else 0
    told = any(words.startswith(moves.threads_cause) for words in said)
    if desired.shed == before or not moves.threads or told:
        return []
    return [f"{moves.threads_cause}: steps of C0 taken back: {desired.shed}, {before} before"]


def _reason_of_row(
    name: str,
    before: CascadeSchedule,
    after: CascadeSchedule,
    moves: _Moves,
    compiled: Compiled | None,
) -> str:
    was, now = _threads_at_c0(before), _threads_at_c0(after)
    if was != now and moves.threads:
        return f"{moves.threads_cause}: {name} goes from {was} to {now} threads"
    if was != now:
        tuned = compiled is not None and any(c.run is not None for c in compiled.choices.values())
        why = "as the device has measured" if tuned else "for its CPUs"
        return f"{name} goes from {was} to {now} threads, {why}"
    if before.base_threshold != after.base_threshold:
        step = f"{name} begins at step {after.base_threshold} of its thresholds"
        return f"{moves.threads_cause}: {step}" if moves.threads else step
    return f"{name} has new rows"


def _what_runs(row: CascadeSchedule) -> tuple[object, ...]:
    return row.compute, row.base_threshold


def _threads_at_c0(row: CascadeSchedule) -> int:
    return max((stage.threads for stage in row.compute[0].stages.values()), default=1)
