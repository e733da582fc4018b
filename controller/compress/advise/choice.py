"""Which form to take, and why. Pure: figures in, decision out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from controller.compress.advise.recipes import Recipe, name_of
from controller.compress.advise.target import Bound, Target, Word

_LEVEL = 1.05
"""Times, and products of bytes and time, within 5% of each other count as equal."""


@dataclass(frozen=True, slots=True)
class Form:
    """A model that was made, and its figures.

    Attributes:
        recipe: how it is made of the original; empty: it is the original.
        sha256: of its file.
        file_bytes, wire_bytes: of its file, as it is and as delivery packs it.
        parameters, nonzero: learned numbers, and those that do not stand for zero.
        accuracy: share of right answers on the half of the samples that choices are made on.
        held_out: on the other half.
        latency_us, cpu_us: of a run, the median by the clock (the CPU time where other programs
            disturb the clock) and the mean CPU time; None: it was not timed.
        memory_bytes: the most that loading and running added; None: nobody asked, or this system
            does not tell.
        took_s: making and measuring it.
    """

    recipe: Recipe
    sha256: str
    file_bytes: int
    wire_bytes: int
    parameters: int
    nonzero: int
    accuracy: float
    held_out: float
    latency_us: float | None = None
    cpu_us: float | None = None
    memory_bytes: float | None = None
    took_s: float = 0.0

    @property
    def name(self) -> str:
        """How it reads."""
        return name_of(self.recipe)

    def figure(self, word: Word, original: "Form") -> float | None:
        """Return what a target limits, in the unit of `Bound.limit`; None: it is not known."""
        figures: dict[Word, float | None] = {
            "accuracy_loss": original.accuracy - self.accuracy,
            "accuracy": self.accuracy,
            "latency": self.latency_us,
            "cpu": self.cpu_us,
            "bytes": float(self.wire_bytes),
            "file_bytes": float(self.file_bytes),
            "memory": self.memory_bytes,
        }
        return figures[word]


@dataclass(frozen=True, slots=True)
class Miss:
    """A bound that a form does not hold, and by which share; None: the figure is not known."""

    bound: Bound
    share: float | None


@dataclass(frozen=True, slots=True)
class Choice:
    """What to take.

    Attributes:
        form: the best that meets the target, else the closest to it.
        misses: what it does not hold; empty: it meets the target.
        front: the forms that no other beats in accuracy, bytes over the air and time.
        decided: bounds without which another form would be taken, and that form.
        second: the best of the others that meet the target; None: there is none.
        single: the best single technique, by the same rule; None: none was made.
        single_meets: whether that meets the target.
        safe: the best of those that meet the target on the samples held out too; None: there is
            none. It is told, not taken: nothing is chosen on samples that are held out.
    """

    form: Form
    misses: tuple[Miss, ...]
    front: tuple[Form, ...]
    decided: tuple[tuple[Bound, Form], ...]
    second: Form | None
    single: Form | None
    single_meets: bool = False
    safe: Form | None = None


def choose(forms: Sequence[Form], target: Target) -> Choice:
    """Choose the form to take.

    Of those that meet the target it is the one with the least product of bytes over the air and
    latency; of those within 5% of that, the most accurate, then the one of fewest steps. Where none
    meets it, the one whose misses, as shares of their limits, add up to the least.

    Args:
        forms: the original first.
        target: on the half of the samples that choices are made on.
    """
    original = forms[0]
    best = _best(forms, target)
    singles = [form for form in forms if len(form.recipe) == 1]
    others = [form for form in forms if form is not best]
    meeting = [form for form in others if not misses(form, target, original)]
    found = misses(best, target, original)
    single = _best(forms, target, singles) if singles else None
    safe = [f for f in forms if not misses(f, target, original) and holds_out(f, target, original)]
    freed = [(bound, _best(forms, target.without(bound))) for bound in target.bounds]
    return Choice(
        form=best,
        misses=found,
        front=front(forms),
        decided=() if found else tuple((b, f) for b, f in freed if f is not best),
        second=_least(meeting, original) if meeting and not found else None,
        single=single,
        safe=_least(safe, original) if safe else None,
        single_meets=single is not None and not misses(single, target, original),
    )


def misses(form: Form, target: Target, original: Form) -> tuple[Miss, ...]:
    """Return what a form does not hold of a target."""
    found = []
    for bound in target.bounds:
        figure, before = form.figure(bound.word, original), original.figure(bound.word, original)
        if figure is None or before is None:
            found.append(Miss(bound, None))
        elif (share := bound.miss(figure, before)) > 0:
            found.append(Miss(bound, share))
    return tuple(found)


def holds_out(form: Form, target: Target, original: Form) -> bool:
    """Whether a form meets a target on the samples held out."""
    theirs, before = (replace(one, accuracy=one.held_out) for one in (form, original))
    return not misses(theirs, target, before)


def front(forms: Sequence[Form]) -> tuple[Form, ...]:
    """Return the forms that no other beats, by falling bytes over the air."""
    kept = [one for one in forms if not any(_beats(other, one) for other in forms)]
    return tuple(sorted(kept, key=lambda form: -form.wire_bytes))


def _beats(one: Form, other: Form) -> bool:
    """Whether a form is nowhere worse than another, and somewhere better.

    Two medians of one program differ by some percent: within 5% times are level.
    """
    ours, theirs = one.latency_us, other.latency_us
    if one.wire_bytes > other.wire_bytes or one.accuracy < other.accuracy:
        return False
    if ours is not None and theirs is not None:
        if ours > theirs * _LEVEL:
            return False
        if ours * _LEVEL < theirs:
            return True
    return one.wire_bytes < other.wire_bytes or one.accuracy > other.accuracy


def _best(forms: Sequence[Form], target: Target, among: Sequence[Form] | None = None) -> Form:
    original, tried = forms[0], forms if among is None else among
    meeting = [form for form in tried if not misses(form, target, original)]
    if meeting:
        return _least(meeting, original)
    return min(tried, key=lambda form: _far(form, target, original))


def _least(forms: Sequence[Form], original: Form) -> Form:
    least = min(_cost(form, original) for form in forms)
    level = [form for form in forms if _cost(form, original) <= least + math.log(_LEVEL)]
    return min(level, key=lambda form: (-form.accuracy, len(form.recipe), form.wire_bytes))


def _cost(form: Form, original: Form) -> float:
    """Return the logarithm of bytes over the air times latency, against the original's."""
    bytes_share = form.wire_bytes / original.wire_bytes
    if not form.latency_us or not original.latency_us:
        return math.log(bytes_share)
    return math.log(bytes_share) + math.log(form.latency_us / original.latency_us)


def _far(form: Form, target: Target, original: Form) -> tuple[float, int, float]:
    found = misses(form, target, original)
    unknown = sum(miss.share is None for miss in found)
    return sum(miss.share or 0.0 for miss in found), unknown, _cost(form, original)
