import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.cli import words
from protocols.device import Rungs, Sample


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (None, None),
        (-3, "0s"),
        (59.9, "59s"),
        (60, "1m"),
        (192, "3m12s"),
        (7500, "2h5m"),
        (86400 * 4 + 3600 * 6 + 5, "4d6h"),
    ],
)
def test_age(seconds: float | None, expected: str | None) -> None:
    assert words.age(seconds) == expected


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (None, None),
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (20 * 1024 * 1024, "20 MiB"),
        (5 * 1024**4, "5120 GiB"),
    ],
)
def test_size(count: int | None, expected: str | None) -> None:
    assert words.size(count) == expected


@given(st.floats(0, 1e18))
def test_a_size_never_shows_four_digits_below_gibibytes(count: float) -> None:
    number, unit = str(words.size(count)).split()
    assert unit == "GiB" or float(number) <= 1024


def test_what_is_not_known_stays_none() -> None:
    empty = Sample(time_s=0)
    assert words.battery(empty) is None
    assert words.temperature(empty) is None
    assert words.rungs(None) is None
    assert words.cascades(None) is None
    assert words.percent(None) is None
    assert words.milliseconds(None) is None


def test_a_plugged_battery_shows_a_plus() -> None:
    sample = Sample(time_s=0, battery_percent=80, battery_plugged=True)
    assert words.battery(sample) == "80%+"
    assert words.battery(sample.with_(battery_plugged=False)) == "80%"


def test_a_long_list_is_cut_and_counted() -> None:
    assert words.listed([]) == ""
    assert words.listed(list("abcdef")) == "a, b, c, d, e, f"
    assert words.listed(list("abcdefg")) == "a, b, c, d, e and 2 more"


def test_rungs() -> None:
    assert words.rungs(Rungs(residency=1, compute=3)) == "R1 C3"
