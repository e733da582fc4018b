"""Which CPUs a machine has, and of which kinds."""

import os
import re

from agent.placement import core_classes
from agent.sensors.tree import Tree
from protocols.device import CoreClass

_CPUS = "sys/devices/system/cpu"


def read_cores(tree: Tree) -> tuple[CoreClass, ...]:
    """Return the classes of the CPUs that may be used, the fastest first.

    On the machine itself these are the CPUs of our own mask, of a scripted one those it lists.
    """
    cpus = read_cpus(tree)
    if tree.is_real and hasattr(os, "sched_getaffinity"):
        mask = os.sched_getaffinity(0)
        cpus = tuple(cpu for cpu in cpus if cpu in mask) or tuple(mask)
    return core_classes(
        _of_each(tree, cpus, "cpu_capacity"),
        _of_each(tree, cpus, "cpufreq/cpuinfo_max_freq"),
        cpus,
    )


def read_cpus(tree: Tree) -> tuple[int, ...]:
    """Return the numbers of the CPUs that are online, from the first source that knows them."""
    listed = parse_cpu_list(tree.text(f"{_CPUS}/online") or "")
    if listed:
        return listed
    stat = tree.text("proc/stat") or ""
    counted = tuple(int(number) for number in re.findall(r"^cpu(\d+) ", stat, re.MULTILINE))
    if counted or not tree.is_real:
        return counted
    return tuple(range(os.cpu_count() or 1))


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """Return the CPUs of a kernel list like `0-3,6`; nothing where it is none."""
    cpus: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part.strip())
        if match is None:
            return ()
        cpus.extend(range(int(match[1]), int(match[2] or match[1]) + 1))
    return tuple(cpus)


def _of_each(tree: Tree, cpus: tuple[int, ...], name: str) -> dict[int, int]:
    values = {cpu: tree.number(f"{_CPUS}/cpu{cpu}/{name}") for cpu in cpus}
    return {cpu: int(value) for cpu, value in values.items() if value is not None and value > 0}
