"""How a replay reads: facts, three tables, and one document. Pure."""

from collections.abc import Iterator, Sequence
from typing import Any, get_args

from controller.cli.output import Column
from controller.fleet import GAP_S
from controller.simulate.replay import Course, Move, Revision
from controller.simulate.trace import Trace
from protocols.schedule import RUNGS, Ladder

_LETTERS: dict[Ladder, str] = {"residency": "R", "compute": "C"}

RungRow = tuple[int, float, float]
"""A rung, and the seconds at it on both ladders."""


def clock(at_s: float) -> str:
    """Return a time since the first sample as h:mm:ss."""
    minutes, seconds = divmod(int(at_s), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


def facts(course: Course, trace: Trace, what: str) -> Iterator[tuple[str, object]]:
    """Yield what a replay was made of."""
    every = f"{course.interval_s:.3g} s"
    yield "Trace", f"{len(course.frames)} samples in {clock(course.span_s)}, one every {every}"
    if trace.device is not None:
        yield "Recorded on", trace.device
    yield "Replayed on", what
    if course.starts_s:
        yield "Agent started anew", ", ".join(map(clock, course.starts_s))
    if course.gaps_s:
        yield "Not recorded", f"{clock(course.gaps_s)} in gaps of over {course.stale_s:.3g} s"
    yield from _left_out(course)
    agreed = [
        f"{share:.1%} of the samples on {ladder}"
        for ladder in get_args(Ladder)
        if (share := course.agreement(ladder)) is not None
    ]
    if agreed:
        yield "As the device reported", ", ".join(agreed)


def _left_out(course: Course) -> Iterator[tuple[str, object]]:
    """Yield what a trace does not have that something would go by."""
    timed = any(frame.line.local_minute is not None for frame in course.frames)
    if course.frames[0].desired.schedule.windows and not timed:
        yield "Windows", "none applied: the trace has no local_minute"
    if course.interval_s > GAP_S:
        yield "Planner", f"needs a sample every {GAP_S:g} s to revise anything"


def tables(course: Course) -> Iterator[tuple[str, Sequence[Any], Sequence[Column[Any]]]]:
    """Yield the tables: title, rows and columns; those without rows are left out."""
    known_s = course.span_s - course.gaps_s
    yield "Time at each rung", _rung_rows(course), _rung_columns(known_s)
    if course.moves:
        yield "Transitions", course.moves, _MOVE_COLUMNS
    yield "Planner", course.revisions, _REVISION_COLUMNS


def _rung_rows(course: Course) -> list[RungRow]:
    pairs = zip(course.seconds_at("residency"), course.seconds_at("compute"), strict=True)
    return [(rung, *pair) for rung, pair in zip(range(RUNGS), pairs, strict=True)]


def _rung_columns(known_s: float) -> list[Column[RungRow]]:
    def share(seconds: float) -> str:
        return f"{seconds / known_s:.1%}" if known_s else "-"

    return [
        Column("RUNG", lambda row: row[0]),
        Column("RESIDENCY", lambda row: clock(row[1]), right=True),
        Column("SHARE", lambda row: share(row[1]), right=True),
        Column("COMPUTE", lambda row: clock(row[2]), right=True),
        Column("SHARE", lambda row: share(row[2]), right=True),
    ]


def _walk(move: Move) -> str:
    letter = _LETTERS[move.change.ladder]
    return f"{letter}{move.change.before} -> {letter}{move.change.after}"


_MOVE_COLUMNS: list[Column[Move]] = [
    Column("AT", lambda move: clock(move.at_s), right=True),
    Column("MOVE", _walk),
    Column("CAUSE", lambda move: move.change.cause or None, wrap=True),
]

_REVISION_COLUMNS: list[Column[Revision]] = [
    Column("AT", lambda one: clock(one.at_s), right=True),
    Column("GENERATION", lambda one: one.desired.generation, right=True),
    Column("SHED", lambda one: one.desired.shed, right=True),
    Column("WHY", lambda one: one.desired.reason, wrap=True),
]


def document(course: Course, trace: Trace, what: str) -> dict[str, object]:
    """Return all that the tables say, for programs."""
    ladders: tuple[Ladder, ...] = get_args(Ladder)
    return {
        "samples": len(course.frames),
        "span_s": course.span_s,
        "interval_s": course.interval_s,
        "not_recorded_s": course.gaps_s,
        "recorded_on": trace.device,
        "replayed_on": what,
        "started_anew_s": course.starts_s,
        "seconds_at_rung": {ladder: course.seconds_at(ladder) for ladder in ladders},
        "agreement": {ladder: course.agreement(ladder) for ladder in ladders},
        "transitions": [
            {
                "at_s": move.at_s,
                "ladder": move.change.ladder,
                "before": move.change.before,
                "after": move.change.after,
                "cause": move.change.cause,
            }
            for move in course.moves
        ],
        "revisions": [
            {
                "at_s": one.at_s,
                "generation": one.desired.generation,
                "shed": one.desired.shed,
                "reason": one.desired.reason,
                "cascades": one.desired.cascades,
            }
            for one in course.revisions
        ],
    }
