"""What kind of core each CPU is, by the Arm architecture's Main ID Register (MIDR_EL1).

The register holds the implementer (bits 31-24) and the part (bits 15-4); Linux shows it in sysfs
(Documentation/arch/arm64/cpu-feature-registers.rst), and both numbers in `/proc/cpuinfo`. They
name the core and say nothing of its clock, so what follows from them is an order. The numbers are
those of Linux' arch/arm64/include/asm/cputype.h and of the cores' Technical Reference Manuals.
"""

import re
from collections.abc import Iterable, Iterator

from agent.sensors.tree import Tree

_REGISTER = "sys/devices/system/cpu/cpu{}/regs/identification/midr_el1"
_NUMBER = re.compile(r"^(processor|CPU implementer|CPU part)\s*:\s*(\w+)\s*$", re.MULTILINE)
_ARM, _QUALCOMM = 0x41, 0x51

_LITTLE, _BIG, _PRIME = 1.0, 2.1, 2.6
"""Work per clock of the three kinds that share a chip, by `capacity-dmips-mhz` in Linux' device
trees: Cortex-A53 to A72 as 485 to 1024 (rk3399), A55 to A76 as 530 to 1024 (rk3588), Cortex-A710 to
X2 as 2909 to 3591 (sm8450)."""

_KINDS = {
    _LITTLE: (
        (_ARM, 0xC05),  # Cortex-A5
        (_ARM, 0xC07),  # Cortex-A7
        (_ARM, 0xD01),  # Cortex-A32
        (_ARM, 0xD03),  # Cortex-A53
        (_ARM, 0xD04),  # Cortex-A35
        (_ARM, 0xD05),  # Cortex-A55
        (_ARM, 0xD46),  # Cortex-A510
        (_ARM, 0xD80),  # Cortex-A520
        (_QUALCOMM, 0x801),  # Kryo 2xx Silver, of Cortex-A53
        (_QUALCOMM, 0x803),  # Kryo 3xx Silver, of Cortex-A55
        (_QUALCOMM, 0x805),  # Kryo 4xx Silver, of Cortex-A55
    ),
    _BIG: (
        (_ARM, 0xC0D),  # Cortex-A12, later named A17
        (_ARM, 0xC0E),  # Cortex-A17
        (_ARM, 0xC0F),  # Cortex-A15
        (_ARM, 0xD07),  # Cortex-A57
        (_ARM, 0xD08),  # Cortex-A72
        (_ARM, 0xD09),  # Cortex-A73
        (_ARM, 0xD0A),  # Cortex-A75
        (_ARM, 0xD0B),  # Cortex-A76
        (_ARM, 0xD0D),  # Cortex-A77
        (_ARM, 0xD0E),  # Cortex-A76AE
        (_ARM, 0xD41),  # Cortex-A78
        (_ARM, 0xD42),  # Cortex-A78AE
        (_ARM, 0xD47),  # Cortex-A710
        (_ARM, 0xD4B),  # Cortex-A78C
        (_ARM, 0xD4D),  # Cortex-A715
        (_ARM, 0xD81),  # Cortex-A720
        (_ARM, 0xD87),  # Cortex-A725
        (_QUALCOMM, 0x800),  # Kryo 2xx Gold, of Cortex-A73
        (_QUALCOMM, 0x802),  # Kryo 3xx Gold, of Cortex-A75
        (_QUALCOMM, 0x804),  # Kryo 4xx Gold, of Cortex-A76
    ),
    _PRIME: (
        (_ARM, 0xD44),  # Cortex-X1
        (_ARM, 0xD4C),  # Cortex-X1C
        (_ARM, 0xD48),  # Cortex-X2
        (_ARM, 0xD4E),  # Cortex-X3
        (_ARM, 0xD82),  # Cortex-X4
        (_ARM, 0xD85),  # Cortex-X925
    ),
}
_SPEEDS = {core: speed for speed, cores in _KINDS.items() for core in cores}


def speeds_by_midr(tree: Tree, cpus: Iterable[int]) -> dict[int, float]:
    """Return the work per clock of the CPUs whose core is known, a LITTLE one's being 1.

    A CPU whose register cannot be read, or whose part is not in the table, is left out.
    """
    listed = dict(_listed(tree.text("proc/cpuinfo") or ""))
    cores = {cpu: _register(tree, cpu) or listed.get(cpu) for cpu in cpus}
    return {cpu: _SPEEDS[core] for cpu, core in cores.items() if core in _SPEEDS}


def _register(tree: Tree, cpu: int) -> tuple[int, int] | None:
    try:
        midr = int(tree.text(_REGISTER.format(cpu)) or "", 16)
    except ValueError:
        return None
    return midr >> 24 & 0xFF, midr >> 4 & 0xFFF


def _listed(cpuinfo: str) -> Iterator[tuple[int, tuple[int, int]]]:
    """Yield CPU number, implementer and part of each paragraph of `/proc/cpuinfo` that has all."""
    for paragraph in re.split(r"\n\s*\n", cpuinfo):
        numbers = dict(_NUMBER.findall(paragraph))
        try:
            core = int(numbers["CPU implementer"], 16), int(numbers["CPU part"], 16)
            yield int(numbers["processor"]), core
        except (KeyError, ValueError):
            continue
