"""The advice in words: what to take, which bound decided, what combining brought. Pure."""

from collections.abc import Iterable

from controller.compress.advise.choice import Choice, Form
from controller.compress.advise.target import Bound, Target

_NOTHING = 0.005
"""Ratios so near to 1 read as "as many" and "as long"."""
_KIB = 1024.0
_HAIR = 1e-9


def reasons(choice: Choice, original: Form, target: Target, halves: tuple[int, int]) -> list[str]:
    """Return what to take and why, a sentence or two each.

    Args:
        choice: of `choose`.
        original: what it is compared with.
        target: what was wanted.
        halves: samples that choices were made on, and samples held out.
    """
    form = choice.form
    said = [_verdict(choice), _figures(form, original, halves)]
    if not choice.misses:
        said += [_decided(choice), _second(choice)]
    return [*said, _combined(choice), *_held_out(choice, original, target, halves[1])]


def _verdict(choice: Choice) -> str:
    form = choice.form
    if not choice.misses:
        return f"Take {form.name}: it meets the target."
    wanted = ", ".join(miss.bound.text for miss in choice.misses)
    parts = [
        f"{miss.bound.word} was not measured"
        if miss.share is None
        else f"misses {miss.bound.word} by {_percent(miss.share)}"
        for miss in choice.misses
    ]
    return f"cannot meet {wanted}: the closest is {form.name}: {', '.join(parts)}"


def _figures(form: Form, original: Form, halves: tuple[int, int]) -> str:
    lost, held = original.accuracy - form.accuracy, original.held_out - form.held_out
    said = (
        f"It {_lost(lost)} on the {halves[0]} samples that choices are made on and {_lost(held)} "
        f"on the {halves[1]} held out; it takes {_size(form.wire_bytes)} over the air, "
        f"{form.wire_bytes / original.wire_bytes:.1%} of the original's"
    )
    if form.latency_us and original.latency_us:
        said += (
            f", and {_time(form.latency_us)} for an answer, "
            f"{form.latency_us / original.latency_us:.1%} of its time"
        )
    return f"{said}."


def _decided(choice: Choice) -> str:
    if not choice.decided:
        return "No bound decided: it has the least product of bytes and time of all that was tried."
    parts = [f"without {bound.text} it would be {form.name}" for bound, form in choice.decided]
    return f"What decided: {'; '.join(parts)}."


def _second(choice: Choice) -> str:
    second = choice.second
    if second is None:
        return "No other form meets the target."
    return f"Second best is {second.name}: {_beside(second, choice.form)}."


def _held_out(choice: Choice, original: Form, target: Target, count: int) -> Iterable[str]:
    """Say so where the samples that nothing was chosen on do not bear the choice out."""
    form, instead = choice.form, _instead(choice)
    for bound in target.bounds:
        figures = {"accuracy_loss": original.held_out - form.held_out, "accuracy": form.held_out}
        figure = figures.get(bound.word)
        if figure is None or not bound.miss(figure, original.held_out):
            continue
        yield (
            f"Beware: on the {count} samples held out it does not hold {bound.text}"
            f"{_as_samples(bound, figure, count)}. {instead}"
        )


def _instead(choice: Choice) -> str:
    advice = "Ask for less loss, or bring more samples"
    if choice.safe is None:
        return f"{advice}."
    return f"{advice}; the best that holds the target on both halves is {choice.safe.name}."


def _as_samples(bound: Bound, figure: float, count: int) -> str:
    beyond = bound.limit - figure if bound.word == "accuracy" else figure - bound.limit
    return f", by {beyond * 100:.2f}pp ({beyond * count:.1f} samples)"


def _combined(choice: Choice) -> str:
    form, single = choice.form, choice.single
    if single is None:
        return "No single technique could be tried."
    if len(form.recipe) <= 1:
        return "No combination did better than a single technique."
    lead = "the best single technique"
    failing = "" if choice.single_meets or choice.misses else " (it does not meet the target)"
    return f"Against {single.name}, {lead}{failing}, combining brought {_beside(form, single)}."


def _beside(one: Form, other: Form) -> str:
    said = [f"{_change(one.wire_bytes, other.wire_bytes)} bytes over the air"]
    if one.latency_us and other.latency_us:
        said.append(f"{_change(one.latency_us, other.latency_us)} time")
    return f"{', '.join(said)} and {(one.accuracy - other.accuracy) * 100:+.2f}pp of accuracy"


def _change(one: float, other: float) -> str:
    ratio = one / other - 1
    return "the same" if abs(ratio) < _NOTHING else f"{ratio:+.0%}"


def _lost(share: float) -> str:
    if abs(share) < _HAIR:
        return "loses nothing"
    return f"loses {share * 100:.2f}pp" if share > 0 else f"gains {-share * 100:.2f}pp"


def _percent(share: float) -> str:
    """Return a share with two digits: 12 %, 0.4 %."""
    return f"{share * 100:.2g} %" if share < 1 else f"{share * 100:.0f} %"


def _size(count: float) -> str:
    return f"{count:.0f} B" if count < _KIB else f"{count / _KIB:,.1f} KiB"


def _time(microseconds: float) -> str:
    return f"{microseconds / 1e3:.3g} ms"
