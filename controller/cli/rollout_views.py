"""How a rollout reads: its headline, its waves, what the gates found, what it waits for. No I/O."""

from typing import TYPE_CHECKING

from controller.cli import words
from controller.cli.output import Column
from controller.cli.views import phase_style

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.progress import DeviceProgress
    from controller.rollouts.overview import Overview, WaveStanding
    from protocols.rollout import Finding, Gates, Strategy

_NAMED = 8
_UNITS = {"p95": " times", "battery": " points an hour"}
_STATE_STYLE = {"passed": "green", "completed": "green", "stopped": "red", "paused": "yellow"}


class WaveRow:
    """One wave of an overview, as a row."""

    def __init__(self, wave: "WaveStanding", found: "Overview", now_s: float) -> None:
        self.wave = wave
        self.state = _wave_state(wave, found, now_s)

    @property
    def others(self) -> str:
        """How many devices are in which other phase."""
        return ", ".join(f"{count} {phase}" for phase, count in self.wave.others.items())

    @property
    def line(self) -> str:
        """The row in one line, without what changes with every second."""
        state = self.state.partition(" ")[0].rstrip(",")
        counts = [f"{self.wave.running} running", *([self.others] if self.others else [])]
        return f"wave {self.wave.name} {state}: {', '.join(counts)}"


WAVE_COLUMNS: "list[Column[WaveRow]]" = [
    Column("WAVE", lambda r: r.wave.name),
    Column("DEVICES", lambda r: r.wave.devices, right=True),
    Column("RUNNING", lambda r: r.wave.running, right=True),
    Column("OTHERS", lambda r: r.others, wrap=True, style=lambda r: _others_style(r.wave)),
    Column("STATE", lambda r: r.state, style=lambda r: _STATE_STYLE.get(r.state, "")),
]

FINDING_COLUMNS: "list[Column[Finding]]" = [
    Column("UNHEALTHY", lambda f: f.device or "all together", style=lambda _: "red"),
    Column("GATE", lambda f: f.gate),
    Column("WHAT", lambda f: f.message, wrap=True),
]


def wave_rows(found: "Overview", now_s: float) -> list[WaveRow]:
    """Return the waves as rows."""
    return [WaveRow(wave, found, now_s) for wave in found.waves]


def headline(found: "Overview") -> str:
    """Say in one line what it is and how it stands: `digits@2: soaking, wave 2 of 3 (25%)`."""
    name = words.ref(found.deployment.bundle)
    how = phase_words(found)
    return f"{name}: {how}, {_reached(found)}"


def phase_words(found: "Overview") -> str:
    """Say how a rollout stands."""
    from controller.rollouts.wording import wave_words  # noqa: PLC0415

    if found.deployment.aborted:
        return "aborted"
    if found.deployment.strategy is None:
        return "everywhere at once"
    if found.rollout is None:
        return "not begun: no controller has taken it up yet"
    if found.rollout.phase == "completed":
        return "completed"
    return f"{found.rollout.phase} in {wave_words(found.deployment, found.rollout.wave)}"


def notes(found: "Overview", now_s: float, *, listened: bool) -> list[str]:
    """Return what else is to be known, in lines: who is waited for, and who is away.

    Args:
        found: how it stands.
        now_s: Unix time in seconds.
        listened: whether this session has been there long enough to call a device silent.
    """
    said = []
    if found.lagging:
        said.append(f"Waits for: {words.listed([_lagging(d) for d in found.lagging], _NAMED)}.")
    if listened and (silent := _silent(found, now_s)):
        said.append(f"Waits for a word from: {words.listed(silent, _NAMED)}.")
    if found.away:
        said.append(f"Not connected, follows on return: {words.listed(list(found.away), _NAMED)}.")
    return said


def hints(found: "Overview") -> str:
    """Return the commands that make sense now."""
    from controller.rollouts.waves import is_held  # noqa: PLC0415

    name, rollout = found.deployment.id, found.rollout
    if found.deployment.strategy is None or found.deployment.aborted or rollout is None:
        return ""
    if rollout.phase == "completed":
        return f"Back to the bundle before: ctl rollout undo {found.deployment.bundle.name}"
    if rollout.phase == "stopped":
        return "It rules nowhere any more; a new ctl deploy begins again."
    last = rollout.wave == len(found.waves) - 1
    stands = found.deployment.paused or is_held(rollout)
    verbs = ["resume" if stands else "pause", *([] if last else ["promote"])]
    return f"ctl rollout watch|{'|'.join(verbs)}|abort {name}"


def strategy_words(strategy: "Strategy | None") -> str:
    """Return a strategy in a line: `canary, 25%, all; 12 a minute; soak 10m`."""
    from controller.rollouts.waves import wave_names  # noqa: PLC0415

    if strategy is None:
        return "at once"
    said = [", ".join(wave_names(strategy))]
    if strategy.per_minute is not None:
        said.append(f"{strategy.per_minute} a minute")
    said.append(f"soak {words.age(strategy.soak_s)}")
    return "; ".join(said)


def gate_words(gates: "Gates") -> str:
    """Return the limits that hold: `failed 1%, p95 1.5, ...`."""
    shares = {"unhealthy", "failed", "degraded", "escalated"}
    said = []
    for name, limit in gates:
        if limit is None or limit is False:
            continue
        if limit is True:
            said.append(name)
        else:
            figure = f"{100 * limit:g}%" if name in shares else f"{limit:g}"
            said.append(f"{name} {figure}{_UNITS.get(name, '')}")
    return ", ".join(said)


def document(found: "Overview", code: int) -> dict[str, object]:
    """Return a rollout as JSON has it."""
    return {
        "deployment": found.deployment,
        "rollout": found.rollout,
        "waves": found.waves,
        "findings": found.findings,
        "waits_for": found.lagging,
        "not_connected": found.away,
        "devices": found.devices,
        "exit_code": code,
        "outcome": found.outcome.message,
    }


def _reached(found: "Overview") -> str:
    running = sum(one.phase == "running" for one in found.devices)
    return f"{running} of {words.count(len(found.devices), 'device')} run it"


def _wave_state(wave: "WaveStanding", found: "Overview", now_s: float) -> str:
    rollout, strategy = found.rollout, found.deployment.strategy
    if found.deployment.aborted:
        return "aborted"
    if wave.state != "open" or strategy is None:
        return wave.state
    if rollout is None:
        return "waiting"
    if rollout.phase == "reaching":
        waiting = wave.others.get("waiting", 0)
        return f"reaching, {wave.devices - waiting} of {wave.devices}"
    if rollout.phase == "soaking" and rollout.soaking_s is not None:
        gone_s = min(max(0.0, now_s - rollout.soaking_s), strategy.soak_s)
        return f"soaking {words.age(gone_s)} of {words.age(strategy.soak_s)}"
    return rollout.phase


def _lagging(one: "DeviceProgress") -> str:
    if one.phase == "fetching" and one.total_bytes:
        return f"{one.device} (fetching {100 * one.fetched_bytes // one.total_bytes}%)"
    return f"{one.device} ({one.phase})"


def _silent(found: "Overview", now_s: float) -> list[str]:
    """Return who holds the wave up by saying nothing, once it has soaked long enough."""
    rollout, strategy = found.rollout, found.deployment.strategy
    if rollout is None or strategy is None or rollout.phase != "soaking":
        return []
    if rollout.soaking_s is None or now_s - rollout.soaking_s < strategy.soak_s:
        return []
    return list(found.silent)


def _others_style(wave: "WaveStanding") -> str:
    styles = {phase_style(phase) for phase in wave.others}
    return "red" if "red" in styles else ""


def shown_findings(found: "Overview", most: int = 20) -> "Sequence[Finding]":
    """Return the findings that a table shows."""
    return found.findings[:most]
