"""What `ctl doctor` makes of what it finds: each finding becomes ok, warn or fail, with advice.

Pure: `doctor` gathers, this judges.
"""

import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from controller.cli.words import count

if TYPE_CHECKING:
    from controller.standing import Standing
    from protocols.envelope import Role

Level = Literal["ok", "warn", "fail"]

PYTHON = (3, 11)
SKEW_WARN_S = 5.0
"""A clock that is off by more makes ages and windows of the day wrong."""
CERTIFICATE_WARN_DAYS = 60
_ROSTER: "tuple[Standing, ...]" = ("accepted", "added", "pending", "stranger", "revoked")
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report."""

    name: str
    level: Level
    found: str
    advice: str = ""


def python(version: tuple[int, int, int]) -> Check:
    """Judge the Python that runs us."""
    found = ".".join(map(str, version))
    if version[:2] < PYTHON:
        return Check("python", "fail", found, "install Python 3.11 or newer")
    return Check("python", "ok", found)


def interpreter(name: str | None) -> Check:
    """Judge the interpreter that `ctl model add` and `ctl cascade build` run models with."""
    if name is None:
        advice = "pip install ai-edge-litert: needed by model add and cascade build"
        return Check("interpreter", "warn", "none installed", advice)
    return Check("interpreter", "ok", name)


def mosquitto(path: str | None, amqtt: str | None) -> Check:
    """Judge what `ctl broker` would run."""
    if path is not None:
        return Check("embedded broker", "ok", path)
    if amqtt is not None:
        advice = "install mosquitto for more than a demo"
        return Check("embedded broker", "warn", f"amqtt {amqtt}", advice)
    advice = "install mosquitto, or pip install 'amqtt<0.13'; not needed with a broker of your own"
    return Check("embedded broker", "warn", "none found", advice)


def private_key(role: str, path: str, mode: int | None) -> Check:
    """Judge the file of a private key; `mode` is its `st_mode`, None where there is no file."""
    name = f"{role} key"
    if mode is None:
        advice = (
            "run ctl keygen where bundles are signed"
            if role == "release"
            else "run ctl keygen; needed by ctl serve and a watching ctl deploy"
        )
        return Check(name, "warn", f"no file {path}", advice)
    permissions = stat.S_IMODE(mode)
    if permissions & 0o077:
        advice = f"chmod 600 {path}, and make new keys if others can log in here"
        return Check(name, "fail", f"{path} has mode {permissions:04o}", advice)
    return Check(name, "ok", f"{path}, mode {permissions:04o}")


def trust(roles: "Mapping[Role, Sequence[str]]", fleet: str) -> Check:
    """Judge the key set: for each role, the ids of the trusted keys."""
    missing = [role for role, keys in roles.items() if not keys]
    if missing:
        found = f"no {' and no '.join(missing)} key is trusted"
        return Check("trust", "fail", found, "put the fleet's trust.json back")
    return Check("trust", "ok", f"fleet {fleet}, {sum(map(len, roles.values()))} keys")


def broker(url: str, *, kept: bool) -> Check:
    """Judge a broker that answers."""
    if not kept:
        advice = "allow retained messages there: they are the fleet's database"
        return Check("broker", "fail", f"{url} does not retain what is published", advice)
    return Check("broker", "ok", f"{url}, retains documents")


def controllers(alive: Sequence[str]) -> Check:
    """Judge which controllers are alive."""
    if not alive:
        advice = "start ctl serve; without it devices follow only a watching ctl deploy"
        return Check("controllers", "warn", "none alive", advice)
    return Check("controllers", "ok", _list(alive))


def devices(online: Sequence[str], offline: Sequence[str]) -> Check:
    """Judge which devices are there."""
    if not online and not offline:
        advice = "start sluice-agent on a device, with this broker, this fleet and trust.json"
        return Check("devices", "warn", "none has ever reported", advice)
    if offline:
        found = f"{len(online)} online, {len(offline)} offline: {_list(offline)}"
        return Check("devices", "warn", found, "look at power, network and the agent's log there")
    return Check("devices", "ok", f"{len(online)} online")


def roster(
    standings: "Mapping[str, Standing]", rivals: Sequence[str], outdated: Sequence[str] = ()
) -> Check:
    """Judge who belongs to the fleet.

    Args:
        standings: of every device that was seen or is on the roster; empty: there is none.
        rivals: devices whose names others were seen to use.
        outdated: devices whose entries only keys of former times have signed.
    """
    if outdated:
        said = f"only keys of former times have signed for {_list(outdated)}"
        advice = "ctl device accept NAME signs anew; ctl device add NAME where it was not seen"
        return Check("roster", "fail", said, advice)
    if not standings:
        return Check("roster", "ok", "none: every device that the broker lets in is planned for")
    found = {kind: sorted(n for n, s in standings.items() if s == kind) for kind in _ROSTER}
    strangers = sorted({*rivals, *found["stranger"]})
    if strangers:
        advice = "end the copy; ctl device accept NAME for a new machine, ctl device rotate NAME"
        return Check("roster", "fail", f"another machine uses {_list(strangers)}", advice)
    said = ", ".join(f"{len(names)} {kind}" for kind, names in found.items() if names)
    if found["pending"]:
        advice = "ctl device accept NAME, or keep it out: ctl device revoke NAME"
        return Check("roster", "warn", f"{said}: {_list(found['pending'])}", advice)
    return Check("roster", "ok", said)


def rotations(names: Sequence[str]) -> Check:
    """Judge credentials that were exchanged: the ones before hold until that is finished."""
    advice = "once the new file is used there: ctl device rotate NAME --finish"
    return Check("rotations", "warn", f"unfinished: {_list(names)}", advice)


def certificates(ends_in_days: Mapping[str, float]) -> Check:
    """Judge when the fleet's certificates end: of each identity that holds one."""
    if not ends_in_days:
        return Check("certificates", "ok", "none of this home's making")
    soon = {who: days for who, days in ends_in_days.items() if days < CERTIFICATE_WARN_DAYS}
    if soon:
        found = _list([f"{who} in {days:.0f} days" for who, days in sorted(soon.items())])
        advice = "ctl device rotate NAME; ctl broker config DIR --renew for the broker's own"
        return Check("certificates", "warn", f"ends: {found}", advice)
    first = min(ends_in_days.values())
    return Check("certificates", "ok", f"{len(ends_in_days)}, the first ends in {first:.0f} days")


def clocks(skew_s: Mapping[str, float]) -> Check:
    """Judge the clocks of devices by the time in their telemetry minus its arrival here."""
    if not skew_s:
        return Check("clocks", "ok", "no telemetry heard")
    wrong = {name: skew for name, skew in skew_s.items() if abs(skew) > SKEW_WARN_S}
    if wrong:
        found = _list([f"{name} {skew:+.0f} s" for name, skew in wrong.items()])
        return Check("clocks", "warn", found, "let NTP set the clock there, or here")
    widest = max(map(abs, skew_s.values()))
    return Check("clocks", "ok", f"{len(skew_s)} devices within {max(widest, 0.1):.1f} s")


def catalog(bundles: int, models: int, faults: Sequence[str]) -> Check:
    """Judge the local catalog; `faults` are the "cannot ..." lines of what does not hold."""
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        advice = "add the model again (ctl model add) and build the cascade anew"
        return Check("catalog", "fail", faults[0] + more, advice)
    return Check("catalog", "ok", f"{count(bundles, 'cascade')}, {count(models, 'model')}")


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
