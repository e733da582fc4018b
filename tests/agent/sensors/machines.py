"""Scripted machines: the `/proc` and `/sys` files of boards, written below a temporary folder."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

MIB = 1 << 20


def stat(busy: int, idle: int, cpus: int = 4, guest: int = 0) -> str:
    """`/proc/stat` with so many ticks since boot, all busy ones in user time."""
    lines = [f"cpu  {busy} 0 0 {idle} 0 0 0 0 {guest} 0"]
    lines += [f"cpu{n} {busy // cpus} 0 0 {idle // cpus} 0 0 0 0 0 0" for n in range(cpus)]
    return "\n".join([*lines, "intr 42 0 0", "ctxt 1000", "btime 1700000000"]) + "\n"


def meminfo(total_mib: float, available_mib: float, swap_mib: float = 0) -> str:
    """`/proc/meminfo`, whose "kB" are KiB."""
    return (
        f"MemTotal:       {total_mib * 1024:8.0f} kB\n"
        f"MemFree:            1000 kB\n"
        f"MemAvailable:   {available_mib * 1024:8.0f} kB\n"
        f"Active(anon):       1000 kB\n"
        f"SwapTotal:      {swap_mib * 1024:8.0f} kB\n"
        f"HugePages_Total:       0\n"
    )


def pressure(some: object, full: object) -> str:
    """One of `/proc/pressure`."""
    return (
        f"some avg10={some} avg60=0.00 avg300=0.00 total=1\n"
        f"full avg10={full} avg60=0.00 avg300=0.00 total=1\n"
    )


@dataclass(frozen=True)
class Machine:
    """A folder that a machine's files are written below."""

    root: Path

    def write(self, path: str, text: str | bytes) -> Self:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text.encode() if isinstance(text, str) else text)
        return self

    def remove(self, path: str) -> Self:
        (self.root / path).unlink()
        return self

    def refuse(self, path: str) -> Self:
        """Make a file that is there and whose every read fails, as PSI's do without `psi=1`."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.symlink_to("/proc/self/mem")
        return self

    def cpus(self, online: str, capacity: dict[int, int], max_khz: dict[int, int]) -> Self:
        self.write("sys/devices/system/cpu/online", f"{online}\n")
        for cpu, value in capacity.items():
            self.write(f"sys/devices/system/cpu/cpu{cpu}/cpu_capacity", f"{value}\n")
        for cpu, value in max_khz.items():
            self.write(f"sys/devices/system/cpu/cpu{cpu}/cpufreq/cpuinfo_max_freq", f"{value}\n")
        return self

    def zone(self, number: int, kind: str, millidegrees: object) -> Self:
        self.write(f"sys/class/thermal/thermal_zone{number}/type", f"{kind}\n")
        return self.write(f"sys/class/thermal/thermal_zone{number}/temp", f"{millidegrees}\n")

    def supply(self, name: str, **files: object) -> Self:
        for file, value in files.items():
            self.write(f"sys/class/power_supply/{name}/{file}", f"{value}\n")
        return self


def program(folder: Path, name: str, script: str) -> dict[str, str]:
    """Write a shell script, and return an environment in which it is found first."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return {"PATH": f"{folder}:{os.defpath}"}


def until(done: Callable[[], bool], within_s: float = 10.0) -> None:
    """Wait for a condition that a thread brings about."""
    deadline_s = time.monotonic() + within_s
    while not done():
        assert time.monotonic() < deadline_s, "it did not come to pass"
        time.sleep(0.005)


THROTTLED = "sys/devices/platform/soc/soc:firmware/get_throttled"


def pi_4(root: Path) -> Machine:
    """A Raspberry Pi 4: four alike cores, no battery, PSI switched on, firmware word."""
    return (
        Machine(root)
        .write("proc/stat", stat(1000, 9000))
        .write("proc/meminfo", meminfo(3794, 3000, swap_mib=100))
        .write("proc/pressure/cpu", pressure("1.50", "0.00"))
        .write("proc/pressure/memory", pressure("0.25", "0.10"))
        .write("proc/self/cgroup", "0::/system.slice/sluice-agent.service\n")
        .write("proc/sys/kernel/osrelease", "6.6.51+rpt-rpi-v8\n")
        .write("proc/sys/kernel/arch", "aarch64\n")
        .write("proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0")
        .cpus("0-3", {}, dict.fromkeys(range(4), 1_800_000))
        .zone(0, "cpu-thermal", 51121)
        .write(THROTTLED, "50000\n")
    )


def big_little(root: Path) -> Machine:
    """An RK3399 board: two big and four LITTLE cores, no PSI."""
    capacity = dict.fromkeys(range(4), 381) | dict.fromkeys((4, 5), 1024)
    max_khz = dict.fromkeys(range(4), 1_416_000) | dict.fromkeys((4, 5), 1_800_000)
    return (
        Machine(root)
        .write("proc/stat", stat(600, 5400, cpus=6))
        .write("proc/meminfo", meminfo(1950, 900))
        .write("proc/sys/kernel/osrelease", "6.6.31-rockchip64\n")
        .write("proc/device-tree/model", "Radxa ROCK Pi 4B\0")
        .cpus("0-5", capacity, max_khz)
        .zone(0, "cpu-thermal", 48000)
        .zone(1, "gpu-thermal", 90000)
    )


def phone(root: Path) -> Machine:
    """A phone on its battery, with the many zones and supplies that phones have."""
    capacity = dict.fromkeys(range(4), 325) | dict.fromkeys(range(4, 8), 1024)
    return (
        Machine(root)
        .write("proc/stat", stat(800, 7200, cpus=8))
        .write("proc/meminfo", meminfo(5600, 2100, swap_mib=2048))
        .write("proc/pressure/memory", pressure("2.00", "0.00"))
        .cpus("0-7", capacity, {})
        .zone(0, "aoss0-usr", 39000)
        .zone(1, "cpu-0-0-usr", 41000)
        .zone(2, "cpu-1-3-usr", 47300)
        .zone(3, "battery", 33000)
        .zone(4, "pm8998_tz", 60000)
        .zone(5, "xo-therm", 70000)
        .supply("battery", type="Battery", capacity=63, status="Discharging", temp=331, present=1)
        .supply("usb", type="USB_PD", online=0)
        .supply("stylus", type="Battery", scope="Device", capacity=3, status="Discharging")
    )


PMIC = """
 3V7_WL_SW_A current(0)=0.10000000A
   3V3_SYS_A current(1)=0.50000000A
  VDD_CORE_A current(7)=2.00000000A
 3V7_WL_SW_V volt(8)=3.70000000V
   3V3_SYS_V volt(9)=3.30000000V
  VDD_CORE_V volt(15)=0.80000000V
     EXT5V_V volt(24)=5.14936000V
      BATT_V volt(25)=0.00683640V
"""
"""What `vcgencmd pmic_read_adc` prints, with fewer rails: 0.37 + 1.65 + 1.6 = 3.62 W."""


def pi_5(root: Path) -> Machine:
    """A Raspberry Pi 5 as it comes: no PSI, no memory cgroup, a numbered SoC, voltage alarm."""
    firmware = "sys/devices/platform/soc@107c000000/soc@107c000000:firmware"
    return (
        Machine(root)
        .write("proc/stat", stat(1000, 9000))
        .write("proc/meminfo", meminfo(8052, 6900, swap_mib=200))
        .write("proc/self/cgroup", "0::/system.slice/sluice-agent.service\n")
        .write("proc/sys/kernel/osrelease", "6.6.51+rpt-rpi-2712\n")
        .write("proc/sys/kernel/arch", "aarch64\n")
        .write("proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0")
        .write("dev/vcio", "")
        .cpus("0-3", {}, dict.fromkeys(range(4), 2_400_000))
        .zone(0, "cpu-thermal", 55400)
        .write(f"{firmware}/get_throttled", "0\n")
        .write("sys/class/hwmon/hwmon0/name", "cpu_thermal\n")
        .write("sys/class/hwmon/hwmon2/name", "rpi_volt\n")
        .write("sys/class/hwmon/hwmon2/in0_lcrit_alarm", "0\n")
        .refuse("proc/pressure/cpu")
        .refuse("proc/pressure/memory")
    )


def termux(root: Path) -> Machine:
    """An unrooted phone with Termux: no counters, pressures, supplies or most zones to read."""
    capacity = dict.fromkeys(range(4), 325) | dict.fromkeys(range(4, 8), 1024)
    return (
        Machine(root)
        .write("proc/meminfo", meminfo(5600, 2100, swap_mib=2048))
        .write("proc/self/cgroup", "0::/uid_10412/pid_9001\n")
        .write("proc/sys/kernel/osrelease", "5.10.198-android12-9\n")
        .refuse("proc/stat")
        .refuse("proc/uptime")
        .refuse("proc/pressure/cpu")
        .refuse("proc/pressure/memory")
        .cpus("0-7", capacity, {})
        .refuse("sys/class/power_supply/battery/type")
        .refuse("sys/class/thermal/thermal_zone0/type")
        .refuse("sys/class/thermal/thermal_zone0/temp")
    )


TERMUX = """{
  "present": true, "technology": "Li-ion", "health": "GOOD", "plugged": "UNPLUGGED",
  "status": "DISCHARGING", "temperature": 31.4, "voltage": 3900, "current": -412000,
  "percentage": 64, "level": 64, "scale": 100
}"""
"""What `termux-battery-status` prints."""


def proot(root: Path) -> Machine:
    """A distribution in a proot on that phone: counters and uptime are made up, and stand still."""
    return (
        termux(root)
        .remove("proc/stat")
        .write("proc/stat", stat(1957, 93280, cpus=8))
        .remove("proc/uptime")
        .write("proc/uptime", "124.08 932.80\n")
        .write("data/data/com.termux/files/usr/bin/login", "")
    )


def jetson(root: Path) -> Machine:
    """A Jetson: a board whose kernel measures what goes into it."""
    monitor = "sys/class/hwmon/hwmon1"
    return (
        Machine(root)
        .write("proc/stat", stat(600, 5400, cpus=6))
        .write("proc/meminfo", meminfo(7600, 5000))
        .cpus("0-5", {}, dict.fromkeys(range(6), 1_510_000))
        .zone(0, "CPU-therm", 44000)
        .write(f"{monitor}/name", "ina3221\n")
        .write(f"{monitor}/in1_label", "VDD_CPU_GPU_CV\n")
        .write(f"{monitor}/in1_input", "5000\n")
        .write(f"{monitor}/curr1_input", "400\n")
        .write(f"{monitor}/in2_label", "VDD_IN\n")
        .write(f"{monitor}/in2_input", "5040\n")
        .write(f"{monitor}/curr2_input", "1000\n")
    )
