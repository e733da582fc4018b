"""Bundles of real models in a folder, as the agent's store would hold them."""

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.runner.control import Assignment, CascadePlan, Residence, StageTarget
from protocols.bundle import (
    ArtifactRef,
    Bundle,
    Certificate,
    CertifiedThreshold,
    DType,
    Golden,
    Metric,
    Needs,
    SampleSpec,
    ScoreKind,
    Stage,
    TensorSpec,
    Variant,
)
from protocols.chunks import chunk_list, list_ref, listed_ref
from protocols.inference.gate import probabilities, top1
from protocols.inference.runtime import open_model
from protocols.inference.tensors import from_sample, hand_on, real
from protocols.schedule import default_cascade_schedule


@dataclass(frozen=True)
class Piece:
    """One stage to build: its model's bytes, its gate, and what it reads."""

    name: str
    model: bytes
    metric: Metric | None = None
    threshold: float = 0.9
    reads: str = "request"
    kind: ScoreKind = "probabilities"


@dataclass
class Built:
    """A bundle whose artifacts lie in a folder, and the bare interpreters' outputs."""

    bundle: Bundle
    folder: Path
    x: NDArray[Any]
    outputs: dict[str, list[list[NDArray[Any]]]] = field(default_factory=dict)
    """By stage, for every sample of `x`: what its model gives."""

    def assignment(self, *dropped: str) -> Assignment:
        return Assignment(
            bundle=self.bundle,
            variants={stage.name: stage.variants[0].name for stage in self.bundle.stages},
            dropped=dropped,
            folder=str(self.folder),
        )

    def plan(
        self, *residences: Residence, threads: int = 1, nice: int = 0, **changes: object
    ) -> CascadePlan:
        """Return a plan; without residences every stage is resident."""
        stages = self.bundle.stages
        wanted = residences or tuple("resident" for _ in stages)
        plan = CascadePlan(
            name=self.bundle.name,
            stages=tuple(
                StageTarget(name=stage.name, residence=residence, threads=threads, nice=nice)
                for stage, residence in zip(stages, wanted, strict=True)
            ),
        )
        return plan.with_(**changes)

    def chances(self, stage: str, sample: int) -> NDArray[np.float32]:
        """Return the class probabilities that a stage's model gives a sample."""
        found = next(s for s in self.bundle.stages if s.name == stage)
        variant = found.variants[0]
        spec = variant.outputs[variant.scores]
        scores = self.outputs[stage][sample][variant.scores]
        return probabilities(real(scores, spec), variant.score_kind)


def build(
    folder: Path,
    parts: list[Piece],
    x: NDArray[Any],
    *,
    name: str = "digits",
    version: int = 1,
) -> Built:
    """Write the artifacts and return the bundle; `x` [n, *sample] are also its golden samples."""
    outputs: dict[str, list[list[NDArray[Any]]]] = {}
    variants: dict[str, Variant] = {}
    expected: dict[str, NDArray[np.int64]] = {}
    declared: SampleSpec | None = None
    for part in parts:
        variant, model = _variant(folder, part)
        source = part.reads.removeprefix("stage:")
        if part.reads == "request":
            declared = declared or _declared(variant.inputs[0], x)
            inputs = [[from_sample(sample, declared, variant.inputs[0])] for sample in x]
        else:
            given = variants[source].outputs
            inputs = [
                [hand_on(v, h, w) for v, h, w in zip(row, given, variant.inputs, strict=True)]
                for row in outputs[source]
            ]
        outputs[part.name] = [model.run(tensors) for tensors in inputs]
        variants[part.name] = variant
        spec = variant.outputs[variant.scores]
        expected[part.name] = np.array(
            [top1(real(row[variant.scores], spec), part.kind) for row in outputs[part.name]]
        )
    golden = io.BytesIO()
    arrays: dict[str, Any] = {f"top1_{stage}": classes for stage, classes in expected.items()}
    np.savez(golden, x=x, **arrays)
    bundle = _bundle(parts, variants, x, _put(folder, golden.getvalue()), name, version)
    return Built(bundle, folder, x, outputs)


def _bundle(
    parts: list[Piece],
    variants: dict[str, Variant],
    x: NDArray[Any],
    golden: ArtifactRef,
    name: str,
    version: int,
) -> Bundle:
    gated = any(part.metric for part in parts)
    last = variants[parts[-1].name]
    scores, first = last.outputs[last.scores], variants[parts[0].name].inputs[0]
    ladder = {
        part.name: tuple(
            CertifiedThreshold(
                eps=eps, delta=0.05, threshold=part.threshold - drop, n=1000, harms=0, escalated=0.5
            )
            for eps, drop in ((0.01, 0.0), (0.05, 0.2))
        )
        for part in parts
        if part.metric
    }
    names = {part.name: "only" for part in parts}
    certificate = Certificate(
        variants=names, gates=ladder, data_sha256="0" * 64, accuracy=0.9, last_stage_accuracy=0.9
    )
    return Bundle(
        name=name,
        version=version,
        created_ts=0.0,
        input=_declared(first, x),
        output=SampleSpec(name="scores", shape=(max(2, scores.elements),), dtype="float32")
        if gated
        else SampleSpec(
            name=scores.name,
            shape=scores.shape[1:] if scores.shape[:1] == (1,) else scores.shape,
            dtype=scores.dtype,
            quantization=scores.quantization,
        ),
        classes=scores.elements,
        stages=tuple(
            Stage(
                name=part.name,
                reads=part.reads,
                variants=(variants[part.name],),
                metric=part.metric,
            )
            for part in parts
        ),
        certificates=(certificate,) if gated else (),
        golden=Golden(artifact=golden, count=len(x)),
        schedule=default_cascade_schedule(
            tuple(part.name for part in parts),
            1,
            first=next((n for n, part in enumerate(parts, 1) if part.metric), 1),
        ),
    )


def _declared(first: TensorSpec, x: NDArray[Any]) -> SampleSpec:
    dtype: DType = x.dtype.name  # type: ignore[assignment]
    return SampleSpec(
        name=first.name,
        shape=x.shape[1:],
        dtype=dtype,
        quantization=first.quantization if dtype == first.dtype else None,
    )


def _variant(folder: Path, part: Piece) -> tuple[Variant, Any]:
    ref = _put(folder, part.model)
    model = open_model(folder / ref.sha256)
    variant = Variant(
        name="only",
        artifact=ref,
        inputs=model.inputs,
        outputs=model.outputs,
        score_kind=part.kind,
        needs=Needs(load_mib=2 * len(part.model) / 2**20, load_ms=10, answer_ms=1),
    )
    return variant, model


def _put(folder: Path, content: bytes) -> ArtifactRef:
    ref = listed_ref(content)
    (folder / ref.sha256).write_bytes(content)
    if (listed := list_ref(ref)) is not None:
        (folder / listed.sha256).write_bytes(chunk_list(content))
    return ref
