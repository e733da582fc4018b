"""Which CPUs a stage runs on. Pure: facts in, CPU numbers out."""

from collections.abc import Collection, Mapping, Sequence

from protocols.device import CoreClass, CoreSource

FULL_CAPACITY = 1024
"""What the kernel calls the fastest CPU in `cpu_capacity` (SCHED_CAPACITY_SCALE)."""

_ALIKE = 0.9
"""CPUs within 10 % of the fastest of their class are alike: chips bin the clock of each cluster,
and desktop CPUs boost favoured cores a little, without making another kind of core of them."""

_ALIKE_MEASURED = 0.8
"""A measurement of some milliseconds is not as sure as what the kernel says."""

Speeds = Mapping[CoreSource, Mapping[int, float]]
"""What each source says, the most trusted first: CPU number -> speed, in any unit of its own."""


def alike(source: CoreSource) -> float:
    """Return which share of the fastest one's speed makes a CPU one of its class."""
    return _ALIKE_MEASURED if source == "measured" else _ALIKE


def core_classes(
    speeds: Speeds, max_khz: Mapping[int, float], allowed: Collection[int]
) -> tuple[tuple[CoreClass, ...], CoreSource | None]:
    """Group CPUs that are alike, the fastest class first.

    The first source that tells the allowed CPUs apart decides. One that finds them all alike may
    only not know better: arm64 gives every CPU the same `cpu_capacity` where the device tree holds
    none, and unlike cores may have like clocks.

    Args:
        speeds: by source, the most trusted first. A source counts that knows every allowed CPU.
        max_khz: CPU number -> highest clock in kHz; may lack CPUs.
        allowed: the CPU numbers that may be used; all others are left out.

    Returns:
        Classes with capacities relative to 1024 for the fastest, and whose word they are: that of
        the first source where all find the CPUs alike; None where there is none.
    """
    found: tuple[list[list[int]], CoreSource | None] = [sorted(allowed)] if allowed else [], None
    for source in (s for s in speeds if knows(speeds[s], allowed)):
        groups = _groups(speeds[source], allowed, alike(source))
        if found[1] is None or len(groups) > 1:
            found = groups, source
        if len(groups) > 1:
            break
    groups, chosen = found
    speed = speeds[chosen] if chosen else dict.fromkeys(allowed, 1.0)
    fastest = max((speed[cpu] for cpu in allowed), default=1.0)
    classes = tuple(
        CoreClass(
            cpus=tuple(sorted(group)),
            capacity=round(FULL_CAPACITY * speed[group[0]] / fastest),
            max_mhz=max((max_khz[cpu] / 1000 for cpu in group if cpu in max_khz), default=None),
        )
        for group in groups
    )
    return classes, chosen


def knows(speed: Mapping[int, float], allowed: Collection[int]) -> bool:
    """Whether a source knows every CPU."""
    return bool(allowed) and all(speed.get(cpu, 0) > 0 for cpu in allowed)


def _groups(speed: Mapping[int, float], allowed: Collection[int], share: float) -> list[list[int]]:
    groups: list[list[int]] = []
    for cpu in sorted(allowed, key=lambda cpu: (-speed[cpu], cpu)):
        if groups and speed[cpu] >= share * speed[groups[-1][0]]:
            groups[-1].append(cpu)
        else:
            groups.append([cpu])
    return groups


def clamp(
    threads: int, cpus: Sequence[int] | None, allowed: Collection[int]
) -> tuple[int, tuple[int, ...] | None]:
    """Cut a stage's threads and CPU set to what the mask allows.

    More threads than CPUs only get in each other's way: int8 MobileNetV2 on one CPU took 1.60,
    2.27 and 2.61 ms with 1, 2 and 4 threads.

    Args:
        threads: what is asked for.
        cpus: the CPU set that is asked for; None: any that are allowed.
        allowed: the CPU numbers of the mask; empty: the mask is not known, nothing is cut by it.

    Returns:
        (threads, cpus): at least one thread, and never more than CPUs in the set. A set of which
        nothing is allowed becomes None: better on another CPU than not at all.
    """
    mine = None if cpus is None else tuple(c for c in cpus if c in allowed or not allowed) or None
    room = len(allowed if mine is None else mine)
    return max(1, min(threads, room) if room else threads), mine
