"""Which form to take, and why."""

from hypothesis import given
from hypothesis import strategies as st

from controller.compress.advise.choice import Form, choose, front
from controller.compress.advise.reasons import reasons
from controller.compress.advise.target import parse_target
from tests.controller.compress.advise.forms import FP16, INT8, MIXED, PALETTE_4, PRUNE, form

ORIGINAL = form(wire_bytes=10_000, latency_us=1000, accuracy=0.95)
NARROW = form(INT8, wire_bytes=2500, latency_us=300, accuracy=0.95)
TOGETHER = form(INT8, PALETTE_4, wire_bytes=1200, latency_us=300, accuracy=0.948)
SPOILT = form(PRUNE, wire_bytes=900, latency_us=300, accuracy=0.6)
HALF = form(FP16, wire_bytes=5000, latency_us=1000, accuracy=0.95)
FORMS = [ORIGINAL, NARROW, TOGETHER, SPOILT, HALF]
TARGET = parse_target("accuracy_loss<=0.5pp, latency<=0.5ms, bytes<=2000")


def said(forms: list[Form], text: str) -> str:
    target = parse_target(text)
    return " ".join(reasons(choose(forms, target), forms[0], target, (500, 500)))


def test_of_those_that_meet_the_target_the_least_bytes_times_time_is_taken() -> None:
    choice = choose(FORMS, TARGET)

    assert choice.form is TOGETHER
    assert choice.misses == ()
    assert choice.second is None
    assert choice.single is NARROW
    assert not choice.single_meets
    assert [(bound.word, other) for bound, other in choice.decided] == [("accuracy_loss", SPOILT)]


def test_what_is_level_in_cost_is_decided_by_accuracy_then_by_steps() -> None:
    better = form(MIXED, wire_bytes=1210, latency_us=305, accuracy=0.95)
    simpler = form(MIXED, wire_bytes=1210, latency_us=305, accuracy=0.948)
    target = parse_target("accuracy_loss<=0.5pp")

    assert choose([*FORMS, better], target).form is better
    assert choose([*FORMS, simpler], target).form is simpler


def test_the_front_holds_what_no_other_beats() -> None:
    assert front(FORMS) == (NARROW, TOGETHER, SPOILT)


def test_times_within_five_percent_are_level_on_the_front() -> None:
    a_hair_slower = form(INT8, PALETTE_4, wire_bytes=1200, latency_us=310, accuracy=0.95)
    hardly_faster = form(INT8, wire_bytes=2500, latency_us=300, accuracy=0.95)

    assert front([a_hair_slower, hardly_faster]) == (a_hair_slower,)


_FORMS = st.lists(
    st.builds(
        form,
        accuracy=st.sampled_from([0.7, 0.8, 0.9]),
        wire_bytes=st.integers(1, 5),
        latency_us=st.sampled_from([None, 90.0, 94.0, 98.0, 130.0]),
    ),
    min_size=1,
    max_size=8,
)


@given(_FORMS)
def test_there_is_always_a_front_and_a_form(forms: list[Form]) -> None:
    choice = choose(forms, parse_target("accuracy>=80%, latency<=1ms, bytes<=3"))

    assert choice.front
    assert any(form is choice.form for form in forms)
    least = min(form.wire_bytes for form in forms)
    assert any(form.wire_bytes == least for form in choice.front)


def test_words_say_what_decided_and_what_combining_brought() -> None:
    words = said(FORMS, "accuracy_loss<=0.5pp, latency<=0.5ms, bytes<=3000")

    assert words.startswith("Take int8 + palette 4: it meets the target.")
    assert "without accuracy_loss<=0.5pp it would be prune 0.5" in words
    assert "loses 0.20pp on the 500 samples" in words
    assert "Second best is int8: +108% bytes over the air, the same time" in words
    assert "Against int8, the best single technique, combining brought -52% bytes" in words


def test_a_target_that_cannot_be_met_names_the_closest_and_by_how_much() -> None:
    words = said(FORMS, "accuracy_loss<=0.5pp, latency<=0.5ms, bytes<=1072")

    assert words.startswith(
        "cannot meet bytes<=1072: the closest is int8 + palette 4: misses bytes by 12 %"
    )


def test_what_the_held_out_samples_do_not_bear_out_is_said() -> None:
    lucky = form(INT8, wire_bytes=100, accuracy=0.95, held_out=0.93)

    words = said([ORIGINAL, lucky, HALF], "accuracy_loss<=0.5pp")

    assert words.startswith("Take int8: it meets the target.")
    assert (
        "Beware: on the 500 samples held out it does not hold accuracy_loss<=0.5pp, by 1.50pp "
        "(7.5 samples)." in words
    )
    assert words.endswith("the best that holds the target on both halves is fp16.")


def test_what_was_not_timed_meets_no_bound_of_time() -> None:
    untimed = [form(wire_bytes=10, latency_us=None), form(INT8, wire_bytes=5, latency_us=None)]

    assert "latency was not measured" in said(untimed, "latency<=1ms")
    assert said(untimed, "bytes<=7").startswith("Take int8")


def test_the_original_is_kept_where_nothing_else_holds() -> None:
    words = said([ORIGINAL, SPOILT], "accuracy_loss<=0.5pp")

    assert words.startswith("Take original")
    assert "No combination did better than a single technique." in words
