from hypothesis import given
from hypothesis import strategies as st

from controller.simulate.recording import Recording
from controller.simulate.trace import TraceLine, encode_line, parse_trace
from protocols.device import Rungs, Sample, Telemetry


def message(seq: int, boot_id: str = "b0", time_s: float | None = None) -> Telemetry:
    return Telemetry(
        device="pi",
        boot_id=boot_id,
        seq=seq,
        ts=1.76e9 + seq,
        uptime_s=1.0,
        sample=Sample(time_s=float(seq) if time_s is None else time_s, temperature_c=50.0),
        rungs=Rungs(compute=1),
    )


def recorded(messages: list[Telemetry]) -> list[TraceLine]:
    recording = Recording()
    return [line for one in messages if (line := recording.take(one, 61)) is not None]


def test_a_line_has_all_that_the_message_had() -> None:
    (line,) = recorded([message(7)])
    assert (line.device, line.boot_id, line.seq, line.ts) == ("pi", "b0", 7, 1.76e9 + 7)
    assert (line.time_s, line.temperature_c, line.local_minute) == (7.0, 50.0, 61)
    assert line.rungs == Rungs(compute=1)
    assert line.cascades == ()


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 9)).map(lambda p: message(p[1], f"b{p[0]}")),
        min_size=1,
    )
)
def test_however_messages_come_a_trace_comes_of_it(messages: list[Telemetry]) -> None:
    lines = recorded(messages)
    assert parse_trace(map(encode_line, lines), "x").lines == tuple(lines)
    assert len({(line.boot_id, line.seq) for line in lines}) == len(lines)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 3)), min_size=1))
def test_repeated_and_late_messages_change_nothing(again: list[tuple[int, int]]) -> None:
    """Each is sent so many times, and then some of those before it once more."""
    messages = [
        message(earlier)
        for seq, (back, times) in enumerate(again)
        for earlier in [*[seq] * times, *range(max(0, seq - back), seq)]
    ]
    assert [line.seq for line in recorded(messages)] == list(range(len(again)))


def test_a_sample_that_is_sent_twice_is_one_sample() -> None:
    found = recorded([message(1, time_s=5.0), message(2, time_s=5.0), message(3, time_s=6.0)])
    assert [line.seq for line in found] == [1, 3]


def test_what_an_earlier_run_left_behind_comes_too_late() -> None:
    found = recorded([message(1, "old"), message(0, "new"), message(2, "old"), message(1, "new")])
    assert [(line.boot_id, line.seq) for line in found] == [("old", 1), ("new", 0), ("new", 1)]
