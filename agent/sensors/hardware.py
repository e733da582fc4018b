"""The facts of a machine that do not change while the agent runs."""

import os
import struct
from dataclasses import dataclass
from pathlib import Path

from agent.sensors.cores import Measure, read_cores
from agent.sensors.memory import MemoryMeter, read_meminfo_mib
from agent.sensors.power import PowerMeter
from agent.sensors.tree import Tree
from protocols.device import CoreClass, CoreSource

_MODEL_FILES = (
    "proc/device-tree/model",
    "sys/firmware/devicetree/base/model",
    "sys/class/dmi/id/product_name",
)


@dataclass(frozen=True)
class Hardware:
    """Fields of the same name in Inventory: `Inventory(..., **vars(hardware))`."""

    machine: str
    model: str | None
    kernel: str | None
    pointer_bits: int
    cores: tuple[CoreClass, ...]
    cores_source: CoreSource | None
    memory_mib: float | None
    memory_limit_mib: float | None
    swap_mib: float | None
    has_battery: bool

    @property
    def cpus(self) -> tuple[int, ...]:
        """The CPUs that may be used, those of the fastest class first."""
        return tuple(cpu for group in self.cores for cpu in group.cpus)


def read_hardware(sysroot: Path = Path("/"), measure: Measure | None = None) -> Hardware:
    """Read what the machine below `sysroot` is.

    Only the word size, and the machine's kind where the kernel does not tell it below `/proc`,
    are those of the machine that runs this.

    Args:
        sysroot: the folder that has `proc` and `sys`.
        measure: finds the speed of CPUs where no file tells it. A scripted machine's CPUs are not
            there to be measured, so it is asked for the machine's own alone.
    """
    tree = Tree(sysroot)
    cores = read_cores(tree, measure if tree.is_real else None)
    power = PowerMeter(tree)
    power.discover()
    memory = read_meminfo_mib(tree)
    total_mib = memory.get("MemTotal") or MemoryMeter(tree).read().total_mib
    return Hardware(
        machine=tree.text("proc/sys/kernel/arch") or os.uname().machine,
        model=next((model for name in _MODEL_FILES if (model := tree.text(name))), None),
        kernel=tree.text("proc/sys/kernel/osrelease") or None,
        # A 32-bit userland may run on a 64-bit kernel, and `uname` tells of the kernel.
        pointer_bits=struct.calcsize("P") * 8,
        cores=cores.classes,
        cores_source=cores.source,
        memory_mib=total_mib,
        memory_limit_mib=MemoryMeter(tree).limit_mib(),
        swap_mib=memory.get("SwapTotal"),
        has_battery=power.has_battery,
    )
