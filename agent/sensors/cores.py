"""Which CPUs a machine has, and of which kinds."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent.affinity import get_cpus
from agent.placement import core_classes, knows
from agent.sensors.midr import speeds_by_midr
from agent.sensors.tree import Tree
from protocols.device import CoreClass, CoreSource

_CPUS = "sys/devices/system/cpu"

Measure = Callable[[tuple[int, ...]], Mapping[int, float]]
"""Takes CPU numbers and returns their speeds; none, if it cannot tell."""


@dataclass(frozen=True, slots=True)
class Cores:
    """The classes of the CPUs that may be used, the fastest first, and whose word they are."""

    classes: tuple[CoreClass, ...]
    source: CoreSource | None


def read_cores(tree: Tree, measure: Measure | None = None) -> Cores:
    """Return the classes of the CPUs that may be used.

    Args:
        tree: the machine.
        measure: asked where the machine's files say nothing of its CPUs, and there are several.
    """
    cpus = allowed_cpus(tree)
    max_khz = _of_each(tree, cpus, "cpufreq/cpuinfo_max_freq")
    speeds: dict[CoreSource, Mapping[int, float]] = {
        "cpu_capacity": _of_each(tree, cpus, "cpu_capacity"),
        "cpuinfo_max_freq": max_khz,
        "midr": speeds_by_midr(tree, cpus),
    }
    silent = not any(knows(speed, cpus) for speed in speeds.values())
    if silent and measure is not None and len(cpus) > 1:
        speeds["measured"] = measure(cpus)
    return Cores(*core_classes(speeds, max_khz, cpus))


def allowed_cpus(tree: Tree) -> tuple[int, ...]:
    """Return the numbers of the CPUs that may be used now, in order.

    On the machine itself those of the calling thread's mask, where the kernel leaves out those
    that are offline; of a scripted machine those that are online.
    """
    mine = get_cpus() if tree.is_real else None
    return mine or read_cpus(tree)


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


def _of_each(tree: Tree, cpus: tuple[int, ...], name: str) -> dict[int, float]:
    values = {cpu: tree.number(f"{_CPUS}/cpu{cpu}/{name}") for cpu in cpus}
    return {cpu: value for cpu, value in values.items() if value is not None and value > 0}
