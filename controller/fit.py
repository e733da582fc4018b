"""Which forms of a cascade a device can have, best first: for the planner and `ctl plan`. Pure.

A form is one variant for each stage, and the stages that stay away altogether. The forms of a
cascade on a device are a ladder of strictly falling memory: the planner starts at its top and goes
down when memory stays short. Where stages are gated, only choices of variants that were calibrated
together are forms, because a threshold holds for no other.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from controller.errors import FitError
from controller.fleet import Device
from protocols.bundle import Bundle, Stage, Variant
from protocols.desired import Deployment, DesiredCascade, StagePin
from protocols.memory import inventory_budget_mib
from protocols.schedule import CascadeSchedule


@dataclass(frozen=True, slots=True)
class Form:
    """One way to have a cascade on a device."""

    variants: tuple[tuple[str, str], ...]
    """(stage, variant) of every stage, in order."""
    dropped: tuple[str, ...]
    """Stages that stay away, in order."""
    resident_mib: float
    """What its stages need at R0."""

    def is_of(self, wanted: DesiredCascade) -> bool:
        """Whether a desired document has the cascade in this form."""
        return dict(self.variants) == wanted.variants and self.dropped == wanted.dropped


@dataclass(frozen=True, slots=True)
class CascadePreview:
    """What a deployment means for one device, before anything is sent."""

    device: str
    form: Form
    send_bytes: int
    """What the device has to fetch, if it has nothing of this bundle yet."""
    peak_mib: tuple[float, ...]
    """Memory of the models at R0 to R4, at most."""
    answer_ms: float | None
    """Expected time of an answer, one thread, where the models were added; None: not known."""


def model_budget_mib(device: Device) -> float | None:
    """Return the MiB that models may have on a device; None: it has not said."""
    return inventory_budget_mib(device.inventory) if device.inventory is not None else None


def check_fit(deployment: Deployment, bundle: Bundle, device: Device) -> None:
    """Check that a deployment could run on a device by itself.

    Raises:
        FitError: it could not.
    """
    if device.inventory is not None:
        forms(deployment, bundle, device, model_budget_mib(device))


def forms(
    deployment: Deployment, bundle: Bundle, device: Device, budget_mib: float | None
) -> tuple[Form, ...]:
    """Return the forms that a device can have, best first, each smaller than the one before.

    Args:
        deployment: says which variants a person insists on, and which schedule.
        bundle: of the deployment.
        device: with its inventory.
        budget_mib: what is left for this cascade; None: not known.

    Raises:
        FitError: there is none.
    """
    where = f"cannot run {bundle.name}@{bundle.version} on {device.name}"
    if device.inventory is not None and device.inventory.runtime is None:
        raise FitError(f"{where}: it has no interpreter; install ai-edge-litert there")
    _check_insisted(where, bundle, deployment.variants)
    stages = _runnable(where, bundle, deployment.variants, device)
    schedule = row_of(deployment, bundle)
    pins = device.pins.pins if device.pins is not None else ()
    whole = [
        _form(bundle, choice, (), schedule, pins)
        for choice in _choices(bundle, stages, deployment, where)
    ]
    room = math.inf if budget_mib is None else max(0.0, budget_mib)
    ladder = _falling(form for form in whole if form.resident_mib <= room)
    if not ladder:
        raise FitError(_too_big(where, whole, room))
    last = dict(ladder[-1].variants)
    less = (_form(bundle, last, dropped, schedule, pins) for dropped in _droppable(bundle))
    return _falling([*ladder, *less])


def row_of(deployment: Deployment, bundle: Bundle) -> CascadeSchedule:
    """Return the cascade's rows: the deployment's own, else the bundle's."""
    given = deployment.schedule.cascades.get(bundle.name) if deployment.schedule else None
    return given or bundle.schedule


def preview(
    deployment: Deployment, bundle: Bundle, device: Device, budget_mib: float | None
) -> CascadePreview:
    """Return what a deployment means for one device.

    Raises:
        FitError: it cannot run there.
    """
    form = forms(deployment, bundle, device, budget_mib)[0]
    variants = chosen(bundle, form)
    models = {v.artifact.sha256: v.artifact for v in variants.values()}
    golden = bundle.golden.artifact
    models[golden.sha256] = golden
    return CascadePreview(
        device=device.name,
        form=form,
        send_bytes=deployment.bundle.artifact.size_bytes
        + sum(ref.size_bytes for ref in models.values()),
        peak_mib=tuple(
            _peak_mib(row.resident, row.on_demand, variants, one_at_a_time=row.one_at_a_time)
            for row in row_of(deployment, bundle).residency
        ),
        answer_ms=_answer_ms(bundle, form, variants, row_of(deployment, bundle).base_threshold),
    )


def chosen(bundle: Bundle, form: Form) -> dict[str, Variant]:
    """Return the variant of every stage that a form does not drop."""
    names = dict(form.variants)
    return {
        stage.name: variant_of(stage, names[stage.name])
        for stage in bundle.stages
        if stage.name not in form.dropped
    }


def variant_of(stage: Stage, name: str) -> Variant:
    """Return a stage's variant by name.

    Raises:
        FitError: it has none of that name.
    """
    for variant in stage.variants:
        if variant.name == name:
            return variant
    known = ", ".join(v.name for v in stage.variants)
    raise FitError(f"cannot use stage {stage.name} as {name!r}: its variants are {known}")


def _check_insisted(where: str, bundle: Bundle, insisted: Mapping[str, str]) -> None:
    stages = {stage.name: stage for stage in bundle.stages}
    for stage, variant in insisted.items():
        if stage not in stages:
            raise FitError(f"{where}: it has no stage {stage!r}, only {', '.join(stages)}")
        try:
            variant_of(stages[stage], variant)
        except FitError as error:
            raise FitError(f"{where}: {error}") from error


def _runnable(
    where: str, bundle: Bundle, insisted: Mapping[str, str], device: Device
) -> tuple[Stage, ...]:
    """Return the stages with those variants alone that the device's interpreter answers right with.

    Raises:
        FitError: a stage has none, or a person insists on another.
    """
    runtime = device.inventory.runtime if device.inventory is not None else None
    if runtime is None:
        return bundle.stages
    stages = []
    for stage in bundle.stages:
        wanted = [v for v in stage.variants if insisted.get(stage.name, v.name) == v.name]
        if not any(variant.runs_in(runtime) for variant in wanted):
            needed = ", ".join(dict.fromkeys(name for v in wanted for name in v.runtimes))
            names = ", ".join(variant.name for variant in wanted)
            raise FitError(
                f"{where}: stage {stage.name} as {names} needs {needed}, it has {runtime}; "
                "give the stage another variant, for example int8"
            )
        kept = tuple(variant for variant in stage.variants if variant.runs_in(runtime))
        stages.append(stage.with_(variants=kept))
    return tuple(stages)


def _choices(
    bundle: Bundle, stages: Sequence[Stage], deployment: Deployment, where: str
) -> list[dict[str, str]]:
    """Return the choices of variants, best first: by the sum of their places in the manifest."""
    insisted = deployment.variants
    can_run = {stage.name: {variant.name for variant in stage.variants} for stage in stages}
    fixed = [c.variants for c in bundle.certificates] if _is_gated(bundle) else []
    allowed = [
        calibrated
        for calibrated in fixed
        if all(insisted.get(stage, variant) == variant for stage, variant in calibrated.items())
    ]
    if fixed and not allowed:
        asked = ", ".join(f"{s}={v}" for s, v in insisted.items())
        known = "; ".join(", ".join(f"{s}={v}" for s, v in one.items()) for one in fixed)
        raise FitError(
            f"{where}: no gate was calibrated for {asked}; calibrated together are: {known}"
        )
    running = [one for one in allowed if all(v in can_run[s] for s, v in one.items())]
    if allowed and not running:
        raise FitError(
            f"{where}: its interpreter answers right with no variants that were calibrated "
            "together; build the cascade with variants in int8"
        )
    chains = [_chain(stages, {**insisted, **one}) for one in running or [{}]]
    unique = {tuple(choice.items()): choice for chain in chains for choice in chain}
    return sorted(unique.values(), key=lambda choice: _place(bundle, choice))


def _is_gated(bundle: Bundle) -> bool:
    return any(stage.metric is not None for stage in bundle.stages[:-1])


def _place(bundle: Bundle, choice: Mapping[str, str]) -> tuple[int, tuple[int, ...]]:
    places = tuple(
        [variant.name for variant in stage.variants].index(choice[stage.name])
        for stage in bundle.stages
    )
    return sum(places), places


def _chain(stages: Sequence[Stage], fixed: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Yield choices with these variants fixed, the others first at their best, then smaller.

    What shrinks next is the free stage that takes most: 16 stages of 16 variants have too many
    combinations to try them all.
    """
    choice = {stage.name: fixed.get(stage.name, stage.variants[0].name) for stage in stages}
    while True:
        yield choice
        smaller = [
            (variant_of(stage, choice[stage.name]).needs.load_mib, stage.name, following)
            for stage in stages
            if stage.name not in fixed and (following := _smaller(stage, choice[stage.name]))
        ]
        if not smaller:
            return
        _, name, following = max(smaller, key=lambda found: found[0])
        choice = {**choice, name: following}


def _smaller(stage: Stage, name: str) -> str | None:
    """Return the next variant in the manifest that takes less memory than this one."""
    names = [variant.name for variant in stage.variants]
    now_mib = variant_of(stage, name).needs.load_mib
    for variant in stage.variants[names.index(name) + 1 :]:
        if variant.needs.load_mib < now_mib:
            return variant.name
    return None


def _droppable(bundle: Bundle) -> Iterator[tuple[str, ...]]:
    """Yield what may stay away, the last stage first: as long as a gated stage can answer."""
    for first in range(len(bundle.stages) - 1, 0, -1):
        if bundle.stages[first - 1].metric is None:
            return
        yield tuple(stage.name for stage in bundle.stages[first:])


def _form(
    bundle: Bundle,
    choice: Mapping[str, str],
    dropped: tuple[str, ...],
    schedule: CascadeSchedule,
    pins: Sequence[StagePin],
) -> Form:
    """Weigh a choice: what is resident at R0, and never less than the first stage alone."""
    resident = set(schedule.residency[0].resident)
    for pin in pins:
        if pin.cascade == bundle.name and pin.loaded is not None:
            (resident.add if pin.loaded else resident.discard)(pin.stage)
    resident -= set(dropped)
    loads = {s.name: variant_of(s, choice[s.name]).needs.load_mib for s in bundle.stages}
    first = bundle.stages[0].name
    return Form(
        variants=tuple((stage.name, choice[stage.name]) for stage in bundle.stages),
        dropped=dropped,
        resident_mib=max(loads[first], sum(loads[s] for s in loads if s in resident)),
    )


def _falling(found: Iterator[Form] | Sequence[Form]) -> tuple[Form, ...]:
    """Keep each form that takes less than all those before it."""
    kept: list[Form] = []
    for form in found:
        if not kept or form.resident_mib < kept[-1].resident_mib:
            kept.append(form)
    return tuple(kept)


def _too_big(where: str, whole: Sequence[Form], room_mib: float) -> str:
    smallest = min(whole, key=lambda form: form.resident_mib)
    names = ", ".join(f"{stage}={variant}" for stage, variant in smallest.variants)
    return (
        f"{where}: its smallest form ({names}) needs {math.ceil(smallest.resident_mib)} MiB, "
        f"{math.floor(room_mib)} MiB are for models there; add a smaller variant "
        "(`ctl model quantize`)"
    )


def _peak_mib(
    resident: Collection[str],
    on_demand: Collection[str],
    variants: Mapping[str, Variant],
    *,
    one_at_a_time: bool,
) -> float:
    kept = [v.needs.load_mib for stage, v in variants.items() if stage in resident]
    come = [v.needs.load_mib for stage, v in variants.items() if stage in on_demand]
    if one_at_a_time:
        return max([*kept, *come], default=0.0)
    return sum(kept) + sum(come)


def _answer_ms(
    bundle: Bundle, form: Form, variants: Mapping[str, Variant], base_threshold: int
) -> float | None:
    """Return the sum of the stages' times, each by the share of requests that gets so far."""
    certificate = bundle.certificate(dict(form.variants))
    share, total = 1.0, 0.0
    for stage in bundle.stages:
        if stage.name not in variants:
            break
        total += share * variants[stage.name].needs.answer_ms
        gate = certificate.gates.get(stage.name) if certificate is not None else None
        if stage.metric is not None and stage is not bundle.stages[-1]:
            if not gate:
                return None
            # Each gate's `escalated` is of all the samples, so it is the share that goes on.
            share = gate[min(base_threshold, len(gate) - 1)].escalated
    return total
