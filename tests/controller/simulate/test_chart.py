import re
from xml.etree import ElementTree as ET

from hypothesis import given, settings

from controller.simulate.chart import draw
from controller.simulate.replay import Course, replay
from controller.simulate.trace import Trace, TraceLine, trace_of
from protocols.device import CascadeStats, StageStats
from tests.controller.simulate.traces import PATIENT, course_of, digits, line, traces

SVG = "{http://www.w3.org/2000/svg}"
ACROSS, DOWN = ("x", "x1", "x2", "cx"), ("y", "y1", "y2", "cy")


def drawn(course: Course) -> ET.Element:
    root = ET.fromstring(draw(course, "a <trace>", "on & off"))  # noqa: S314 - our own
    assert root.tag == f"{SVG}svg"
    return root


def words_of(root: ET.Element) -> list[str]:
    return [one.text or "" for one in root.iter(f"{SVG}text")]


@given(traces())
@settings(max_examples=40)
def test_any_trace_is_drawn_on_its_paper(trace: Trace) -> None:
    root = drawn(replay(trace, digits(), PATIENT))
    width, height = float(root.get("width", "0")), float(root.get("height", "0"))
    for one in root.iter():
        points = re.findall(r"(\S+),(\S+)", one.get("points", ""))
        across = [*(one.get(name, "0") for name in ACROSS), *(x for x, _ in points)]
        down = [*(one.get(name, "0") for name in DOWN), *(y for _, y in points)]
        assert all(0 <= float(x) <= width for x in across)
        assert all(0 <= float(y) <= height for y in down)


def test_a_sample_that_knows_nothing_has_no_signals_to_draw() -> None:
    said = words_of(drawn(replay(trace_of([TraceLine(time_s=5)]), digits(), PATIENT)))
    assert "Rung, residency" in said
    assert not any(title in said for title in ("CPU, % of all", "Battery, %", "State"))


def test_it_says_what_is_drawn_and_in_which_units() -> None:
    said = words_of(drawn(replay(course_of((700, 17, 75)), digits(), PATIENT)))
    for words in (
        "a <trace>",
        "on & off",
        "Memory available, %",
        "CPU, % of all",
        "Rung, residency",
        "Rung, compute",
        "Models, MiB",
        "Threads a stage may use",
        "Steps shed by the planner",
        "small int8, large fp32",
        "small int8, large dropped",
        "digits/large",
        "R4",
        "C4",
        "time since the first sample, min",
        "hard line",
    ):
        assert words in said
    assert "as the device reported" not in said


def test_transitions_carry_their_cause_and_revisions_their_number() -> None:
    course = replay(course_of((700, 60, 75)), digits(), PATIENT)
    root = drawn(course)
    titles = [one.text for one in root.iter(f"{SVG}title")]
    assert "C0 -> C2: foreign CPU 75 % >= 70 % for 4 s" in titles
    assert {"2", "3"} <= set(words_of(root))


def test_what_the_device_reported_stands_beside() -> None:
    stage = StageStats(name="small", variant="int8", loaded=True, loaded_mib=900.0)
    stats = CascadeStats(name="digits", version=1, stages=(stage,))
    lines = [line(float(n), rungs={"compute": 2}, cascades=(stats,)) for n in range(10)]
    said = words_of(drawn(replay(trace_of(lines), digits(), PATIENT)))
    assert said.count("as the device reported") == 3
    assert "800" in said


def test_a_restart_is_marked() -> None:
    lines = [line(float(n), boot_id=str(n // 5)) for n in range(10)]
    assert "restart" in words_of(drawn(replay(trace_of(lines), digits(), PATIENT)))
