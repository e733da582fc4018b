import pytest

from protocols.device import Inventory, Sample
from protocols.memory import (
    AGENT_MIB,
    RUNNER_MIB,
    budget_mib,
    inventory_budget_mib,
    leaves_room,
    load_floor_percent,
)
from protocols.schedule import DEFAULT_THRESHOLDS, Threshold


@pytest.mark.parametrize(
    ("memory_mib", "limit_mib", "room_mib"),
    [(1000.0, None, 900.0), (1000.0, 500.0, 500.0), (1000.0, 5000.0, 900.0), (None, 300.0, 300.0)],
)
def test_the_smaller_room_less_our_own(
    memory_mib: float | None, limit_mib: float | None, room_mib: float
) -> None:
    assert budget_mib(memory_mib, limit_mib) == room_mib - AGENT_MIB - RUNNER_MIB


def test_what_a_device_does_not_know_limits_nothing() -> None:
    assert budget_mib(None, None) is None
    bare = Inventory(device="pi", agent_version="0", machine="x")
    assert inventory_budget_mib(bare) is None
    assert inventory_budget_mib(bare.with_(memory_mib=1000.0)) == budget_mib(1000.0, None)


def test_what_is_left_must_not_ask_for_the_worse_rung_again() -> None:
    line = DEFAULT_THRESHOLDS["memory_available_percent"]
    sample = Sample(time_s=0, memory_total_mib=1000, memory_available_mib=300)
    assert leaves_room(sample, 20, 0, line)  # 28 % left, R1 begins at 25 %
    assert not leaves_room(sample, 40, 0, line)
    assert leaves_room(sample, 149, 2, line)  # 15.1 % left, R3 begins at 13 %
    assert not leaves_room(sample, 150, 2, line)
    assert leaves_room(Sample(time_s=0), 1e6, 0, line)
    assert leaves_room(sample, 1e6, 0, None)


def test_a_load_stays_above_the_hard_line() -> None:
    line = Threshold(enter=(25, 18, 13, 8), hard=6, falling=True)
    assert load_floor_percent(line) == 8
    assert load_floor_percent(line.with_(hard=None)) == 0
    assert load_floor_percent(None) == 0
