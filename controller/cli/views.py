"""How devices and their stages read: the rows of `device`, `top` and `deploy`. No I/O."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from controller.cli import words
from controller.cli.output import Column

if TYPE_CHECKING:
    from controller.fleet import Device
    from protocols.device import CascadeStats, CoreClass, Event, ReportedCascade, Rungs, Sample

_EVENT_STYLE = {
    "loaded": "green",
    "unloaded": "yellow",
    "rung": "cyan",
    "threads": "cyan",
    "refused": "red",
    "rejected": "red",
    "reverted": "red",
    "quarantined": "red",
    "postponed": "yellow",
    "runner-died": "red",
    "sensor-lost": "yellow",
}


_STANDING_STYLE = {"pending": "yellow", "stranger": "bold red", "revoked": "red"}

_BAD_PHASES = frozenset(
    {"refused", "rejected", "quarantined", "cannot-fit", "aborted", "superseded", "reverted"}
)


def device_columns(now_s: float, *, roster: bool = False) -> "list[Column[Device]]":
    """Return the columns of `ctl device ls`; with a roster, how each device stands there."""
    standing: list[Column[Device]] = [
        Column("ROSTER", lambda d: d.standing, style=lambda d: _STANDING_STYLE.get(d.standing, ""))
    ]
    return [
        Column("NAME", lambda d: d.name),
        Column("STATUS", _status, style=_status_style),
        *(standing if roster else []),
        Column("SEEN", lambda d: words.age(seen_s(d, now_s)), right=True),
        Column("CASCADES", lambda d: words.cascades(d.reported), wrap=True),
        Column("RUNGS", lambda d: words.rungs(_rungs(d)) if d.online else None),
        Column("CPU", lambda d: words.percent(_sample(d, "cpu_percent")), right=True),
        Column("MEM", _memory_used, right=True),
        Column("TEMP", lambda d: words.temperature(_sensors(d)), right=True),
        Column("BATTERY", lambda d: words.battery(_sensors(d)), right=True),
        Column("VERSION", lambda d: d.status.version if d.status else None),
    ]


def device_document(device: "Device") -> dict[str, object]:
    """Return all that is known of a device, for JSON."""
    return {
        "name": device.name,
        "online": device.online,
        "standing": device.standing,
        "heard_ts": device.heard_s,
        "status": device.status,
        "inventory": device.inventory,
        "telemetry": device.telemetry,
        "reported": device.reported,
        "desired": device.desired,
        "pins": device.pins,
    }


def device_facts(device: "Device", now_s: float) -> Iterator[tuple[str, object]]:
    """Yield what `ctl device show` says above the stages."""
    inventory, reported, desired = device.inventory, device.reported, device.desired
    yield "Name", device.name
    yield "Status", _status(device)
    if device.standing != "open":
        yield "Roster", device.standing
    yield "Seen", _ago(seen_s(device, now_s))
    yield "Agent", device.status.version if device.status else None
    if inventory is not None:
        yield "Labels", ", ".join(f"{k}={v}" for k, v in sorted(inventory.labels.items()))
        yield "Board", inventory.model
        yield "Machine", f"{inventory.machine}, {inventory.pointer_bits} bit"
        yield "Kernel", inventory.kernel
        yield "Interpreter", inventory.runtime or "none installed"
        yield "Cores", _cores(inventory.cores)
        yield "Memory", _memory_line(inventory.memory_mib, inventory.memory_limit_mib)
        yield "Endpoints", ", ".join(inventory.endpoints)
    yield from _sensor_facts(_sensors(device))
    found = _rungs(device)
    if found is not None:
        yield "Residency", _rung("R", found.residency, found.residency_cause)
        yield "Compute", _rung("C", found.compute, found.compute_cause)
    yield "Generation", _generations(device)
    if desired is not None and desired.reason:
        yield "Reason", desired.reason
    if reported is not None and reported.refusal is not None:
        yield "Refusal", reported.refusal.message
    for cascade in reported.cascades if reported is not None else ():
        yield f"{words.ref(cascade.bundle)}", _cascade_line(cascade)
    if device.pins is not None and device.pins.pins:
        yield "Pins", "; ".join(pin_words(device))


def pin_words(device: "Device") -> list[str]:
    """Return a device's pins, each in words."""
    said = []
    for pin in device.pins.pins if device.pins else ():
        loaded = {True: ["loaded"], False: ["unloaded"], None: []}[pin.loaded]
        threads = [f"{pin.threads} threads"] if pin.threads else []
        said.append(f"{pin.cascade}/{pin.stage}: {', '.join([*loaded, *threads])}")
    return said


@dataclass(frozen=True, slots=True)
class StageRow:
    """One stage of one cascade on one device; `place` is what `ctl load` calls it."""

    device: str
    place: str
    variant: str | None = None
    state: str | None = None
    threads: int | None = None
    loaded_mib: float | None = None
    runs: int | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    joules: float | None = None
    """Of one run."""
    energy_method: str | None = None
    message: str = ""


STAGE_COLUMNS: list[Column[StageRow]] = [
    Column("STAGE", lambda r: r.place),
    Column("VARIANT", lambda r: r.variant),
    Column("STATE", lambda r: r.state, style=lambda r: "green" if r.state == "loaded" else ""),
    Column("THREADS", lambda r: r.threads, right=True),
    Column("MEM", lambda r: words.mib(r.loaded_mib), right=True),
    Column("RUNS", lambda r: r.runs, right=True, spare=True),
    Column("P50", lambda r: words.milliseconds(r.p50_ms), right=True, spare=True),
    Column("P95", lambda r: words.milliseconds(r.p95_ms), right=True),
    Column("ENERGY", lambda r: words.joules(r.joules, r.energy_method), right=True, spare=True),
    Column("MESSAGE", lambda r: r.message, wrap=True),
]


def stage_rows(device: "Device") -> list[StageRow]:
    """Return every stage that a device reports, with what its telemetry says of it."""
    telemetry = device.telemetry
    stats = {c.name: c for c in telemetry.cascades} if telemetry else {}
    return [
        row
        for cascade in (device.reported.cascades if device.reported else ())
        for row in _stage_rows(device.name, cascade, stats.get(cascade.bundle.name))
    ]


def _stage_rows(
    device: str, cascade: "ReportedCascade", stats: "CascadeStats | None"
) -> Iterator[StageRow]:
    measured = {s.name: s for s in stats.stages} if stats else {}
    for stage in cascade.stages:
        seen = measured.get(stage.name)
        yield StageRow(
            device=device,
            place=f"{cascade.bundle.name}/{stage.name}",
            variant=stage.variant,
            state=stage.state,
            threads=stage.threads,
            loaded_mib=seen.loaded_mib if seen and stage.state == "loaded" else None,
            runs=seen.runs if seen else None,
            p50_ms=seen.p50_ms if seen else None,
            p95_ms=seen.p95_ms if seen else None,
            joules=_each(seen.joules, seen.energy_runs) if seen else None,
            energy_method=stats.energy_method if stats else None,
            message=stage.message,
        )


@dataclass(frozen=True, slots=True)
class LoadRow:
    """What one device does at this moment, for `ctl top`."""

    device: "Device"
    seen_s: float | None

    @property
    def sensors(self) -> "Sample | None":
        """The last reading."""
        return _sensors(self.device)

    def total(self, field: str) -> int | None:
        """Return a counter summed over the device's cascades."""
        telemetry = self.device.telemetry
        return sum(getattr(c, field) for c in telemetry.cascades) if telemetry else None

    def worst_ms(self, field: str) -> float | None:
        """Return the slowest cascade's percentile."""
        telemetry = self.device.telemetry
        found = [getattr(c, field) for c in telemetry.cascades] if telemetry else []
        return max((value for value in found if value is not None), default=None)

    @property
    def energy(self) -> str | None:
        """The mean energy of an answer, of all cascades whose energy was found by one method."""
        telemetry = self.device.telemetry
        found = [c for c in telemetry.cascades if c.energy_answers] if telemetry else []
        methods = {c.energy_method for c in found}
        if len(methods) != 1:
            return None
        total = sum(stage.joules or 0.0 for c in found for stage in c.stages)
        return words.joules(_each(total, sum(c.energy_answers for c in found)), methods.pop())


LOAD_COLUMNS: list[Column[LoadRow]] = [
    Column("NAME", lambda r: r.device.name),
    Column("SEEN", lambda r: words.age(r.seen_s), right=True),
    Column("CPU", lambda r: words.percent(_sample(r.device, "cpu_percent")), right=True),
    Column("OWN", lambda r: words.percent(_sample(r.device, "own_cpu_percent")), right=True),
    Column("FREE", lambda r: words.mib(_sample(r.device, "memory_available_mib")), right=True),
    Column("TEMP", lambda r: words.temperature(r.sensors), right=True),
    Column("BATT", lambda r: words.battery(r.sensors), right=True),
    Column("RUNGS", lambda r: words.rungs(_rungs(r.device)), style=lambda r: _rung_style(r.device)),
    Column("LOADED", lambda r: _loaded(r.device), wrap=True, spare=True),
    Column("ANSWERS", lambda r: r.total("answers"), right=True),
    Column("ESC", lambda r: _share(r.total("escalated"), r.total("answers")), right=True),
    Column("REFUSED", lambda r: r.total("refused"), right=True),
    Column("P95", lambda r: words.milliseconds(r.worst_ms("p95_ms")), right=True),
    Column("ENERGY", lambda r: r.energy, right=True, spare=True),
]


def event_line(event: "Event") -> str:
    """Return an event as one line: time, device, kind, what and why, each said once."""
    at = time.strftime("%H:%M:%S", time.localtime(event.ts))
    place = "/".join(part for part in (event.cascade, event.stage) if part)
    where = "" if event.message.startswith(place) else f" {place}:"
    told = not event.returned_bytes or "came back" in event.message
    back = "" if told else f" ({words.size(event.returned_bytes)} came back)"
    return f"{at}  {event.device:<16} {event.kind:<12}{where} {event.message}{back}"


def event_style(event: "Event") -> str:
    """Return rich's style of an event's line."""
    return _EVENT_STYLE.get(event.kind, "")


def phase_style(phase: str) -> str:
    """Return rich's style of a cascade's phase."""
    if phase == "running":
        return "green"
    if phase in _BAD_PHASES:
        return "red"
    return "yellow" if phase in {"offline", "reverting"} else ""


def seen_s(device: "Device", now_s: float) -> float | None:
    """Return the age of a device's last telemetry, by our clock."""
    return None if device.heard_s is None else max(0.0, now_s - device.heard_s)


def _status(device: "Device") -> str:
    if device.status is None:
        return "unknown"
    return "online" if device.online else "offline"


def _status_style(device: "Device") -> str:
    return "green" if device.online else "red"


def _ago(seconds: float | None) -> str | None:
    return None if seconds is None else f"{words.age(seconds)} ago"


def _sensors(device: "Device") -> "Sample | None":
    return device.telemetry.sample if device.telemetry else None


def _sample(device: "Device", field: str) -> float | None:
    found: float | None = getattr(_sensors(device), field, None)
    return found


def _memory_used(device: "Device") -> str | None:
    free = _sample(device, "memory_available_percent")
    return None if free is None else words.percent(100 - free)


def _rungs(device: "Device") -> "Rungs | None":
    if device.telemetry is not None:
        return device.telemetry.rungs
    return device.reported.rungs if device.reported else None


def _rung_style(device: "Device") -> str:
    found = _rungs(device)
    return "yellow" if found is not None and (found.residency or found.compute) else ""


def _rung(letter: str, number: int, cause: str) -> str:
    return f"{letter}{number}" + (f": {cause}" if cause else "")


def _cores(classes: "tuple[CoreClass, ...]") -> str:
    """Return the cores: `4`, or `4 at 43%, 2 at 100% speed` where they are not all alike."""
    if len(classes) == 1:
        return str(len(classes[0].cpus))
    said = [f"{len(c.cpus)} at {words.percent(c.capacity / 10.24)}" for c in classes]
    return f"{', '.join(said)} speed"


def _memory_line(total_mib: float | None, limit_mib: float | None) -> str | None:
    limit = f", limit {words.mib(limit_mib)}" if limit_mib is not None else ""
    return None if total_mib is None else f"{words.mib(total_mib)}{limit}"


def _sensor_facts(sample: "Sample | None") -> Iterator[tuple[str, object]]:
    if sample is None:
        return
    yield (
        "CPU",
        _joined(
            ("", words.percent(sample.cpu_percent)),
            ("own", words.percent(sample.own_cpu_percent)),
            ("others", words.percent(sample.foreign_cpu_percent)),
        ),
    )
    yield (
        "Memory free",
        _joined(
            ("", words.mib(sample.memory_available_mib)),
            ("", words.percent(sample.memory_available_percent)),
        ),
    )
    yield "Temperature", words.temperature(sample)
    yield "Battery", words.battery(sample)
    power = None if sample.power_w is None else f"{sample.power_w:.3g} W ({sample.power_method})"
    yield "Power", power


def _joined(*parts: tuple[str, str | None]) -> str | None:
    return ", ".join(f"{name} {value}".strip() for name, value in parts if value) or None


def _generations(device: "Device") -> str | None:
    if device.desired is None and device.reported is None:
        return None
    desired = device.desired.generation if device.desired else None
    accepted = device.reported.generation if device.reported else None
    return f"desired {desired or '-'}, accepted {accepted or '-'}"


def _cascade_line(cascade: "ReportedCascade") -> str:
    instead = cascade.running is not None and cascade.running != cascade.bundle
    other = f"; {words.ref(cascade.running)} answers" if instead else ""
    return cascade.phase + (f": {cascade.message}" if cascade.message else "") + other


def _loaded(device: "Device") -> str:
    """Return how many of each cascade's stages are loaded: `digits 2/2`."""
    return words.listed(
        [
            f"{c.bundle.name} {sum(s.state == 'loaded' for s in c.stages)}/{len(c.stages)}"
            for c in (device.reported.cascades if device.reported else ())
        ]
    )


def _each(whole: float | None, count: int) -> float | None:
    return None if whole is None or not count else whole / count


def _share(part: int | None, whole: int | None) -> str | None:
    return None if not whole or part is None else words.percent(100 * part / whole)
