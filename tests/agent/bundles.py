"""Manifests for the pure modules: no model behind them."""

from protocols.bundle import (
    ArtifactRef,
    Bundle,
    BundleRef,
    Certificate,
    CertifiedThreshold,
    Golden,
    Needs,
    SampleSpec,
    Stage,
    TensorSpec,
    Variant,
)
from protocols.chunks import artifact_ref
from protocols.desired import DesiredCascade
from protocols.schedule import default_cascade_schedule


def named(text: str, size_bytes: int = 1000) -> ArtifactRef:
    """Return a reference that differs from that of any other text."""
    return artifact_ref(text.encode()).with_(size_bytes=size_bytes)


def make_bundle(
    *stages: str,
    name: str = "digits",
    version: int = 1,
    needs_mib: dict[str, float] | None = None,
    ladder: int = 3,
    threads: int = 4,
) -> Bundle:
    """Return a gated cascade whose stages have an `fp32` variant and a quarter of it, `int8`."""
    stages = stages or ("small", "large")
    needs = needs_mib or {}
    x = TensorSpec(name="x", shape=(1, 4), dtype="float32")
    scores = TensorSpec(name="scores", shape=(1, 3), dtype="float32")

    def variant(stage: str, form: str, share: float) -> Variant:
        return Variant(
            name=form,
            artifact=named(f"{name}{version}{stage}{form}"),
            inputs=(x,),
            outputs=(scores,),
            score_kind="probabilities",
            needs=Needs(load_mib=needs.get(stage, 10.0) * share, load_ms=1, answer_ms=1),
        )

    steps = tuple(
        CertifiedThreshold(
            eps=0.01 * (n + 1), delta=0.05, threshold=0.9 - n / 10, n=1000, harms=0, escalated=0.5
        )
        for n in range(ladder)
    )
    return Bundle(
        name=name,
        version=version,
        created_ts=0.0,
        input=SampleSpec(name="x", shape=(4,), dtype="float32"),
        output=SampleSpec(name="scores", shape=(3,), dtype="float32"),
        classes=3,
        stages=tuple(
            Stage(
                name=stage,
                variants=(variant(stage, "fp32", 1.0), variant(stage, "int8", 0.25)),
                metric="max_prob" if stage != stages[-1] else None,
            )
            for stage in stages
        ),
        certificates=(
            Certificate(
                variants=dict.fromkeys(stages, "fp32"),
                gates=dict.fromkeys(stages[:-1], steps),
                data_sha256="0" * 64,
                accuracy=0.9,
                last_stage_accuracy=0.9,
            ),
        ),
        golden=Golden(artifact=named(f"{name}{version}golden"), count=1),
        schedule=default_cascade_schedule(stages, threads),
    )


def wanted(bundle: Bundle, *dropped: str, **variants: str) -> DesiredCascade:
    """Return the cascade as a desired document names it; fp32 where nothing else is said."""
    return DesiredCascade(
        bundle=BundleRef(
            name=bundle.name,
            version=bundle.version,
            artifact=named(f"envelope {bundle.name} {bundle.version}"),
        ),
        variants={s.name: variants.get(s.name, "fp32") for s in bundle.stages},
        dropped=dropped,
    )
