"""The choice of a treatment for every layer: measured alone, then as a whole, then held out."""

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

from controller.compress.budget import Option, Point, furthest, halves, path
from controller.compress.graph import Graph
from controller.compress.scorer import Scorer
from controller.compress.sensitivity import (
    LayerLoss,
    OnStep,
    Shift,
    Treatment,
    sensitivity,
    shift_of,
)
from controller.compress.weights import Weights, by_layer, wire_bytes
from controller.samples import Samples

Choice = TypeVar("Choice")

Do = Callable[[Mapping[int, Choice]], bytes]
"""Treats a model as a whole: what is chosen for each layer, by its weights' tensor number."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Shares of right answers over the same samples.

    Attributes:
        samples: how many; a difference of less than one of them is none.
        before: the original's.
        after: the treated model's.
    """

    samples: int
    before: float
    after: float

    @property
    def lost(self) -> float:
        """How much less it is; negative: it gained."""
        return self.before - self.after


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a whole model lost, on the samples it was chosen on and on those it never saw."""

    chosen_on: Accuracy
    held_out: Accuracy


@dataclass(frozen=True)  # with slots too, Python 3.11 cannot make a Found[X](...)
class Found(Generic[Choice]):
    """A choice that holds the budget.

    Attributes:
        content: the treated model.
        chosen: by the weights' tensor number; layers not named stay as they are.
        verdict: what it costs.
        curve: everything that was measured as a whole, by falling bytes.
    """

    content: bytes
    chosen: Mapping[int, Choice]
    verdict: Verdict
    curve: tuple[Point[Choice], ...]


class Judge:
    """Two halves of samples, and how good models are on them. Use it as a context manager.

    Args:
        content: the original's file.
        name: for messages.
        samples: labelled.
        scores: number of the output that holds the class scores.
        on_step: told how far the long parts are.

    Raises:
        CompressError: the samples have no labels or are too few.
    """

    def __init__(
        self,
        content: bytes,
        name: str,
        samples: Samples,
        scores: int = 0,
        on_step: OnStep = lambda *_: None,
    ) -> None:
        ours, theirs = halves(samples)
        self.content, self.name = content, name
        self._ours, self._theirs = Scorer(ours, scores), Scorer(theirs, scores)
        self._on_step = on_step
        self._open = ExitStack()

    def __enter__(self) -> Self:
        self._open.enter_context(self._ours)
        self._open.enter_context(self._theirs)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def crossed(self) -> Self:
        """Return a judge for whom the halves change places; it is open as long as this one."""
        other = copy.copy(self)
        other._ours, other._theirs = self._theirs, self._ours  # noqa: SLF001 - of the same class
        return other

    def lost(self, content: bytes) -> float:
        """Return the accuracy that a model loses on the half that choices are made on.

        Raises:
            CompressError: it, or the original, does not run on the samples.
        """
        return self._accuracy(self._ours, content).lost

    def shift(self, content: bytes) -> Shift:
        """Return how far a model's answers are from the original's, on the same half.

        Raises:
            CompressError: as `lost`.
        """
        before = self._ours.rows(self.content, self.name)
        kind = self._ours.kind(self.content, self.name)
        return shift_of(before, self._ours.rows(content, self.name), kind, self._ours.samples.y)

    def verdict(self, content: bytes) -> Verdict:
        """Return what a model loses on both halves.

        Raises:
            CompressError: as `lost`.
        """
        ours, theirs = (self._accuracy(s, content) for s in (self._ours, self._theirs))
        return Verdict(chosen_on=ours, held_out=theirs)

    def costs(
        self,
        ways: Sequence[tuple[Choice, Treatment]],
        untouched: Callable[[Graph, Weights], float],
    ) -> dict[int, list[Option[Choice]]]:
        """Measure every treatment of every layer, each alone.

        Args:
            ways: treatments, and what each is called in a choice.
            untouched: what a layer takes as it is, in the unit of the treatments' `layer_bytes`.

        Returns:
            By the weights' tensor number; layers that cannot be treated are left out.

        Raises:
            CompressError: the model does not run on the samples, or has no layer with weights.
        """
        graph = Graph.read(self.content, self.name)
        places = by_layer(graph)
        choices = {treatment.name: choice for choice, treatment in ways}
        treatments = [treatment for _, treatment in ways]
        losses = sensitivity(self.content, treatments, self._ours, self.name, self._on_step)
        options: dict[int, list[Option[Choice]]] = {}
        for loss in losses:
            stored = places[loss.layer.weights]
            if loss.shift is None or loss.layer.weights != stored.tensor:
                continue
            whole: Option[Choice] = Option(None, untouched(graph, stored), 0.0)
            options.setdefault(stored.tensor, [whole]).append(
                Option(choices[loss.treatment], _size(graph, loss), loss.shift.divergence)
            )
        return options

    def within(
        self, options: Mapping[int, Sequence[Option[Choice]]], do: Do[Choice], max_loss: float
    ) -> Found[Choice]:
        """Return the smallest model found that loses no more than a budget allows.

        Args:
            options: of `costs`.
            do: treats the model as chosen.
            max_loss: of accuracy, as a share, on the half that the choice is made on.

        Raises:
            CompressError: a treated model does not run, or the budget is negative.
        """
        allocations = path(options)
        measured = 0

        def measure(chosen: Mapping[int, Choice]) -> Point[Choice]:
            nonlocal measured
            self._on_step("the model as a whole", measured, measured + 1)
            measured += 1
            content = do(chosen) if chosen else self.content
            return Point(chosen, wire_bytes(content), self.lost(content))

        best, curve = furthest(allocations, measure, max_loss)
        content = do(best.chosen) if best.chosen else self.content
        return Found(content, best.chosen, self.verdict(content), curve)

    def _accuracy(self, scorer: Scorer, content: bytes) -> Accuracy:
        kind = scorer.kind(self.content, self.name)
        return Accuracy(
            samples=len(scorer.samples.x),
            before=scorer.quality(self.content, self.name, kind).accuracy,
            after=scorer.quality(content, self.name, kind).accuracy,
        )


def _size(graph: Graph, loss: LayerLoss) -> float:
    return graph.stored_bytes(loss.layer.weights) - loss.bytes_saved
