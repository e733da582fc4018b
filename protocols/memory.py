"""How much memory models may have on a device: the rule that planner and agent must share. Pure."""

from protocols.device import Inventory

RUNNER_MIB = 45.0
"""A runner without a model: Python, numpy and the interpreter's library."""

AGENT_MIB = 40.0
"""The supervisor, at most."""

SYSTEM_SHARE = 0.1
"""Of the whole memory, what a small system keeps for itself."""


def budget_mib(memory_mib: float | None, limit_mib: float | None) -> float | None:
    """Return the MiB that models may have: the machine's memory, or the cgroup's, less our own.

    Args:
        memory_mib: of the machine; None: not known.
        limit_mib: of the agent's cgroup; None: there is none.
    """
    rooms = [limit_mib] if limit_mib is not None else []
    if memory_mib is not None:
        rooms.append(memory_mib * (1 - SYSTEM_SHARE))
    return min(rooms) - AGENT_MIB - RUNNER_MIB if rooms else None


def inventory_budget_mib(inventory: Inventory) -> float | None:
    """Return the budget of a device as it has described itself; None: it does not know."""
    return budget_mib(inventory.memory_mib, inventory.memory_limit_mib)
