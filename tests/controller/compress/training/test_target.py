import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.compress.errors import CompressError
from controller.compress.training.target import Size, Target, file_bytes, of, parse_target

ORIGINAL = Size(parameters=1_000, macs=50_000, bytes=4_100)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("macs=0.1", Target("macs", 0.1)),
        (" bytes = 500k ", Target("bytes", 500_000)),
        ("parameters=1.5M", Target("parameters", 1_500_000)),
        ("macs=.25", Target("macs", 0.25)),
    ],
)
def test_a_target_is_a_share_or_a_number(text: str, target: Target) -> None:
    assert parse_target(text) == target


@pytest.mark.parametrize("text", ["", "macs", "macs=", "flops=0.1", "macs=-1", "macs=0", "macs=x"])
def test_what_is_no_target_is_refused(text: str) -> None:
    with pytest.raises(CompressError, match="cannot use target"):
        parse_target(text)


def test_one_is_a_number_and_no_share() -> None:
    assert Target("macs", 1).limit(ORIGINAL) == 1
    assert Target("macs", 0.5).limit(ORIGINAL) == 25_000


@given(share=st.floats(0.001, 0.99), steps=st.integers(1, 20))
def test_milestones_fall_by_one_factor_to_the_target(share: float, steps: int) -> None:
    limits = Target("macs", share).milestones(ORIGINAL, steps)

    assert len(limits) == steps
    assert limits[-1] == pytest.approx(share * ORIGINAL.macs)
    pairs = zip((ORIGINAL.macs, *limits), limits, strict=False)
    assert [after / before for before, after in pairs] == pytest.approx(
        [share ** (1 / steps)] * steps
    )


def test_a_target_above_the_original_is_refused() -> None:
    with pytest.raises(CompressError, match=r"cannot come down to bytes 5,000: .* 4,100 already"):
        Target("bytes", 5_000).milestones(ORIGINAL, 3)


def test_a_size_has_three_measures() -> None:
    assert [of(ORIGINAL, m) for m in ("parameters", "macs", "bytes")] == [1_000, 50_000, 4_100]


def test_int8_pays_for_each_channels_scale() -> None:
    assert file_bytes(1_000, 10, 2, is_int8=False) == 6_040
    assert file_bytes(1_000, 10, 2, is_int8=True) == 3_280
