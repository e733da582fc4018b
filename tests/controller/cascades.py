"""Bundles for the controller's tests: real manifests of artifacts whose bytes nobody runs."""

from collections.abc import Sequence
from dataclasses import dataclass

from controller.home import Home
from controller.library import keep_artifact
from controller.signing import load_signer
from protocols.bundle import (
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
from protocols.chunks import artifact_ref, chunk_list, listed_ref
from protocols.schedule import default_cascade_schedule

CLASSES = 10


@dataclass(frozen=True)
class Piece:
    """A stage: its variants as (name, MiB that loading takes), best first."""

    name: str
    variants: Sequence[tuple[str, float]]
    gated: bool = False
    answer_ms: float = 0.4


SMALL = Piece("small", [("int8", 4.0)], gated=True)
LARGE = Piece("large", [("fp32", 200.0), ("int8", 60.0)], answer_ms=20.0)
DIGITS = (SMALL, LARGE)


def content_of(stage: str, variant: str, version: int) -> bytes:
    """Return the bytes of a model: more than one chunk of them."""
    return f"{stage} {variant} {version} ".encode() * 8000


def make_bundle(
    pieces: Sequence[Piece] = DIGITS, *, name: str = "digits", version: int = 1
) -> Bundle:
    """Return a manifest; where a stage is gated, every choice of variants is calibrated."""
    stages = tuple(_stage(piece, version) for piece in pieces)
    choices: list[dict[str, str]] = [{}]
    for stage in stages:
        choices = [{**c, stage.name: v.name} for c in choices for v in stage.variants]
    gates = [piece.name for piece in pieces[:-1] if piece.gated]
    return Bundle(
        name=name,
        version=version,
        created_ts=1.0,
        input=SampleSpec(name="x", shape=(64,), dtype="float32"),
        output=SampleSpec(name="scores", shape=(CLASSES,), dtype="float32"),
        classes=CLASSES,
        stages=stages,
        certificates=tuple(_certificate(choice, gates) for choice in choices) if gates else (),
        golden=Golden(artifact=artifact_ref(_golden(version)), count=4),
        schedule=default_cascade_schedule(tuple(s.name for s in stages), threads=1),
    )


def ref_of(bundle: Bundle, envelope: bytes = b"") -> BundleRef:
    """Return how documents name a bundle; without its envelope, as if its manifest were that."""
    return BundleRef(
        name=bundle.name,
        version=bundle.version,
        artifact=artifact_ref(envelope or bundle.encode()),
    )


def shelve(home: Home, bundle: Bundle) -> BundleRef:
    """Sign a bundle and put it, with all that it names, into a home's catalog."""
    contents = [
        content_of(stage.name, variant.name, bundle.version)
        for stage in bundle.stages
        for variant in stage.variants
    ]
    envelope = load_signer(home, "release").sign_bundle(bundle)
    for content in (*contents, _golden(bundle.version), envelope):
        keep_artifact(home, artifact_ref(content), content)
    for content in contents:
        keep_artifact(home, artifact_ref(chunk_list(content)), chunk_list(content))
    return ref_of(bundle, envelope)


def _golden(version: int) -> bytes:
    return f"golden {version}".encode()


def _stage(piece: Piece, version: int) -> Stage:
    return Stage(
        name=piece.name,
        variants=tuple(
            Variant(
                name=variant,
                artifact=listed_ref(content_of(piece.name, variant, version)),
                inputs=(TensorSpec(name="x", shape=(1, 64), dtype="float32"),),
                outputs=(TensorSpec(name="y", shape=(1, CLASSES), dtype="float32"),),
                score_kind="logits",
                needs=Needs(load_mib=load_mib, load_ms=1.0, answer_ms=piece.answer_ms),
            )
            for variant, load_mib in piece.variants
        ),
        metric="max_prob" if piece.gated else None,
    )


def _certificate(choice: dict[str, str], gates: Sequence[str]) -> Certificate:
    step = CertifiedThreshold(eps=0.01, delta=0.05, threshold=0.8, n=1000, harms=1, escalated=0.25)
    return Certificate(
        variants=choice,
        gates=dict.fromkeys(gates, (step,)),
        data_sha256="0" * 64,
        accuracy=0.9,
        last_stage_accuracy=0.9,
    )
