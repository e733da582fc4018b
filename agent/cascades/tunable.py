"""What the tuner should measure of the cascades that serve. Pure."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from agent.tuner.request import TuneModel
from protocols.bundle import Bundle, Stage, Variant
from protocols.desired import DesiredCascade
from protocols.device import CascadeStats, StageStats

Served = Iterable[tuple[DesiredCascade, Bundle]]


def tunable(served: Served, folder: Path) -> tuple[TuneModel, ...]:
    """Return the models of the stages that are on the device, each once.

    Args:
        served: what answers, with its bundle.
        folder: where artifacts are kept, each named by its SHA-256.
    """
    found = {
        variant.artifact.sha256: TuneModel(
            artifact=variant.artifact.sha256,
            path=str(folder / variant.artifact.sha256),
            sample_shape=sample_shape(variant),
        )
        for wanted, bundle in served
        for _stage, variant in _present(wanted, bundle)
    }
    return tuple(found.values())


def chains(served: Served) -> tuple[tuple[str, ...], ...]:
    """Return the artifacts of consecutive parts of split models, each a chain of two or more.

    A stage goes on a chain if it reads the one before it, and that one has no gate.
    """
    found: list[tuple[str, ...]] = []
    for wanted, bundle in served:
        chain: list[str] = []
        before: Stage | None = None
        for stage, variant in _present(wanted, bundle):
            follows = before is not None and before.metric is None
            if not (follows and before is not None and stage.reads == f"stage:{before.name}"):
                found.append(tuple(chain))
                chain = []
            chain.append(variant.artifact.sha256)
            before = stage
        found.append(tuple(chain))
    return tuple(dict.fromkeys(chain for chain in found if len(chain) > 1))


def by_artifact(served: Served, cascades: Iterable[CascadeStats]) -> dict[str, StageStats]:
    """Return what the stages do, by the artifact that each of them runs."""
    stats = {(c.name, stage.name): stage for c in cascades for stage in c.stages}
    return {
        variant.artifact.sha256: stats[bundle.name, stage.name]
        for wanted, bundle in served
        for stage, variant in _present(wanted, bundle)
        if (bundle.name, stage.name) in stats
    }


def sample_shape(variant: Variant) -> tuple[int, ...]:
    """Return the shape of one sample of a variant's first input: without a batch axis of 1."""
    shape = variant.inputs[0].shape
    return shape[1:] if shape[:1] == (1,) else shape


def _present(wanted: DesiredCascade, bundle: Bundle) -> Sequence[tuple[Stage, Variant]]:
    return [
        (stage, variant)
        for stage in bundle.stages
        if stage.name not in wanted.dropped
        for variant in stage.variants
        if variant.name == wanted.variants.get(stage.name)
    ]
