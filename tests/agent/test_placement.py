"""Which CPUs are alike, and which ones threads get."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.placement import clamp, core_classes
from protocols.device import CoreClass


def test_big_little_by_capacity() -> None:
    capacity = {0: 446, 1: 446, 2: 446, 3: 446, 4: 1024, 5: 1024}
    max_khz = dict.fromkeys(range(4), 1_416_000) | dict.fromkeys((4, 5), 1_800_000)
    assert core_classes(capacity, max_khz, range(6)) == (
        CoreClass(cpus=(4, 5), capacity=1024, max_mhz=1800),
        CoreClass(cpus=(0, 1, 2, 3), capacity=446, max_mhz=1416),
    )


def test_the_clock_decides_where_a_capacity_is_missing() -> None:
    max_khz = {0: 1_000_000, 1: 1_000_000, 2: 2_000_000}
    assert core_classes({0: 512}, max_khz, range(3)) == (
        CoreClass(cpus=(2,), capacity=1024, max_mhz=2000),
        CoreClass(cpus=(0, 1), capacity=512, max_mhz=1000),
    )


def test_without_any_fact_all_cpus_are_alike() -> None:
    assert core_classes({}, {0: 1_500_000}, range(4)) == (
        CoreClass(cpus=(0, 1, 2, 3), capacity=1024, max_mhz=1500),
    )
    assert core_classes({}, {}, (3, 1))[0].max_mhz is None


def test_the_mask_cuts_and_the_fastest_that_is_left_counts_1024() -> None:
    classes = core_classes({0: 446, 1: 446, 4: 1024}, {}, {0, 1})
    assert classes == (CoreClass(cpus=(0, 1), capacity=1024),)


def test_clocks_that_differ_a_little_make_no_class() -> None:
    max_khz = {0: 5_000_000, 1: 5_200_000, 2: 5_100_000, 3: 3_800_000}
    assert [group.cpus for group in core_classes({}, max_khz, range(4))] == [(0, 1, 2), (3,)]


def test_no_cpus_no_classes() -> None:
    assert core_classes({}, {}, ()) == ()


@given(
    st.dictionaries(st.integers(0, 15), st.integers(0, 1024)),
    st.dictionaries(st.integers(0, 15), st.integers(0, 5_000_000)),
    st.sets(st.integers(0, 15)),
)
def test_every_allowed_cpu_is_in_one_class_and_the_fastest_come_first(
    capacity: dict[int, int], max_khz: dict[int, int], allowed: set[int]
) -> None:
    classes = core_classes(capacity, max_khz, allowed)
    assert sorted(cpu for group in classes for cpu in group.cpus) == sorted(allowed)
    capacities = [group.capacity for group in classes]
    assert capacities == sorted(capacities, reverse=True)
    assert capacities[:1] == ([1024] if allowed else [])


@pytest.mark.parametrize(
    ("threads", "cpus", "allowed", "expected"),
    [
        (4, None, {0, 1}, (2, None)),
        (4, (2, 3), {0, 1, 2, 3}, (2, (2, 3))),
        (4, (2, 3), {0, 1, 2}, (1, (2,))),
        (2, (6, 7), {0, 1, 2}, (2, None)),
        (1, (0,), {0, 1}, (1, (0,))),
        (3, None, set(), (3, None)),
        (0, None, {0}, (1, None)),
    ],
)
def test_clamp(
    threads: int,
    cpus: tuple[int, ...] | None,
    allowed: set[int],
    expected: tuple[int, tuple[int, ...] | None],
) -> None:
    assert clamp(threads, cpus, allowed) == expected


@given(
    st.integers(0, 300),
    st.none() | st.lists(st.integers(0, 9), unique=True).map(tuple),
    st.sets(st.integers(0, 9), min_size=1),
)
def test_never_more_threads_than_cpus_in_the_mask(
    threads: int, cpus: tuple[int, ...] | None, allowed: set[int]
) -> None:
    count, mine = clamp(threads, cpus, allowed)
    assert 1 <= count <= len(allowed if mine is None else mine)
    assert mine is None or set(mine) <= allowed
