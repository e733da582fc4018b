"""What a device holds and may use at its rungs, by its desired document and the bundles. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from controller.fit import variant_of
from protocols.bundle import Bundle
from protocols.desired import Desired, DesiredCascade
from protocols.device import Rungs
from protocols.memory import rung_mib
from protocols.schedule import WORST, ComputeRung, ResidencyRung


@dataclass(frozen=True, slots=True)
class Holding:
    """Memory and threads at one place of both ladders.

    Attributes:
        resident_mib: of the stages that stay loaded.
        most_mib: with those that requests may bring in besides.
        threads: by `cascade/stage` what a request may use there; 0: the stage is away, or paused.
    """

    resident_mib: float
    most_mib: float
    threads: Mapping[str, int]


def sizes_mib(wanted: DesiredCascade, bundle: Bundle) -> dict[str, float]:
    """Return what loading each stage that is on the device adds, as measured where it was added."""
    return {
        stage.name: variant_of(stage, wanted.variants[stage.name]).needs.load_mib
        for stage in bundle.stages
        if stage.name not in wanted.dropped
    }


def holding(
    desired: Desired, bundles: Mapping[str, Bundle], rungs: Rungs, cpus: int | None = None
) -> Holding:
    """Return what a device holds at its rungs.

    Args:
        desired: with rows for each of its cascades.
        bundles: of all of them, by the SHA-256 of their envelopes.
        rungs: where it stands.
        cpus: that it has: a stage never has more threads; None: not known.
    """
    resident_mib = most_mib = 0.0
    threads: dict[str, int] = {}
    for wanted in desired.cascades:
        rows = desired.schedule.cascades[wanted.bundle.name]
        row, compute = rows.residency[rungs.residency], rows.compute[rungs.compute]
        sizes = sizes_mib(wanted, bundles[wanted.bundle.artifact.sha256])
        kept = _kept(row, sizes, rungs.residency)
        resident_mib += sum(sizes[stage] for stage in kept)
        if rungs.residency < WORST:
            most_mib += sum(sizes[stage] for stage in kept) + rung_mib(row, sizes, kept)
        is_paused = compute.paused or WORST in {rungs.residency, rungs.compute}
        for stage in wanted.variants:
            usable = stage in sizes and stage in {*row.resident, *row.on_demand} and not is_paused
            threads[f"{wanted.bundle.name}/{stage}"] = (
                _threads(compute, stage, cpus) if usable else 0
            )
    return Holding(resident_mib, most_mib, threads)


def fits_mib(
    desired: Desired, bundles: Mapping[str, Bundle], rungs: Rungs, residency: int
) -> float:
    """Return the MiB that another residency rung may load beyond what stays loaded now."""
    need_mib = 0.0
    for wanted in desired.cascades:
        rows = desired.schedule.cascades[wanted.bundle.name].residency
        sizes = sizes_mib(wanted, bundles[wanted.bundle.artifact.sha256])
        loaded = _kept(rows[rungs.residency], sizes, rungs.residency)
        need_mib += rung_mib(rows[residency], sizes, loaded)
    return need_mib


def _kept(row: ResidencyRung, sizes: Mapping[str, float], residency: int) -> Collection[str]:
    """Return the stages that stay loaded: none at R4, whatever a schedule says."""
    return [stage for stage in row.resident if stage in sizes and residency < WORST]


def _threads(compute: ComputeRung, stage: str, cpus: int | None) -> int:
    asked = compute.stages[stage].threads
    return min(asked, cpus) if cpus else asked
