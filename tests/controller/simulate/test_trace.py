from itertools import pairwise

import pytest
from hypothesis import given, settings

from controller.simulate.trace import Trace, TraceLine, encode_line, parse_trace, trace_of
from protocols.device import CascadeStats, Rungs
from protocols.errors import MessageError
from tests.controller.simulate.traces import line, traces

GOOD = b'{"time_s": 1, "foreign_cpu_percent": 5}'


@given(traces())
@settings(max_examples=40)
def test_what_is_written_is_read_again(trace: Trace) -> None:
    assert parse_trace([encode_line(one) for one in trace.lines], "x") == trace


def test_what_a_device_reported_is_read_again() -> None:
    stats = CascadeStats(name="digits", version=2, stages=(), answers=7)
    one = line(3.0, ts=1.76e9, seq=4, boot_id="b", device="pi", local_minute=61)
    one = one.with_(rungs=Rungs(residency=2, residency_cause="memory"), cascades=(stats,))
    assert parse_trace([encode_line(one)], "x").lines == (one,)


@given(traces())
@settings(max_examples=40)
def test_time_rises_whatever_the_clock_of_the_device_does(trace: Trace) -> None:
    assert trace.at_s[0] == 0
    assert all(before < after for before, after in pairwise(trace.at_s))
    assert trace.interval_s > 0


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([GOOD, b'{"time_s": 2, "foreign_cpu'], "line 2: document: Invalid JSON"),
        ([GOOD, b""], ""),
        ([b"\x80\xff"], "line 1: document: Invalid JSON"),
        ([b"[1, 2]"], "line 1: document: Input should be an object"),
        ([b'{"foreign_cpu_percent": 5}'], "line 1: time_s: Field required"),
        ([b'{"time_s": NaN}'], "line 1: "),
        ([b'{"time_s": 1, "memory_availble_percent": 5}'], "line 1: memory_availble_percent: "),
        ([b'{"time_s": 1, "local_minute": 1440}'], "line 1: local_minute: "),
        ([GOOD, b"", b'{"time_s": 1}'], "line 3: time_s 1 is not after 1, that of the line before"),
        ([GOOD, b'{"time_s": 2, "device": "pi"}'], "line 2: it is of device pi, the line before"),
        ([], "there is no sample in it"),
        ([b"", b"  "], "there is no sample in it"),
    ],
)
def test_a_damaged_trace_is_refused_with_the_number_of_its_line(
    lines: list[bytes], why: str
) -> None:
    if not why:
        assert len(parse_trace(lines, "t.jsonl").lines) == 1
        return
    with pytest.raises(MessageError) as refused:
        parse_trace(lines, "t.jsonl")
    assert str(refused.value).startswith(f"cannot read trace t.jsonl: {why}")


def two_runs(first_ts: float | None, second_ts: float | None) -> Trace:
    return trace_of(
        [
            TraceLine(time_s=100, boot_id="a", ts=first_ts),
            TraceLine(time_s=105, boot_id="a", ts=first_ts and first_ts + 5),
            TraceLine(time_s=2, boot_id="b", ts=second_ts),
        ]
    )


@pytest.mark.parametrize(
    ("trace", "apart_s"),
    [
        (two_runs(1e9, 1e9 + 65), 60),
        (two_runs(1e9, None), 5),
        (two_runs(None, 1e9), 5),
        (two_runs(1e9, 5.0), 5),
    ],
)
def test_between_two_runs_the_wall_clock_counts_where_it_goes_on(
    trace: Trace, apart_s: float
) -> None:
    assert trace.begins == (False, False, True)
    assert trace.at_s[2] - trace.at_s[1] == apart_s
