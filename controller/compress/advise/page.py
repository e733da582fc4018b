"""The advice as one HTML page: what to take, every form, plots, commands. Pure."""

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape

from controller.compress.advise.advice import Advice
from controller.compress.advise.choice import Form
from controller.compress.evaluate import wilson
from controller.compress.markup import card, document, named, prose, table_of
from controller.compress.plots import Spot, cost_chart
from controller.compress.svg import si

_ON_COSTS = (
    "Left and up is better. The dashed line is the most accuracy that can be had for at most so "
    "much; forms that no other beats are named, pointing at a dot names any. Accuracy is that on "
    "the samples that choices are made on, with its 95% interval (Wilson)."
)
_ON_DISTURBANCE = (
    "Other programs had the CPU while forms were timed: latencies are the CPU time of a run."
)
_LEAST_COST = 1e-9


def render(title: str, advice: Advice, target: str, made_by: Sequence[str]) -> str:
    """Return the page.

    Args:
        title: of the page.
        advice: what came of the trying.
        target: what was wanted, as it was written.
        made_by: the commands that make the form to take.
    """
    verdict, *why = advice.reasons
    body = [
        f"<h1>{escape(title)}</h1>",
        prose(f"Wanted: {target}."),
        f"<h2>{escape(verdict)}</h2>",
        *(f"<p>{escape(words)}</p>" for words in why),
        "<h2>How to make it</h2>",
        card(f"<pre>{escape(chr(10).join(made_by) or 'Keep the original.')}</pre>"),
        "<h2>Everything that was made</h2>",
        _forms(advice),
        prose(_notes(advice)),
        "<h2>Accuracy against cost</h2>",
        prose(_ON_COSTS),
        f'<div class="grid">{"".join(_charts(advice))}</div>',
        *_untried(advice),
    ]
    return document(title, body)


def _forms(advice: Advice) -> str:
    original, choice = advice.forms[0], advice.choice
    has_memory = any(form.memory_bytes is not None for form in advice.forms)
    head = ["Form", "", "Accuracy", "Loss", "Loss, held out", "Over the air", "", "File"]
    head += ["Not zero", "Latency", "", "CPU", *["Memory"] * has_memory, "Took"]
    rows = []
    for number, form in enumerate(advice.forms):
        row = [
            named(number, form.name),
            _mark(form, choice.form, choice.front),
            f"{form.accuracy:.2%}",
            _points(original.accuracy - form.accuracy),
            _points(original.held_out - form.held_out),
            si(form.wire_bytes, "B"),
            _share(form.wire_bytes, original.wire_bytes),
            si(form.file_bytes, "B"),
            si(form.nonzero),
            _or_dash(form.latency_us, _microseconds),
            _share(form.latency_us, original.latency_us),
            _or_dash(form.cpu_us, _microseconds),
        ]
        row += [_or_dash(form.memory_bytes, lambda count: si(count, "B"))] * has_memory
        rows.append([*row, f"{form.took_s:.0f} s"])
    return table_of(head, rows)


def _mark(form: Form, chosen: Form, front: Sequence[Form]) -> str:
    if form is chosen:
        return "<strong>to take</strong>"
    return "front" if form in front else ""


def _notes(advice: Advice) -> str:
    ours, theirs = advice.halves
    words = (
        f"Choices are made on {ours} samples, {theirs} others are held out. Front: no other form "
        "is as accurate, as small over the air and as fast. Latency: of a run, one thread, all "
        "forms in turns in one process."
    )
    return f"{words} {_ON_DISTURBANCE}" if advice.is_disturbed else words


def _charts(advice: Advice) -> Iterable[str]:
    labelled = {form.name for form in (advice.choice.form, *advice.choice.front)}
    costs: list[tuple[str, str, Callable[[Form], float | None], Callable[[float], str]]] = [
        ("Bytes over the air", "bytes, as sent", lambda f: f.wire_bytes, lambda v: si(v, "B")),
        ("Bytes of the file", "bytes", lambda f: f.file_bytes, lambda v: si(v, "B")),
        ("Latency", "time of a run", lambda f: f.latency_us, _microseconds),
        ("CPU", "CPU time of a run", lambda f: f.cpu_us, _microseconds),
    ]
    for title, axis, cost, show in costs:
        values = [cost(form) for form in advice.forms]
        known = [value for value in values if value is not None]
        if len(known) != len(values):
            continue
        spots = [_spot(*one, advice.halves[0]) for one in zip(advice.forms, known, strict=True)]
        yield card(cost_chart(spots, title, axis, show, labelled))


def _spot(form: Form, cost: float, samples: int) -> Spot:
    interval = wilson(round(form.accuracy * samples), samples)
    return Spot(form.name, max(cost, _LEAST_COST), form.accuracy, interval.low, interval.high)


def _untried(advice: Advice) -> Iterable[str]:
    if advice.untried:
        rows = [[escape(one.name), escape(one.why)] for one in advice.untried]
        table = table_of(["Form", "Why"], rows)
        yield f"<details><summary>What there is no form of, and why</summary>{table}</details>"


def _points(lost: float) -> str:
    return f"{lost * 100 + 0.0:+.2f}pp" if not math.isclose(lost, 0, abs_tol=1e-9) else "0.00pp"


def _share(value: float | None, original: float | None) -> str:
    return "" if value is None or not original else f"{value / original:.1%}"


def _or_dash(value: float | None, show: Callable[[float], str]) -> str:
    return "-" if value is None else show(value)


def _microseconds(value: float) -> str:
    return si(value * 1e-6, "s")
