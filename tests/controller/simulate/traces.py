"""Traces for the tests of the simulation."""

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from controller.planner import PlannerPolicy
from controller.simulate.loops import Subject
from controller.simulate.subject import of_bundle
from controller.simulate.trace import Trace, TraceLine, trace_of
from protocols.schedule import Schedule
from tests.controller.cascades import DIGITS, Piece, make_bundle, ref_of

TOTAL_MIB = 1000.0
PATIENT = PlannerPolicy()


def line(
    at_s: float,
    available: float = 60.0,
    cpu: float = 5.0,
    **more: Any,  # noqa: ANN401 - the fields of a line
) -> TraceLine:
    """Return a sample: memory available and others' CPU, both in %."""
    return TraceLine(
        time_s=at_s,
        foreign_cpu_percent=cpu,
        memory_total_mib=TOTAL_MIB,
        memory_available_mib=TOTAL_MIB * available / 100,
        memory_available_percent=available,
        **more,
    )


def course_of(*spells: tuple[int, float, float], every_s: float = 1.0) -> Trace:
    """Return a trace of spells: (seconds, memory available %, others' CPU %)."""
    loads = [(memory, cpu) for seconds, memory, cpu in spells for _ in range(seconds)]
    step = round(every_s)
    return trace_of(line(float(n), *loads[n]) for n in range(0, len(loads), step))


def digits(
    pieces: Sequence[Piece] = DIGITS,
    schedule: Schedule | None = None,
    memory_mib: float | None = TOTAL_MIB,
) -> Subject:
    """Return an assumed device of four CPUs with a cascade of 4 and 200 (or 60) MiB."""
    bundle = make_bundle(pieces)
    return of_bundle(ref_of(bundle), bundle, cpus=4, memory_mib=memory_mib, schedule=schedule)


percents = st.sampled_from([None, 0.0, 3.5, 7.0, 12.0, 16.0, 24.0, 45.0, 72.0, 81.0, 90.0, 100.0])


@st.composite
def traces(draw: st.DrawFn, most: int = 25) -> Trace:
    """Draw traces with gaps, restarts, and signals that come and go."""
    lines: list[TraceLine] = []
    time_s, boot = draw(st.floats(0, 1e6)), 0
    for _ in range(draw(st.integers(1, most))):
        if lines and draw(st.integers(0, 19)) == 0:
            boot, time_s = boot + 1, draw(st.floats(0, 1e6))
        else:
            time_s += draw(st.sampled_from([0.1, 1.0, 1.0, 5.0, 30.0, 400.0]))
        lines.append(
            TraceLine(
                time_s=time_s,
                boot_id=f"b{boot}",
                memory_total_mib=TOTAL_MIB,
                memory_available_percent=draw(percents),
                psi_memory_some_avg10=draw(percents),
                foreign_cpu_percent=draw(percents),
                temperature_c=draw(percents),
                throttled=draw(st.sampled_from([None, 0, 4])),
                battery_percent=draw(percents),
                battery_plugged=draw(st.sampled_from([None, True, False])),
                local_minute=draw(st.sampled_from([None, 0, 600, 1439])),
            )
        )
    return trace_of(lines)
