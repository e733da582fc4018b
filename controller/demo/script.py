"""What happens in the demo, as data: scenes, and what each moment of one changes on a device."""

from dataclasses import dataclass

from controller.demo.machine import ScriptedMachine
from protocols.schedule import Dwell, Schedule

SCHEDULE = Schedule(dwell=Dwell(hold_s=1.0, recover_s=1.5, up_moves_per_hour=60))
"""The architecture's thresholds with short dwell times, so that a person can watch it all."""


@dataclass(frozen=True)
class Moment:
    """Levels that hold from now on, for `lasts_s`. None: as before."""

    lasts_s: float
    says: str
    available_percent: float | None = None
    cpu_percent: float | None = None
    battery_percent: float | None = None
    plugged: bool | None = None

    def happen(self, machine: ScriptedMachine) -> None:
        """Change what the device's sensors will read."""
        if self.available_percent is not None:
            machine.leave_available(self.available_percent)
        foreign = machine.foreign
        if self.cpu_percent is not None:
            foreign.cpu_percent = self.cpu_percent
        if self.battery_percent is not None:
            foreign.battery_percent = self.battery_percent
        if self.plugged is not None:
            foreign.plugged = self.plugged


@dataclass(frozen=True)
class Scene:
    """Some moments on one device, while the others go on as they were."""

    name: str
    device: str
    moments: tuple[Moment, ...]


SCENES = (
    Scene("calm", "", (Moment(6.0, "nothing but our own work"),)),
    Scene(
        "memory",
        "pi4",
        (
            Moment(2.5, "another program grows: 22 % of memory available", available_percent=22),
            Moment(2.5, "16 % available", available_percent=16),
            Moment(2.5, "11 % available", available_percent=11),
            Moment(2.0, "4 % available, below the hard line", available_percent=4),
            Moment(8.0, "the other program ends", available_percent=48),
        ),
    ),
    Scene(
        "foreign CPU",
        "rock",
        (
            Moment(2.5, "other programs take 55 % of all CPUs", cpu_percent=55),
            Moment(2.5, "76 %", cpu_percent=76),
            Moment(3.0, "90 %", cpu_percent=90),
            Moment(6.5, "they are done", cpu_percent=6),
        ),
    ),
    Scene(
        "battery",
        "phone",
        (
            Moment(2.5, "the battery falls to 38 %", battery_percent=38),
            Moment(2.5, "22 %", battery_percent=22),
            Moment(2.5, "12 %", battery_percent=12),
            Moment(2.5, "5 %", battery_percent=5),
            Moment(8.0, "somebody plugs it in", plugged=True),
        ),
    ),
)
