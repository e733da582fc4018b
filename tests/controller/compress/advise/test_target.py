"""What is wanted, as it is written."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.compress.advise.target import parse_target
from controller.compress.errors import CompressError


def test_bounds_have_units_and_become_shares_microseconds_and_bytes() -> None:
    target = parse_target(
        "accuracy_loss<=0.5pp, accuracy >= 97%, latency<=0.1ms, cpu<=80us, bytes<=200KiB, "
        "file_bytes<=1.5MB, memory<=20MiB"
    )

    limits = {bound.word: bound.limit for bound in target.bounds}
    assert limits == pytest.approx(
        {
            "accuracy_loss": 0.005,
            "accuracy": 0.97,
            "latency": 100,
            "cpu": 80,
            "bytes": 200 * 1024,
            "file_bytes": 1.5e6,
            "memory": 20 * 1024**2,
        }
    )


def test_a_share_is_one_of_the_original() -> None:
    (bound,) = parse_target("bytes<=5%").bounds

    assert bound.miss(49, original=1000) == 0
    assert bound.miss(60, original=1000) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is empty"),
        ("bytes<=1KiB,", "'' is no bound"),
        ("size<=1KiB", "'size' is not known"),
        ("latency<=5", "it has no unit"),
        ("latency<=5KiB", "'KiB' is no unit"),
        ("latency>=5ms", "write latency<=0.1ms"),
        ("latency<5ms", "write latency<=0.1ms"),
        ("accuracy<=97%", "write accuracy>=97%"),
        ("accuracy>=97", "more than there is"),
        ("accuracy_loss<=-1pp", "is no bound"),
        ("accuracy_loss<=nanpp", "is no bound"),
        ("bytes<=0", "nothing can be so small"),
        ("bytes<=1k, bytes<=2KiB", "'k' is no unit"),
        ("bytes<=1KiB, bytes<=2KiB", "bytes stands twice"),
    ],
)
def test_what_cannot_be_read_says_why(text: str, why: str) -> None:
    with pytest.raises(CompressError, match="cannot read the target: ") as raised:
        parse_target(text)

    assert why in str(raised.value)


@given(st.text("<>=,.%acu 01ms", max_size=40))
def test_whatever_is_written_nothing_but_a_target_is_read(text: str) -> None:
    with suppress(CompressError):
        assert parse_target(text).bounds


def test_a_miss_is_a_share_of_the_limit() -> None:
    loss, accuracy, exact = (
        parse_target(text).bounds[0]
        for text in ("accuracy_loss<=1pp", "accuracy>=90%", "accuracy_loss<=0pp")
    )

    assert loss.miss(0.01, 0) == 0
    assert loss.miss(0.03, 0) == pytest.approx(2)
    assert accuracy.miss(0.95, 0) == 0
    assert accuracy.miss(0.81, 0) == pytest.approx(0.1)
    assert exact.miss(0.005, 0) == pytest.approx(1)
