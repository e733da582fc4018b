import pytest

from protocols.device import Inventory
from protocols.memory import AGENT_MIB, RUNNER_MIB, budget_mib, inventory_budget_mib


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
