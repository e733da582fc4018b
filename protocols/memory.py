"""How much memory models may have on a device: the rules that both sides must share. Pure."""

from collections.abc import Collection, Mapping

from protocols.device import Inventory, Sample
from protocols.schedule import ResidencyRung, Threshold

RUNNER_MIB = 45.0
"""A runner without a model: Python, numpy and the interpreter's library."""

AGENT_MIB = 40.0
"""The supervisor, at most."""

SYSTEM_SHARE = 0.1
"""Of the whole memory, what a small system keeps for itself."""

_SPARE_PERCENT = 2.0
"""How far above the line of the worse rung a recovery must leave the memory, and how far above the
hard line any load."""


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


def rung_mib(rung: ResidencyRung, sizes_mib: Mapping[str, float], loaded: Collection[str]) -> float:
    """Return the MiB that a residency rung may load beyond what is loaded.

    Args:
        rung: what it keeps, and what it loads when a request needs it.
        sizes_mib: of every stage on this device, as measured here or where it was added.
        loaded: the stages that are in memory now.
    """
    allowed = [s for s in (*rung.resident, *rung.on_demand) if s in sizes_mib and s not in loaded]
    if rung.one_at_a_time:
        return 0.0 if loaded else max((sizes_mib[stage] for stage in allowed), default=0.0)
    return sum(sizes_mib[stage] for stage in allowed)


def leaves_room(sample: Sample, need_mib: float, rung: int, line: Threshold | None) -> bool:
    """Whether a recovery to a residency rung would last.

    Args:
        sample: what is available now.
        need_mib: what the rung loads that is not loaded now.
        rung: the one to recover to; what is left must not ask for the next worse one again.
        line: of `memory_available_percent`.
    """
    total, available = sample.memory_total_mib, sample.memory_available_mib
    if not total or available is None or line is None or rung >= len(line.enter):
        return True
    worse = line.enter[rung]
    left_percent = 100 * (available - need_mib) / total
    return worse is None or left_percent > worse + _SPARE_PERCENT


def load_floor_percent(line: Threshold | None) -> float:
    """Return the share of memory that a load must leave available, in percent.

    Args:
        line: of `memory_available_percent`. Below its hard line everything has to leave again, if
            the kernel does not kill first. Without one a load must only go into what there is.
    """
    return 0.0 if line is None or line.hard is None else line.hard + _SPARE_PERCENT
