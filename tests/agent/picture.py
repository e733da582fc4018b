"""A machine painted for the sensors: a tree of `/proc` and `/sys` that a test changes."""

from dataclasses import dataclass
from pathlib import Path

_TICKS = 100
KIB = 1024


@dataclass
class Picture:
    """The root of the tree. Files are replaced whole, so that a reader never sees half of one."""

    root: Path
    total_mib: int = 1024
    cpus: int = 4

    def __post_init__(self) -> None:
        self.memory(self.total_mib * 3 // 4)
        self.processor(busy_s=2.0, idle_s=1000.0)
        self._write("sys/devices/system/cpu/online", f"0-{self.cpus - 1}\n")

    def processor(self, busy_s: float, idle_s: float) -> None:
        """Set what all CPUs together have done since the boot."""
        busy, idle = round(busy_s * _TICKS), round(idle_s * _TICKS)
        lines = [f"cpu {busy} 0 0 {idle} 0 0 0 0 0 0"]
        lines += [
            f"cpu{n} {busy // self.cpus} 0 0 {idle // self.cpus} 0 0 0 0 0 0"
            for n in range(self.cpus)
        ]
        self._write("proc/stat", "\n".join(lines) + "\n")

    def memory(self, available_mib: int) -> None:
        """Set what is available."""
        total, free = self.total_mib * KIB, available_mib * KIB
        self._write(
            "proc/meminfo",
            f"MemTotal: {total} kB\nMemFree: {free} kB\nMemAvailable: {free} kB\n"
            "SwapTotal: 0 kB\nSwapFree: 0 kB\n",
        )

    def temperature(self, celsius: float) -> None:
        """Set the only thermal zone."""
        zone = "sys/class/thermal/thermal_zone0"
        self._write(f"{zone}/type", "cpu-thermal\n")
        self._write(f"{zone}/temp", f"{round(celsius * 1000)}\n")

    def battery(self, percent: float, *, plugged: bool) -> None:
        """Set the only battery, and whether it is fed."""
        battery = "sys/class/power_supply/BAT0"
        self._write(f"{battery}/type", "Battery\n")
        self._write(f"{battery}/capacity", f"{percent:.0f}\n")
        self._write(f"{battery}/status", "Charging\n" if plugged else "Discharging\n")

    def _write(self, path: str, content: str) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        new = target.with_name(f".{target.name}")
        new.write_text(content)
        new.replace(target)
