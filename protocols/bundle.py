"""The bundle: the signed manifest of one cascade, and the pieces it is made of.

A bundle is itself an artifact: the bytes of its envelope, signed by the release role, named by
their SHA-256. It names every other artifact (models, golden samples) by digest, so that who trusts
the bundle can trust all of it.
"""

import math
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from protocols.message import Message, Name, Part, Sha256
from protocols.schedule import CascadeSchedule

DType = Literal["bool", "int8", "uint8", "int16", "int32", "int64", "float16", "float32", "float64"]

OIP_DATATYPE: dict[DType, str] = {
    "bool": "BOOL",
    "int8": "INT8",
    "uint8": "UINT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
}
"""The Open Inference Protocol v2 name of every dtype."""

Metric = Literal["max_prob", "margin", "entropy"]
ScoreKind = Literal["probabilities", "logits", "raw"]
"""What the last axis of a stage's scores holds; `raw` is an output that is no class scores."""

Dimension = Annotated[int, Field(ge=1, le=1 << 24)]

CONFIDENCE_BINS = 20
"""Equal bins of [0, 1] in which confidences are counted; 1 itself falls into the last."""

Share = Annotated[float, Field(ge=0, le=1)]


class ArtifactRef(Part):
    """One immutable file, named by its SHA-256.

    `chunks` names its chunk list: the SHA-256 of each of its chunks of 64 KiB, one after the other.
    The list is an artifact of its own, fetched first, so that every chunk can be checked as it
    comes. Who signs the one signs the other.
    """

    sha256: Sha256
    size_bytes: int = Field(ge=1, le=1 << 32)
    chunks: Sha256 | None = Field(
        None, description="SHA-256 of its chunk list; null: none, it is checked whole and sent raw"
    )


class Quantization(Part):
    """Per-tensor affine quantization: real = (q - zero_point) * scale."""

    scale: float = Field(gt=0)
    zero_point: int


class TensorSpec(Part):
    """A tensor of a model: its whole shape, as the interpreter has it after allocation."""

    name: str = Field(max_length=512)
    shape: tuple[Dimension, ...] = Field(max_length=8)
    dtype: DType
    quantization: Quantization | None = None

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


class SampleSpec(Part):
    """A tensor of the cascade: the shape of one sample, without the batch axis.

    `quantization` is set where the dtype is a model's own quantized one, passed through as it is.
    """

    name: str = Field(max_length=512)
    shape: tuple[Dimension, ...] = Field(max_length=8)
    dtype: DType
    quantization: Quantization | None = None

    @property
    def elements(self) -> int:
        """How many numbers one sample holds."""
        return math.prod(self.shape)


class Needs(Part):
    """What a model takes on a device, as measured where it was added; a device measures its own."""

    load_mib: float = Field(ge=0, description="resident memory that loading and one answer add")
    load_ms: float = Field(ge=0)
    answer_ms: float = Field(ge=0, description="median of one answer, one thread")


class Variant(Part):
    """One form of a stage's sub-model: fp32, int8, pruned ..."""

    name: Name
    artifact: ArtifactRef
    inputs: tuple[TensorSpec, ...] = Field(min_length=1, max_length=64)
    outputs: tuple[TensorSpec, ...] = Field(min_length=1, max_length=64)
    scores: int = Field(0, ge=0, description="index of the output that holds the class scores")
    score_kind: ScoreKind
    needs: Needs
    runtimes: tuple[Name, ...] = Field(
        (), max_length=8, description="interpreters that answer right with it; empty: any"
    )

    def runs_in(self, runtime: str) -> bool:
        """Whether an interpreter answers right with it.

        Args:
            runtime: its distribution and version, as an inventory has it: `tflite-runtime 2.14.0`.
        """
        return not self.runtimes or runtime.partition(" ")[0] in self.runtimes

    @model_validator(mode="after")
    def _scores_exist(self) -> Self:
        if self.scores >= len(self.outputs):
            raise ValueError(f"scores names output {self.scores} of {len(self.outputs)}")
        return self


class Stage(Part):
    """One step of a cascade: what it reads, the forms of its model, best first, and its gate.

    A stage with a metric is gated: an answer confident enough leaves here. A stage without one
    always hands on to the next, as the parts of a split model do. The last stage always answers.

    The temperature makes a stage that answers in a gated cascade as sure as it is right: its gate
    judges, and the cascade answers, softmax(logits / temperature). The class stays the same.
    """

    name: Name
    reads: str = Field("request", description="`request` or `stage:<name>` (an earlier stage)")
    variants: tuple[Variant, ...] = Field(min_length=1, max_length=16)
    metric: Metric | None = None
    temperature: float = Field(
        1.0,
        gt=0,
        description="of the probabilities that the gate judges and the cascade answers",
    )


class CertifiedThreshold(Part):
    """One step of a gate's ladder: what Learn then Test proved of a threshold.

    Answers with confidence >= `threshold` leave at this stage. With probability at least 1 - delta
    the accuracy lost by that is at most eps (both fractions).
    """

    eps: float = Field(gt=0, lt=1)
    delta: float = Field(gt=0, lt=1)
    threshold: float
    n: int = Field(ge=1, description="calibration samples")
    harms: int = Field(
        ge=0, description="samples that leave here wrongly and later stages had right"
    )
    escalated: float = Field(ge=0, le=1, description="share of the samples that goes on")


class Certificate(Part):
    """The calibration of one choice of variants: a ladder for every gated stage."""

    variants: dict[Name, Name] = Field(description="stage -> variant that was calibrated")
    gates: dict[Name, tuple[CertifiedThreshold, ...]] = Field(description="by rising eps")
    data_sha256: Sha256
    accuracy: float = Field(ge=0, le=1, description="of the cascade at the base threshold")
    last_stage_accuracy: float = Field(ge=0, le=1)
    confidence: dict[Name, tuple[Share, ...]] = Field(
        {}, description="gated stage -> shares of its confidences, per bin; empty: not known"
    )


class Golden(Part):
    """Samples with known answers that a new runner must give before it takes over.

    The artifact is an `.npz` with `x` [n, *input shape] in the cascade's input dtype, and for
    every stage that gives class scores `top1_<stage>` int64 [n]: the class that the stage's model
    gives, whatever its gate says (-1: too close to call, not compared). ARM and x86 agree in top-1,
    not in bytes.
    """

    artifact: ArtifactRef
    count: int = Field(ge=1, le=256)


class Bundle(Message):
    """The manifest of one version of one cascade."""

    KIND: ClassVar[str] = "bundle"

    name: Name
    version: int = Field(ge=1)
    created_ts: float = Field(description="Unix time in seconds")
    input: SampleSpec
    output: SampleSpec
    classes: int | None = Field(None, ge=1, description="null: the output is no class scores")
    labels: tuple[str, ...] = ()
    stages: tuple[Stage, ...] = Field(min_length=1, max_length=16)
    certificates: tuple[Certificate, ...] = ()
    golden: Golden
    schedule: CascadeSchedule

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        seen: set[str] = set()
        for stage in self.stages:
            source = stage.reads.removeprefix("stage:")
            if stage.reads != "request" and (source == stage.reads or source not in seen):
                raise ValueError(f"stage {stage.name!r} reads {stage.reads!r}, no earlier stage")
            if stage.name in seen:
                raise ValueError(f"stage {stage.name!r} stands twice")
            seen.add(stage.name)
        if self.stages[0].reads != "request":
            raise ValueError("the first stage must read the request")
        for rung in self.schedule.residency:
            unknown = {*rung.resident, *rung.on_demand} - seen
            if unknown:
                raise ValueError(f"the schedule names unknown stages: {sorted(unknown)}")
        for step in self.schedule.compute:
            if set(step.stages) != seen:
                raise ValueError("every compute rung must name every stage")
        return self

    @property
    def artifacts(self) -> tuple[ArtifactRef, ...]:
        """Every artifact that it names, each once, in order."""
        refs = [v.artifact for stage in self.stages for v in stage.variants]
        return tuple(dict.fromkeys([*refs, self.golden.artifact]))

    def certificate(self, variants: dict[str, str]) -> Certificate | None:
        """Return what was proved of this choice of variants (stage -> variant name)."""
        for certificate in self.certificates:
            if all(variants.get(s) == v for s, v in certificate.variants.items()):
                return certificate
        return None


class BundleRef(Part):
    """A bundle as desired documents and deployments name it: its envelope is the artifact."""

    name: Name
    version: int = Field(ge=1)
    artifact: ArtifactRef
