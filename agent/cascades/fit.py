"""Does a cascade fit: its names the bundle's, its needs the device's memory? Pure."""

import math

from agent.cascades.plan import resident_stages
from agent.errors import UnfitError
from protocols.bundle import ArtifactRef, Bundle, Stage
from protocols.desired import Desired, DesiredCascade
from protocols.device import Sample
from protocols.memory import RUNNER_MIB

_FLOOR_PERCENT = 8.0
"""MemAvailable that must be left beside two runners: the default line of R4."""


def artifacts_of(wanted: DesiredCascade, bundle: Bundle) -> tuple[ArtifactRef, ...]:
    """Return what a device must have to run it: its variants' models and the golden samples."""
    models = [
        variant.artifact
        for stage in bundle.stages
        if stage.name not in wanted.dropped
        for variant in stage.variants
        if variant.name == wanted.variants[stage.name]
    ]
    return tuple(dict.fromkeys([*models, bundle.golden.artifact]))


def check_names(wanted: DesiredCascade, bundle: Bundle) -> None:
    """Check that a desired cascade speaks of this bundle.

    Raises:
        UnfitError: it does not.
    """
    ref = wanted.bundle
    if (bundle.name, bundle.version) != (ref.name, ref.version):
        raise UnfitError(
            f"cannot run {ref.name} {ref.version}: its artifact {ref.artifact.sha256[:12]} is the "
            f"bundle of {bundle.name} {bundle.version}"
        )
    for stage in bundle.stages:
        chosen = wanted.variants.get(stage.name)
        names = [variant.name for variant in stage.variants]
        if chosen not in names and stage.name not in wanted.dropped:
            raise UnfitError(
                f"cannot run {ref.name}: stage {stage.name} has no variant {chosen!r}, only "
                f"{', '.join(names)}"
            )
    known = {stage.name for stage in bundle.stages}
    if unknown := {*wanted.variants, *wanted.dropped} - known:
        raise UnfitError(
            f"cannot run {ref.name}: it has no stage {min(unknown)!r}, only "
            f"{', '.join(sorted(known))}"
        )


def needed_mib(desired: Desired, wanted: DesiredCascade, bundle: Bundle, residency: int) -> float:
    """Return the MiB that the stages resident at a rung take, as measured where they were added."""
    resident = resident_stages(desired, wanted, bundle, residency)
    return sum(load_mib(wanted, stage) for stage in bundle.stages if stage.name in resident)


def load_mib(wanted: DesiredCascade, stage: Stage) -> float:
    """Return the MiB that loading a stage's chosen variant adds."""
    return next(
        (v.needs.load_mib for v in stage.variants if v.name == wanted.variants.get(stage.name)), 0.0
    )


def check_fit(
    desired: Desired, wanted: DesiredCascade, bundle: Bundle, budget_mib: float | None
) -> None:
    """Check that a cascade's resident stages go into the memory that models may have.

    Its first stage must always be loadable, and all that is resident at R0 together.

    Raises:
        UnfitError: they do not.
    """
    if budget_mib is None:
        return
    first = 0.0 if bundle.stages[0].name in wanted.dropped else load_mib(wanted, bundle.stages[0])
    needs = max(first, needed_mib(desired, wanted, bundle, 0))
    if needs > budget_mib:
        raise UnfitError(
            f"cannot run {bundle.name}: the stages that must be resident need "
            f"{math.ceil(needs)} MiB, this device has {math.floor(max(0.0, budget_mib))} MiB for "
            f"them; {_advice(wanted, bundle)}"
        )


def _advice(wanted: DesiredCascade, bundle: Bundle) -> str:
    """Name the smaller variant that saves the most."""
    savings = [
        (load_mib(wanted, stage) - variant.needs.load_mib, stage.name, variant.name)
        for stage in bundle.stages
        if stage.name not in wanted.dropped
        for variant in stage.variants
    ]
    saved, stage, variant = max(savings, default=(0.0, "", ""))
    if saved > 0:
        return f"try --variant {stage}={variant}"
    return "no smaller variant is in the bundle: add one with `ctl model quantize`"


def is_roomy(sample: Sample, need_mib: float) -> bool:
    """Whether a second runner that takes so much goes beside the one that serves."""
    total, available = sample.memory_total_mib, sample.memory_available_mib
    if total is None or available is None:
        return True
    return available - need_mib - RUNNER_MIB > total * _FLOOR_PERCENT / 100
