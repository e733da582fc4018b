"""Which CPUs are alike, and which ones threads get."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.placement import Speeds, clamp, core_classes, knows
from protocols.device import CoreClass, CoreSource


def test_big_little_by_capacity() -> None:
    capacity = {0: 446, 1: 446, 2: 446, 3: 446, 4: 1024, 5: 1024}
    max_khz = dict.fromkeys(range(4), 1_416_000) | dict.fromkeys((4, 5), 1_800_000)
    found = core_classes({"cpu_capacity": capacity, "cpuinfo_max_freq": max_khz}, max_khz, range(6))
    assert found == (
        (
            CoreClass(cpus=(4, 5), capacity=1024, max_mhz=1800),
            CoreClass(cpus=(0, 1, 2, 3), capacity=446, max_mhz=1416),
        ),
        "cpu_capacity",
    )


def test_the_next_source_decides_where_one_does_not_know_every_cpu() -> None:
    speeds: Speeds = {"cpu_capacity": {0: 512}, "midr": {0: 1.0, 1: 1.0, 2: 2.0}}
    assert core_classes(speeds, {}, range(3)) == (
        (CoreClass(cpus=(2,), capacity=1024), CoreClass(cpus=(0, 1), capacity=512)),
        "midr",
    )


def test_a_source_that_finds_all_alike_leaves_the_word_to_one_that_does_not() -> None:
    same = dict.fromkeys(range(4), 1024)
    midr = {0: 1.0, 1: 1.0, 2: 2.0, 3: 2.0}
    classes, source = core_classes({"cpu_capacity": same, "midr": midr}, {}, range(4))
    assert ([group.cpus for group in classes], source) == ([(2, 3), (0, 1)], "midr")
    classes, source = core_classes({"cpu_capacity": same, "midr": same}, {}, range(4))
    assert ([group.cpus for group in classes], source) == ([(0, 1, 2, 3)], "cpu_capacity")


def test_without_any_fact_all_cpus_are_alike() -> None:
    classes, source = core_classes({"cpu_capacity": {}}, {0: 1_500_000}, range(4))
    assert classes == (CoreClass(cpus=(0, 1, 2, 3), capacity=1024, max_mhz=1500),)
    assert source is None
    assert core_classes({}, {}, (3, 1))[0][0].max_mhz is None


def test_the_mask_cuts_and_the_fastest_that_is_left_counts_1024() -> None:
    classes, _source = core_classes({"cpu_capacity": {0: 446, 1: 446, 4: 1024}}, {}, {0, 1})
    assert classes == (CoreClass(cpus=(0, 1), capacity=1024),)


@pytest.mark.parametrize(
    ("source", "speeds", "groups"),
    [
        ("cpuinfo_max_freq", (5_000_000, 5_200_000, 5_100_000, 3_800_000), [(0, 1, 2), (3,)]),
        ("cpu_capacity", (1024, 850, 1024, 850), [(0, 2), (1, 3)]),
        ("measured", (1024, 850, 1024, 850), [(0, 1, 2, 3)]),
        ("measured", (1024, 700, 1024, 700), [(0, 2), (1, 3)]),
    ],
)
def test_what_differs_a_little_is_alike_and_more_so_if_it_was_measured(
    source: CoreSource, speeds: tuple[int, ...], groups: list[tuple[int, ...]]
) -> None:
    classes, _source = core_classes({source: dict(enumerate(speeds))}, {}, range(4))
    assert [group.cpus for group in classes] == groups


def test_no_cpus_no_classes() -> None:
    assert core_classes({"midr": {0: 1.0}}, {}, ()) == ((), None)


_SPEEDS = st.dictionaries(st.integers(0, 15), st.floats(0, 5_000_000))


@given(st.lists(_SPEEDS, min_size=3, max_size=3), st.sets(st.integers(0, 15)))
def test_every_allowed_cpu_is_in_one_class_and_the_fastest_come_first(
    said: list[dict[int, float]], allowed: set[int]
) -> None:
    capacity, clock, measured = said
    speeds: Speeds = {"cpu_capacity": capacity, "cpuinfo_max_freq": clock, "measured": measured}
    classes, source = core_classes(speeds, clock, allowed)
    assert sorted(cpu for group in classes for cpu in group.cpus) == sorted(allowed)
    capacities = [group.capacity for group in classes]
    assert capacities == sorted(capacities, reverse=True)
    assert capacities[:1] == ([1024] if allowed else [])
    assert source is None or knows(speeds[source], allowed)
    assert len(classes) <= 1 or source is not None


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
