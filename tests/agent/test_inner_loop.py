"""The inner loop's edge: what is read twice, what a recovery asks; and its timer."""

from dataclasses import dataclass

from agent.inner_loop import InnerLoop
from agent.timer import Timer
from protocols.device import Sample
from protocols.schedule import DEFAULT_THRESHOLDS, Dwell, Schedule, Threshold


@dataclass
class Scripted:
    """Sensors that give one reading after the other, and then the last one for ever."""

    percents: list[float]
    taken: int = 0

    def sample(self, now_s: float) -> Sample:
        percent = self.percents[min(self.taken, len(self.percents) - 1)]
        self.taken += 1
        return Sample(
            time_s=now_s,
            memory_total_mib=1000,
            memory_available_mib=percent * 10,
            memory_available_percent=percent,
        )


SCHEDULE = Schedule(
    thresholds={"memory_available_percent": DEFAULT_THRESHOLDS["memory_available_percent"]},
    dwell=Dwell(hold_s=2, recover_s=3),
)


def looping(*percents: float) -> tuple[InnerLoop, Scripted, list[float]]:
    sensors, clock = Scripted(list(percents)), [0.0]
    return InnerLoop(sensors, SCHEDULE, 1.0, lambda: clock[0]), sensors, clock


def test_before_an_unload_memory_is_read_once_more() -> None:
    found, sensors, _ = looping(90, 5, 90)
    assert found.sense(SCHEDULE, lambda *_: True) == ()
    assert found.rungs.residency == 0
    assert sensors.taken == 3
    found, sensors, _ = looping(90, 5, 5)
    (change,) = found.sense(SCHEDULE, lambda *_: True)
    assert (change.before, change.after) == (0, 4)
    assert sensors.taken == 3


def test_a_recovery_asks_whether_it_fits_by_the_sample_at_hand() -> None:
    found, _, clock = looping(90, 5, 5, 90)
    found.sense(SCHEDULE, lambda *_: True)
    asked: list[tuple[float | None, int]] = []

    def fits(sample: Sample, rung: int) -> bool:
        asked.append((sample.memory_available_mib, rung))
        return len(asked) > 1

    for clock[0] in (1.0, 2.0, 3.0, 4.0):
        found.sense(SCHEDULE, fits)
    assert asked == [(900, 3), (900, 3)]
    assert found.rungs.residency == 3


def test_it_says_when_to_look_for_the_end_of_a_hold() -> None:
    found, _, clock = looping(90, 17)
    assert found.due_s == float("inf")
    clock[0] = 1.0
    found.sense(SCHEDULE, lambda *_: True)
    assert found.due_s == 3.0
    clock[0] = found.due_s
    (change,) = found.sense(SCHEDULE, lambda *_: True)
    assert (change.before, change.after) == (0, 2)
    assert found.due_s == float("inf")


def test_a_schedule_cannot_make_every_sample_stale() -> None:
    found, _, clock = looping(90, 5, 5, 5)
    strict = SCHEDULE.with_(
        dwell=SCHEDULE.dwell.with_(stale_s=0.1),
        thresholds={"memory_available_percent": Threshold(enter=(8, 8, 8, 8), falling=True)},
    )
    for clock[0] in (1.0, 2.0, 3.0, 4.0):
        found.sense(strict, lambda *_: True)
    assert found.rungs.residency == 4


def test_a_timer_is_due_again_and_again_and_skips_what_it_missed() -> None:
    timer = Timer(1.0, 10.0)
    assert timer.is_due(10.0)
    assert not timer.is_due(10.9)
    assert timer.is_due(11.05)
    assert timer.at_s == 12.0
    assert timer.is_due(20.0)
    assert timer.at_s == 20.0
    assert not Timer(None, 0.0).is_due(1e9)
