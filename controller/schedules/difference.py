"""What is different between two schedules, figure by figure. Pure."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from controller.schedules.text import null_word, window_words
from protocols.schedule import LADDER_OF, CascadeSchedule, Schedule

_SPECIAL = frozenset({"v", "version", "thresholds", "windows", "cascades"})


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure that two schedules do not share; None: the schedule says nothing of it."""

    place: str
    """What it is of: `lines`, `dwell`, `digits C1`, `digits R2`."""
    what: str
    before: str | None
    after: str | None


def differences(before: Schedule, after: Schedule) -> tuple[Difference, ...]:
    """Return every figure in which two schedules differ, in a schedule's order.

    Their versions are no figure: the same rows may have been published twice.
    """
    # What only one of them has is one difference, not a hundred.
    both = before.cascades.keys() & after.cascades.keys()
    was, now = (
        {
            **_only(one, both),
            **dict(_figures(one.with_(cascades={n: one.cascades[n] for n in both}))),
        }
        for one in (before, after)
    )
    return tuple(
        Difference(*key, was.get(key), now.get(key))
        for key in {**was, **now}
        if was.get(key) != now.get(key)
    )


_Figure = tuple[tuple[str, str], str]


def _only(schedule: Schedule, both: Collection[str]) -> dict[tuple[str, str], str]:
    return {(name, "rows"): "has some" for name in schedule.cascades if name not in both}


def _figures(schedule: Schedule) -> Iterator[_Figure]:
    for signal, line in schedule.thresholds.items():
        letter = LADDER_OF[signal][0].upper()
        for number, value in enumerate(line.enter, 1):
            yield ("lines", f"{signal} {letter}{number}"), _words(value, "never")
        yield ("lines", f"{signal} hard"), _words(line.hard, "never")
        yield ("lines", f"{signal} falling"), _words(line.falling)
    for name, section in schedule.model_dump(mode="json").items():
        if name not in _SPECIAL and isinstance(section, Mapping):
            for field, value in section.items():
                yield (name, field), _words(value, null_word(field))
    windows = "; ".join(map(window_words, schedule.windows))
    yield ("windows", "no better than"), windows or "none"
    for name, row in schedule.cascades.items():
        yield from _figures_of_row(name, row)


def _figures_of_row(name: str, row: CascadeSchedule) -> Iterator[_Figure]:
    yield (name, "base threshold"), str(row.base_threshold)
    for number, rung in enumerate(row.compute):
        place = f"{name} C{number}"
        for stage, compute in rung.stages.items():
            yield (place, f"{stage} layout"), compute.layout
            yield (place, f"{stage} threads"), str(compute.threads)
            yield (place, f"{stage} cpus"), _words(compute.cpus, "any")
            yield (place, f"{stage} nice"), str(compute.nice)
        yield (place, "threshold step"), str(rung.threshold_step)
        yield (place, "escalations/s"), _words(rung.escalations_per_s, "unlimited")
        yield (place, "spaced"), _words(rung.spaced)
        yield (place, "paused"), _words(rung.paused)
    for number, rest in enumerate(row.residency):
        place = f"{name} R{number}"
        yield (place, "resident"), _words(rest.resident)
        yield (place, "on demand"), _words(rest.on_demand)
        yield (place, "idle unload s"), _words(rest.idle_unload_s, "never")
        yield (place, "one at a time"), _words(rest.one_at_a_time)


def _words(value: object, nothing: str = "") -> str:
    if value is None:
        return nothing
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (tuple, list)):
        return ",".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
