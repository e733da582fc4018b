"""Slow sources: the thread that decides never waits, a loss is null and told once."""

import threading
import time

import pytest

from agent.errors import HungError, SensorError
from agent.sensors.background import Background, Pace, Report
from agent.sensors.reading import NOTHING, Reading
from tests.agent.sensors.machines import until

PACE = Pace(every_s=10.0, limit_s=5.0)


class Source:
    """Says what it is told to, and counts how often it was asked."""

    def __init__(self) -> None:
        self.says: Report | BaseException = Report(Reading(battery_percent=50.0))
        self.asked = 0

    def __call__(self) -> Report:
        self.asked += 1
        if isinstance(self.says, BaseException):
            raise self.says
        return self.says


def ask(background: Background, now_s: float) -> Reading:
    """Begin a reading if one is due, and wait for its end."""
    background.latest(now_s)
    seen: list[Reading] = []

    def over() -> bool:
        seen.append(background.latest(now_s))
        return not background.asks

    until(over)
    return seen[-1]


def test_a_reading_holds_until_two_more_should_have_come() -> None:
    source = Source()
    slow = Background("ups", source, PACE)
    assert slow.latest(0.0) == NOTHING
    assert ask(slow, 0.0).battery_percent == 50
    assert slow.latest(9.9).battery_percent == 50
    assert source.asked == 1
    stopped = threading.Event()
    slow.take = lambda: (stopped.wait(20), source())[1]
    assert slow.latest(10.0).battery_percent == 50
    assert slow.latest(15.1) == NOTHING
    assert slow.complaints() == ("cannot read ups: no answer within 5 s",)
    assert slow.latest(16.0) == slow.latest(500.0) == NOTHING
    assert slow.complaints() == ()
    assert source.asked == 1, "one at a time"
    stopped.set()
    until(lambda: slow.latest(500.0).battery_percent == 50)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(121, "Remote I/O error"), "OSError(121, 'Remote I/O error')"),
        (SensorError("no such bus"), "no such bus"),
        (SystemExit(3), "SystemExit(3)"),
        (ValueError("x" * 9999), "xxx"),
    ],
)
def test_what_raises_is_null_told_once_and_asked_less_often(
    error: BaseException, words: str
) -> None:
    source = Source()
    slow = Background("ups", source, PACE)
    ask(slow, 0.0)
    source.says = error
    assert ask(slow, 10.0) == NOTHING
    (complaint,) = slow.complaints()
    assert complaint.startswith("cannot read ups: ")
    assert words in complaint
    assert len(complaint) < 300
    slow.latest(29.0)
    assert source.asked == 2
    ask(slow, 30.0)
    assert source.asked == 3
    slow.latest(69.0)
    assert source.asked == 3
    assert slow.complaints() == ()
    source.says = Report(Reading(battery_percent=0.0))
    assert ask(slow, 700.0).battery_percent == 0
    ask(slow, 710.0)
    assert source.asked == 5


def test_what_comes_and_goes_does_not_fill_the_events() -> None:
    source = Source()
    slow = Background("ups", source, PACE)
    told = 0
    for n in range(60):
        source.says = Report(NOTHING) if n % 2 else OSError("loose contact")
        ask(slow, 20.0 * n)
        told += len(slow.complaints())
    assert told == 2, "20 minutes, once in ten"


def test_a_part_that_is_nonsense_is_told_and_the_rest_holds() -> None:
    source = Source()
    source.says = Report(Reading(battery_percent=50.0), "power_w is nan")
    slow = Background("ups", source, PACE)
    assert ask(slow, 0.0).battery_percent == 50
    assert ask(slow, 10.0).battery_percent == 50
    assert slow.complaints() == ("cannot read ups: power_w is nan",)


def test_what_hangs_again_and_again_is_left_alone() -> None:
    source = Source()
    source.says = HungError("no answer")
    slow = Background("termux", source, PACE)
    for n in range(20):
        ask(slow, 1000.0 * n)
    assert source.asked == 3
    assert slow.complaints() == ("cannot read termux: no answer",)


def test_the_thread_that_decides_does_not_wait() -> None:
    stopped = threading.Event()
    slow = Background("ups", lambda: Report(Reading() if stopped.wait(20) else NOTHING), PACE)
    begun_s = time.monotonic()
    for n in range(100):
        slow.latest(float(n))
    assert time.monotonic() - begun_s < 1
    stopped.set()
