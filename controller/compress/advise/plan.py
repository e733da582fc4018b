"""What is next in the time that is left, and how long it will take. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from controller.compress.advise.recipes import Recipe, Step, Technique, family_of, name_of, points

_LAYER_RUNS = {Technique.MIXED: 3, Technique.PALETTE: 6, Technique.PRUNE: 7, Technique.TIE: 4}
"""How often a search runs the model for each layer."""
_WHOLE_RUNS = 14
"""How often it runs it as a whole: the curve, and halving to its end."""
_SIZES = {
    Technique.FP16: 0.8,
    Technique.DYNAMIC_INT8: 0.5,
    Technique.INT8: 0.5,
    Technique.INT4: 0.5,
    Technique.MIXED: 0.5,
    Technique.PALETTE: 2.0,
    Technique.PRUNE: 1.3,
    Technique.TIE: 1.3,
    Technique.DEDUPE: 1.2,
}
"""Making and measuring the form, in what measuring the one before it took: most of it is packing
bytes, of which narrow forms have fewer; palettes are drawn over all of them."""
_UNKNOWN, _CAUTION = 1.5, 1.25
"""What a step may take beyond its work where none was measured yet, and beyond the worst that was
measured of other techniques."""
_TIMING_S, _TIMING_FORM_S, _TIMING_SHARE = 2.0, 0.3, 0.3
_EARLY, _CLEARLY = 0.15, 1.5
"""Of a step, what has to be done before it says how long it takes; how far beyond ends it."""
_PATIENCE, _LEAST_PATIENCE_S = 4.0, 30.0


@dataclass(frozen=True, slots=True)
class Effort:
    """How long a form's figures took, in seconds.

    Attributes:
        measure_s: its bytes and its accuracy.
        half_s: of that, running one half of the samples through it.
    """

    measure_s: float
    half_s: float


@dataclass(frozen=True, slots=True)
class Base:
    """What a step begins with.

    Attributes:
        effort: of the form that it is done to.
        layers: that have weights.
        training_s: what teaching takes after cuts, estimated; 0: there is no module.
    """

    effort: Effort
    layers: int
    training_s: float = 0.0


class Estimates:
    """How long steps will take: by what they have to do, corrected by what such steps took."""

    def __init__(self) -> None:
        self._beyond: dict[str, float] = {}

    def seconds(self, step: Step, base: Base) -> float:
        """Return how long a step will take, its figures included."""
        return _work_s(step, base) * self._beyond.get(step.key, self._assumed(step))

    def learn(self, step: Step, base: Base, took_s: float) -> None:
        """Take in how long a step took."""
        self._beyond[step.key] = took_s / max(_work_s(step, base), 1e-3)

    def _assumed(self, step: Step) -> float:
        """Return the factor of a step of which none was taken yet: the worst of its like."""
        like = [
            beyond
            for key, beyond in self._beyond.items()
            if key.endswith(" auto") == step.key.endswith(" auto")
        ]
        return _CAUTION * max(like) if like else _UNKNOWN


def timing_s(forms: int, budget_s: float) -> float:
    """Return what is kept of the budget for timing forms against each other at the end."""
    return min(_TIMING_S + _TIMING_FORM_S * forms, _TIMING_SHARE * budget_s)


def patience_s(estimate_s: float, left_s: float) -> float:
    """Return how long a step may take before it is ended: never longer than is left."""
    return min(left_s, max(_LEAST_PATIENCE_S, _PATIENCE * estimate_s))


def is_hopeless(done: int, total: int, spent_s: float, limit_s: float) -> bool:
    """Whether a step that is under way will clearly not end in its time.

    Searches end with runs of whole models of which they do not know how many there will be: they
    say that one is left each time, which tells nothing.
    """
    if total - done <= 1 or done < _EARLY * total:
        return False
    return spent_s * total / done > _CLEARLY * limit_s


def why_not(recipe: Recipe, losses: Mapping[tuple[str, ...], float], max_loss: float | None) -> str:
    """Say why a recipe need not be tried; empty: it should be.

    Args:
        recipe: at least one step.
        losses: of the forms that there are, by `family_of` their recipes; shares.
        max_loss: that is allowed; None: the target does not speak of it.
    """
    before = recipe[:-1]
    loss = losses.get(family_of(before))
    if loss is None:
        return f"it needs {name_of(before)}, which there is not"
    if before and max_loss is not None and loss > max_loss + 1e-9:
        return f"{name_of(before)} alone loses {loss * 100:.2f}pp already"
    return ""


def with_loss(step: Step, allowed: float, lost: float) -> Step:
    """Return a step that searches with what may still be lost.

    Args:
        step: of a recipe.
        allowed: in all, as a share.
        lost: by the steps before it; negative: gained.
    """
    if not step.is_searched:
        return step
    return step.with_(max_loss=points(allowed - lost))


def _work_s(step: Step, base: Base) -> float:
    effort = base.effort
    if step.technique is Technique.CHANNELS:
        return base.training_s + effort.measure_s
    form_s = _SIZES[step.technique] * effort.measure_s
    if not step.is_searched:
        return form_s
    runs = _LAYER_RUNS[step.technique] * base.layers + _WHOLE_RUNS
    return form_s + runs * effort.half_s
