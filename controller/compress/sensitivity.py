"""What each layer costs: one layer is treated, all others stay, and the scores are compared.

A treatment is anything that is done to one layer's weights: narrower numbers, zeros, a palette. The
accuracy is what counts in the end, but over some hundred samples it moves in coarse steps and often
not at all; the divergence of the scores from the original's sees every treatment.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controller.compress.errors import CompressError
from controller.compress.graph import Graph
from controller.compress.layers import Layer, layers
from controller.compress.metrics import quality
from controller.compress.scorer import Scorer
from protocols.bundle import ScoreKind
from protocols.inference.gate import probabilities

OnStep = Callable[[str, int, int], None]
"""Takes what is done, how many steps are done, and how many there will be in all."""

_LEAST_CHANCE = 1e-7
"""Probabilities below it count as it: a class that was ruled out costs much, not infinitely."""


@dataclass(frozen=True, slots=True)
class Treatment:
    """Something that can be done to one layer.

    Attributes:
        name: such as int8 or "50% zeros".
        apply: takes a model's bytes and one of its layers, gives the model with that layer treated.
            The result need not be smaller (weights may be rounded and stay floats), it has to
            answer as the treated model will. It raises CompressError for a layer that cannot be
            treated so.
        layer_bytes: how many bytes the layer's weights take once they are treated.
    """

    name: str
    apply: Callable[[bytes, Layer], bytes]
    layer_bytes: Callable[[Graph, Layer], int]


@dataclass(frozen=True, slots=True)
class Shift:
    """How far a model's answers are from the original's, over the same samples.

    Attributes:
        accuracy: share of right answers; None: the samples have no labels.
        lost: the original's accuracy less this one's; None likewise; negative: it gained.
        change: mean absolute change of a probability, over samples and classes.
        divergence: mean Kullback-Leibler divergence of the probabilities from the original's, nats.
        agreement: share of samples for which both answer alike.
    """

    accuracy: float | None
    lost: float | None
    change: float
    divergence: float
    agreement: float


@dataclass(frozen=True, slots=True)
class LayerLoss:
    """What one treatment of one layer costs and saves.

    Attributes:
        layer: which one.
        treatment: its name.
        shift: what it does to the answers; None: the layer cannot be treated so.
        bytes_saved: of the layer's weights; negative: they grow.
        why: why it cannot be treated; empty where it can.
    """

    layer: Layer
    treatment: str
    shift: Shift | None
    bytes_saved: int
    why: str = ""


def sensitivity(
    content: bytes,
    treatments: Sequence[Treatment],
    scorer: Scorer,
    name: str = "the model",
    on_step: OnStep = lambda *_: None,
) -> tuple[LayerLoss, ...]:
    """Measure every treatment of every layer, each alone.

    Args:
        content: the model's file.
        treatments: what to try.
        scorer: the samples that the answers are compared on; labels may be missing.
        name: the model's, for messages.
        on_step: told how far it is.

    Returns:
        By layer in the order in which they run, then by treatment as given.

    Raises:
        CompressError: the model does not run on the samples, or has no layer with weights.
    """
    graph = Graph.read(content, name)
    found = layers(graph)
    if not found:
        raise CompressError(f"cannot measure the layers of {name}: none of them has weights")
    before = scorer.rows(content, name)
    losses: list[LayerLoss] = []
    total = len(found) * len(treatments)
    for layer in found:
        for treatment in treatments:
            on_step(f"{layer.name} {treatment.name}", len(losses), total)
            try:
                treated = treatment.apply(content, layer)
            except CompressError as error:
                losses.append(LayerLoss(layer, treatment.name, None, 0, str(error)))
                continue
            rows = scorer.rows(treated, f"{name} with {layer.name} as {treatment.name}")
            saved = graph.stored_bytes(layer.weights) - treatment.layer_bytes(graph, layer)
            shift = shift_of(before, rows, scorer.kind(content, name), scorer.samples.y)
            losses.append(LayerLoss(layer, treatment.name, shift, saved))
    return tuple(losses)


def shift_of(
    before: NDArray[np.float32],
    after: NDArray[np.float32],
    kind: ScoreKind,
    y: NDArray[np.int64] | None,
) -> Shift:
    """Compare a model's real-valued scores with the original's.

    Args:
        before: the original's, [n, scores].
        after: the other's, [n, scores].
        kind: what the original's scores are.
        y: labels, [n].
    """
    ours = np.stack([probabilities(row, kind) for row in before]).astype(np.float64)
    theirs = np.stack([probabilities(row, kind) for row in after]).astype(np.float64)
    p, q = np.maximum(ours, _LEAST_CHANCE), np.maximum(theirs, _LEAST_CHANCE)
    accuracy = None if y is None else quality(after, kind, y).accuracy
    lost = None if y is None or accuracy is None else quality(before, kind, y).accuracy - accuracy
    return Shift(
        accuracy=accuracy,
        lost=lost,
        change=float(np.abs(ours - theirs).mean()),
        divergence=float(max(0.0, (p * np.log(p / q)).sum(axis=1).mean())),
        agreement=float((ours.argmax(axis=1) == theirs.argmax(axis=1)).mean()),
    )
