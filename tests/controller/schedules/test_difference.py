from hypothesis import HealthCheck, given, settings

from controller.schedules.difference import Difference, differences
from protocols.schedule import (
    CascadeSchedule,
    Dwell,
    Schedule,
    Threshold,
    Window,
    default_cascade_schedule,
)
from tests.protocols.strategies import messages

ROW = default_cascade_schedule(("small", "large"), 4)
BASE = Schedule(cascades={"digits": ROW})


def with_threads(row: CascadeSchedule, threads: int) -> CascadeSchedule:
    best = row.compute[0]
    stages = {**best.stages, "large": best.stages["large"].with_(threads=threads, cpus=(0, 1))}
    return row.with_(compute=(best.with_(stages=stages), *row.compute[1:]))


def test_every_figure_is_named_with_its_place() -> None:
    line = Threshold(enter=(60, 75, 79, 82))
    changed = BASE.with_(
        version=3,
        dwell=Dwell(hold_s=2),
        thresholds={**BASE.thresholds, "temperature_c": line},
        windows=(Window(start_minute=0, end_minute=60, compute=2),),
        cascades={"digits": with_threads(ROW, 2)},
    )

    assert set(differences(BASE, changed)) == {
        Difference("dwell", "hold_s", "4", "2"),
        Difference("lines", "temperature_c C1", "70", "60"),
        Difference("lines", "temperature_c hard", "83", "never"),
        Difference("windows", "no better than", "none", "00:00-01:00 C2"),
        Difference("digits C0", "large threads", "4", "2"),
        Difference("digits C0", "large cpus", "any", "0,1"),
    }


def test_a_cascade_that_only_one_has_is_one_difference() -> None:
    other = Schedule(cascades={"letters": ROW})

    assert differences(BASE, other) == (
        Difference("digits", "rows", "has some", None),
        Difference("letters", "rows", None, "has some"),
    )


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(messages(Schedule), messages(Schedule))
def test_none_with_itself_and_the_other_way_round(one: Schedule, other: Schedule) -> None:
    assert differences(one, one.with_(version=one.version + 1)) == ()
    there, back = differences(one, other), differences(other, one)
    assert {(d.place, d.what, d.before, d.after) for d in there} == {
        (d.place, d.what, d.after, d.before) for d in back
    }
