"""Whether a schedule that a person wrote can be used for a cascade, and what is odd in it. Pure.

The device takes rows only if they name its bundle's stages and no others; what it cannot give
(CPUs that it has not, more threads than CPUs) it cuts by itself, and a person should know it.
"""

from collections.abc import Iterable, Sequence

from controller.errors import ControllerError
from protocols.bundle import Bundle
from protocols.device import Inventory
from protocols.schedule import CascadeSchedule, Schedule, Wishes


def check_schedule(schedule: Schedule, bundle: Bundle) -> None:
    """Check that a schedule's rows are those of a bundle.

    Raises:
        ControllerError: they are of another cascade, or of other stages.
    """
    where = f"cannot use the schedule for {bundle.name}@{bundle.version}"
    if strangers := [name for name in schedule.cascades if name != bundle.name]:
        raise ControllerError(
            f"{where}: it has rows for {', '.join(strangers)}, and only those of "
            f"{bundle.name} can be deployed with it"
        )
    if bundle.name in schedule.cascades:
        _check_stages(where, schedule.cascades[bundle.name], [s.name for s in bundle.stages])


def check_wishes(wishes: Wishes | None, schedule: Schedule | None, cascade: str) -> None:
    """Check that nobody asks the compiler for what a person's own rows decide.

    Raises:
        ControllerError: there are rows, and a goal or a target.
    """
    if wishes is None or schedule is None or cascade not in schedule.cascades:
        return
    if wishes.with_(quiet=()) != Wishes():
        raise ControllerError(
            f"cannot aim for a goal, a latency or joules: the schedule has rows of its own for "
            f"{cascade}, which say how it runs; leave [cascades.{cascade}] out of it"
        )


def cautions(row: CascadeSchedule, bundle: Bundle, device: Inventory) -> tuple[str, ...]:
    """Return what a device cannot give of a cascade's rows, in words that begin with its name."""
    mask = {cpu for group in device.cores for cpu in group.cpus}
    if not mask:
        return ()
    asked = [one for rung in row.compute for one in rung.stages.values()]
    absent = sorted({cpu for one in asked for cpu in one.cpus or ()} - mask)
    most = max((one.threads for one in asked), default=1)
    said = []
    if absent:
        said.append(f"{device.device} has no CPU {_listed(absent)}, and takes what it has")
    if most > len(mask):
        said.append(f"{device.device} has {len(mask)} CPUs, and runs {most} threads as so many")
    ladders = [len(g) for c in bundle.certificates for g in c.gates.values()]
    last = max(ladders, default=1) - 1
    if row.base_threshold > last:
        said.append(
            f"{device.device} stays at step {last} of the thresholds, the last, instead of "
            f"{row.base_threshold}"
        )
    return tuple(said)


def _check_stages(where: str, row: CascadeSchedule, stages: Sequence[str]) -> None:
    for number, rung in enumerate(row.compute):
        if missing := [name for name in stages if name not in rung.stages]:
            raise ControllerError(f"{where}: C{number} says nothing of {', '.join(missing)}")
        _check_known(f"{where}: C{number}", rung.stages, stages)
    for number, rest in enumerate(row.residency):
        _check_known(f"{where}: R{number}", [*rest.resident, *rest.on_demand], stages)
        if twice := [name for name in rest.resident if name in rest.on_demand]:
            raise ControllerError(
                f"{where}: R{number} has {', '.join(twice)} both resident and on demand"
            )


def _check_known(where: str, names: Iterable[str], stages: Sequence[str]) -> None:
    if strangers := [name for name in names if name not in stages]:
        raise ControllerError(
            f"{where} names {', '.join(strangers)}, and the stages are {', '.join(stages)}"
        )


def _listed(cpus: Sequence[int]) -> str:
    return ", ".join(map(str, cpus))
