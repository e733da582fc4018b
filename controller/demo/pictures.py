"""The hardware pictures of the demo's devices: what such boards have under /proc and /sys.

Figures are the makers': BCM2711 (four Cortex-A72 at 1.8 GHz, 1 GiB model), RK3399 (two Cortex-A72,
four Cortex-A53, capacities as in Linux's device tree), Snapdragon 855 (one, three and four cores).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cpu:
    """One CPU: its capacity (None where the firmware names none) and its highest clock."""

    capacity: int | None
    max_khz: int


@dataclass(frozen=True)
class Picture:
    """A device: what does not change while it runs."""

    name: str
    title: str
    kind: str
    cpus: tuple[Cpu, ...]
    memory_mib: int
    used_mib: int
    temperature_c: float
    zone: str
    throttling: bool = False
    battery: bool = False


PI_4 = Picture(
    name="pi4",
    title="Raspberry Pi 4 Model B Rev 1.5",
    kind="pi",
    cpus=(Cpu(None, 1_800_000),) * 4,
    memory_mib=1024,
    used_mib=420,
    temperature_c=54.0,
    zone="cpu-thermal",
    throttling=True,
)
BIG_LITTLE = Picture(
    name="rock",
    title="Radxa ROCK Pi 4B",
    kind="big-little",
    cpus=(Cpu(485, 1_416_000),) * 4 + (Cpu(1024, 1_800_000),) * 2,
    memory_mib=2048,
    used_mib=700,
    temperature_c=48.0,
    zone="soc-thermal",
)
PHONE = Picture(
    name="phone",
    title="Android phone",
    kind="phone",
    cpus=(Cpu(261, 1_785_600),) * 4 + (Cpu(871, 2_419_200),) * 3 + (Cpu(1024, 2_841_600),),
    memory_mib=6144,
    used_mib=3000,
    temperature_c=36.0,
    zone="cpu-1-3-usr",
    battery=True,
)
PICTURES = (PI_4, BIG_LITTLE, PHONE)
