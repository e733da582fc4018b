"""Which CPUs a stage runs on. Pure: facts in, CPU numbers out."""

from collections.abc import Collection, Mapping, Sequence

from protocols.device import CoreClass

FULL_CAPACITY = 1024
"""What the kernel calls the fastest CPU in `cpu_capacity` (SCHED_CAPACITY_SCALE)."""

ALIKE = 0.9
"""CPUs within 10 % of the fastest of their class are alike: chips bin the clock of each cluster,
and desktop CPUs boost favoured cores a little, without making another kind of core of them."""


def core_classes(
    capacity: Mapping[int, int], max_khz: Mapping[int, int], allowed: Collection[int]
) -> tuple[CoreClass, ...]:
    """Group CPUs that are alike, the fastest class first.

    Args:
        capacity: CPU number -> relative speed by the kernel's `cpu_capacity`; may lack CPUs.
        max_khz: CPU number -> highest clock in kHz; may lack CPUs.
        allowed: the CPU numbers that may be used; all others are left out.

    Returns:
        Classes with capacities relative to 1024 for the fastest. Capacity decides where every
        allowed CPU has one, else the clock where every one has it, else all are one class.
    """
    speeds = _speeds(capacity, max_khz, allowed)
    groups: list[list[int]] = []
    for cpu in sorted(allowed, key=lambda cpu: (-speeds[cpu], cpu)):
        if groups and speeds[cpu] >= ALIKE * speeds[groups[-1][0]]:
            groups[-1].append(cpu)
        else:
            groups.append([cpu])
    return tuple(
        CoreClass(
            cpus=tuple(sorted(group)),
            capacity=round(speeds[group[0]]),
            max_mhz=max((max_khz[cpu] / 1000 for cpu in group if cpu in max_khz), default=None),
        )
        for group in groups
    )


def _speeds(
    capacity: Mapping[int, int], max_khz: Mapping[int, int], allowed: Collection[int]
) -> Mapping[int, float]:
    for known in (capacity, max_khz):
        values = {cpu: known.get(cpu, 0) for cpu in allowed}
        if all(value > 0 for value in values.values()):
            fastest = max(values.values(), default=1)
            return {cpu: FULL_CAPACITY * value / fastest for cpu, value in values.items()}
    return dict.fromkeys(allowed, FULL_CAPACITY)


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
