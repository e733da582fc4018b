"""What a device may fetch: battery, link, bytes a second and bytes a day."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.storage.allowance import (
    DAY_S,
    Limits,
    Spent,
    filled,
    limits_of,
    obstacle,
    on_day,
    taken,
    used_up,
)
from protocols.chunks import CHUNK_BYTES
from protocols.device import Sample
from protocols.schedule import Downloads

MIB = 1 << 20
LARGE = 33 * MIB


@pytest.mark.parametrize(
    ("left_bytes", "reading", "why"),
    [
        (32 * MIB, {"battery_percent": 5, "battery_plugged": False, "metered": True}, ""),
        (LARGE, {}, ""),
        (LARGE, {"battery_percent": 30, "battery_plugged": False, "metered": False}, ""),
        (LARGE, {"battery_percent": 29, "battery_plugged": True}, ""),
        (
            LARGE,
            {"battery_percent": 29, "battery_plugged": False},
            "the battery is below 30 % and not plugged",
        ),
        (LARGE, {"battery_percent": 29}, "the battery is below 30 % and not plugged"),
        (
            LARGE,
            {"battery_percent": 90, "battery_plugged": True, "metered": True},
            "the link is metered",
        ),
    ],
)
def test_a_large_download_waits_for_charge_and_for_a_link_that_costs_nothing(
    left_bytes: int, reading: dict[str, float], why: str
) -> None:
    sample = Sample.model_validate({"time_s": 1.0, **reading})
    said = obstacle(left_bytes, Downloads(), sample)
    assert said == (why and f"waits: 33 MiB to fetch is a large download, and {why}")


def test_a_person_may_let_large_downloads_use_a_metered_link() -> None:
    sample = Sample(time_s=1.0, metered=True)
    assert obstacle(LARGE, Downloads(metered=True), sample) == ""
    assert obstacle(LARGE, Downloads(large_mib=40), sample) == ""


def test_the_lower_limit_holds() -> None:
    schedule = limits_of(Downloads(kib_per_s=100, mib_per_day=50))
    assert schedule.stricter(Limits(200, 20)) == Limits(100, 20)
    assert schedule.stricter(Limits()) == schedule
    assert Limits().stricter(schedule) == schedule


@given(
    rate=st.floats(1, 10_000),
    steps=st.lists(st.tuples(st.floats(0, 5), st.integers(1, CHUNK_BYTES)), max_size=60),
)
def test_no_more_comes_than_the_rate_and_one_burst(
    rate: float, steps: list[tuple[float, int]]
) -> None:
    now_s, came, bucket = 0.0, 0, filled(None, rate, 0.0)
    for wait_s, count in steps:
        now_s += wait_s
        bucket = filled(bucket, rate, now_s)
        if bucket.balance_bytes >= count:
            bucket = taken(bucket, count)
            came += count
    assert came <= rate * 1024 * now_s + max(CHUNK_BYTES, rate * 1024) + 1e-3


def test_a_bucket_always_fills_for_a_whole_chunk() -> None:
    empty = taken(filled(None, 1.0, 0.0), CHUNK_BYTES)
    assert filled(empty, 1.0, 63.9).balance_bytes < CHUNK_BYTES
    assert filled(empty, 1.0, 64.0).balance_bytes >= CHUNK_BYTES


def test_a_day_ends_at_midnight_utc() -> None:
    spent = Spent(day=19_000, fetched_bytes=7)
    assert on_day(spent, 19_000, 10.0) == spent
    assert on_day(spent, 19_001, 10.0) == Spent(day=19_001)


def test_a_clock_that_is_set_or_set_back_begins_no_new_day() -> None:
    unset = Spent(fetched_bytes=7)
    assert on_day(unset, 19_000, 10.0) == Spent(day=19_000, fetched_bytes=7)
    assert on_day(Spent(day=19_000, fetched_bytes=7), 18_000, 10.0) == Spent(
        day=18_000, fetched_bytes=7
    )


def test_without_a_clock_a_day_is_24_hours() -> None:
    spent = Spent(day=19_000, fetched_bytes=7)
    assert on_day(spent, None, DAY_S - 1) == spent
    assert on_day(spent, None, DAY_S) == Spent()


def test_a_day_that_is_used_up_says_so() -> None:
    spent = Spent(day=19_000, fetched_bytes=10 * MIB - CHUNK_BYTES)
    assert used_up(spent, None, 1 << 40) == ""
    assert used_up(spent, 10, CHUNK_BYTES) == ""
    assert used_up(spent, 10, CHUNK_BYTES + 1) == (
        "waits: the 10 MiB of this day are used up; it goes on the next day, UTC"
    )
    assert "24 hours" in used_up(Spent(fetched_bytes=10 * MIB), 10, 1)
