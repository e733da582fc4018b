"""A schedule as text in TOML, with comments, for a person to read and change. Pure.

TOML has no null: `cpus = "any"`, `escalations_per_s = "unlimited"`, and `"never"` elsewhere (a
line that a signal does not have, a stage that does not leave) stand for it.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from protocols.schedule import (
    LADDER_OF,
    CascadeSchedule,
    ComputeRung,
    ResidencyRung,
    Schedule,
    Signal,
    StageCompute,
    Threshold,
    Window,
)

_NULL = "never"
_NULL_OF = {
    "cpus": "any",
    "escalations_per_s": "unlimited",
    "kib_per_s": "unlimited",
    "mib_per_day": "unlimited",
}
_OF_STAGES = frozenset({"resident", "on_demand"})
"""Lists of names that a person has chosen: a stage may be called `never`."""
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_WITHOUT = frozenset({"v", "version", "thresholds", "windows", "cascades"})
"""Fields that are written in another way, or not at all: the version follows from the others."""

COMPUTE_WORDS = (
    "as tuned",
    "fewer threads, less urgent",
    "the next certified threshold, escalations rationed",
    "one thread, requests spaced",
    "paused",
)
RESIDENCY_WORDS = (
    "all resident",
    "later stages leave when idle",
    "one stage at a time",
    "what the first answer takes, answers marked degraded",
    "nothing loaded, requests get 503",
)


def as_toml(schedule: Schedule, notes: Sequence[str] = ()) -> str:
    """Return a schedule as TOML that `parse_schedule` reads back to the same.

    Args:
        schedule: all of it is written, its version left out: each one that is published gets the
            next.
        notes: lines of comment at its head.
    """
    lines = [f"# {note}".rstrip() for note in notes]
    for name, value in schedule.model_dump(mode="json").items():
        if name not in _WITHOUT:
            described = type(schedule).model_fields[name].annotation
            lines += ["", f"[{name}]", *_scalars(value, _descriptions(described))]
    lines += ["", "# When a signal asks for rungs 1, 2, 3 and 4, and for 4 at once."]
    for signal, threshold in schedule.thresholds.items():
        lines += ["", *_threshold(signal, threshold)]
    lines += ["", *_windows(schedule.windows)]
    for name, row in schedule.cascades.items():
        lines += ["", *_rows(_key(name), row)]
    return "\n".join(lines).lstrip("\n") + "\n"


def with_nulls(value: object, key: str = "") -> object:
    """Return what was read from a text with the words that stand for null replaced."""
    if isinstance(value, dict):
        return {str(k): with_nulls(v, str(k)) for k, v in value.items()}
    if isinstance(value, list):
        return value if key in _OF_STAGES else [with_nulls(one, key) for one in value]
    return None if isinstance(value, str) and value == null_word(key) else value


def clock(minute: int) -> str:
    """Return minutes since midnight as `22:05`."""
    return f"{minute // 60:02}:{minute % 60:02}"


def window_words(window: Window) -> str:
    """Return a window as `22:00-06:00 C1 R2`."""
    rungs = [f"C{window.compute}"] * bool(window.compute)
    rungs += [f"R{window.residency}"] * bool(window.residency)
    span = f"{clock(window.start_minute)}-{clock(window.end_minute)}"
    return " ".join([span, *(rungs or ["C0"])])


def _descriptions(annotation: object) -> Mapping[str, str]:
    fields = getattr(annotation, "model_fields", {})
    return {name: field.description for name, field in fields.items() if field.description}


def _scalars(values: Mapping[str, object], described: Mapping[str, str]) -> Iterator[str]:
    for name, value in values.items():
        words = described.get(name, "").replace("null:", f'"{null_word(name)}":')
        comment = f"  # {words}" if words else ""
        yield f"{_key(name)} = {_value(value, name)}{comment}"


def _threshold(signal: Signal, threshold: Threshold) -> Iterator[str]:
    letter = LADDER_OF[signal][0].upper()
    sign = "at or below" if threshold.falling else "at or above"
    yield f"[thresholds.{signal}]  # {letter}1 to {letter}4, {sign}"
    yield from _scalars(threshold.model_dump(mode="json"), {})


def _windows(windows: Iterable[Window]) -> Iterator[str]:
    yield "# Hours in which a device does no better than a rung: minutes since its midnight."
    found = list(windows)
    if not found:
        yield "# [[windows]]"
        yield f"# start_minute = {22 * 60}  # 22:00"
        yield f"# end_minute = {6 * 60}  # 06:00"
        yield "# compute = 1"
    for window in found:
        yield "[[windows]]"
        for name, value in window.model_dump(mode="json").items():
            yield f"{name} = {value}" + (f"  # {clock(value)}" if name.endswith("minute") else "")


def _rows(name: str, row: CascadeSchedule) -> Iterator[str]:
    yield f"[cascades.{name}]"
    yield f"base_threshold = {row.base_threshold}  # step of the certified thresholds at C0"
    for number, rung in enumerate(row.compute):
        yield ""
        yield f"[[cascades.{name}.compute]]  # C{number}: {COMPUTE_WORDS[number]}"
        yield from _compute(rung, {} if number else _descriptions(ComputeRung))
    for number, rest in enumerate(row.residency):
        yield ""
        yield f"[[cascades.{name}.residency]]  # R{number}: {RESIDENCY_WORDS[number]}"
        described = {} if number else _descriptions(ResidencyRung)
        yield from _scalars(rest.model_dump(mode="json"), described)


def _compute(rung: ComputeRung, described: Mapping[str, str]) -> Iterator[str]:
    yield from _scalars(rung.model_dump(mode="json", exclude={"stages"}), described)
    if not rung.stages:
        yield "stages = {}"
    for stage, compute in rung.stages.items():
        yield f"stages.{_key(stage)} = {_inline(compute)}"


def _inline(compute: StageCompute) -> str:
    fields = compute.model_dump(mode="json").items()
    return "{ " + ", ".join(f"{name} = {_value(value, name)}" for name, value in fields) + " }"


def _value(value: object, key: str) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_value(one, key) for one in value)}]"
    # JSON's strings, numbers, true and false are TOML's too.
    return json.dumps(null_word(key) if value is None else value)


def null_word(key: str) -> str:
    """Return the word that stands for null in a field of this name."""
    return _NULL_OF.get(key, _NULL)


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else json.dumps(name)
