"""`ctl doctor`: what is well, what is not, and what to do about it."""

import shutil
import sys
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli import checks
from controller.cli.checks import Check
from controller.cli.context import open_home, open_session
from controller.cli.exits import ExitCode, explain
from controller.cli.options import duration_option
from controller.cli.output import Column, Format, Output, print_rows
from protocols.errors import SluiceError

if TYPE_CHECKING:
    from controller.fleet import Fleet
    from controller.home import Home
    from protocols.envelope import KeySet

_STYLE = {"ok": "green", "warn": "yellow", "fail": "bold red"}
_COLUMNS: list[Column[Check]] = [
    Column("CHECK", lambda c: c.name),
    Column("RESULT", lambda c: c.level, style=lambda c: _STYLE[c.level]),
    Column("FOUND", lambda c: c.found, wrap=True),
    Column("WHAT TO DO", lambda c: c.advice, wrap=True),
]


def doctor(
    ctx: typer.Context,
    wait_s: Annotated[
        float, duration_option("--wait", "How long to wait for telemetry, for the clocks.", "6s")
    ] = 6.0,
    output: Output = Format.TABLE,
) -> None:
    """Check this machine, the keys, the catalog, the broker, the controllers and the devices.

    Exit code 1 where a check fails; warnings do not count.

    Example: ctl doctor
    """
    found = [*_machine(), *_home(ctx, wait_s)]
    print_rows(found, _COLUMNS, output)
    if any(check.level == "fail" for check in found):
        raise typer.Exit(ExitCode.ERROR)


def _machine() -> Iterator[Check]:
    from controller.broker import find_mosquitto  # noqa: PLC0415
    from protocols.inference.runtime import runtime_name  # noqa: PLC0415

    yield checks.python(sys.version_info[:3])
    yield Check("sluice", "ok", version("sluice"))
    yield checks.interpreter(runtime_name())
    yield checks.mosquitto(find_mosquitto(), _version("amqtt"))


def _home(ctx: typer.Context, wait_s: float) -> Iterator[Check]:
    from controller.signing import ROLES, key_path  # noqa: PLC0415

    try:
        home = open_home(ctx)
    except SluiceError as error:
        yield Check("home", "fail", explain(error), "correct config.toml or the options")
        return
    yield _folder(home.folder)
    for role in ROLES:
        path = key_path(home, role)
        yield checks.private_key(role, str(path), path.stat().st_mode if path.exists() else None)
    try:
        keys = home.trust()
    except SluiceError as error:
        yield Check("trust", "fail", explain(error), "run ctl keygen, or copy trust.json here")
        keys = None
    if keys is not None:
        yield _trust(home, keys)
        yield _catalog(home, keys)
    if home.pki_dir.exists():
        try:
            yield _certificates(home)
        except SluiceError as error:
            yield Check("certificates", "fail", explain(error), "put the home's folder pki back")
    yield from _broker(ctx, home, wait_s)


def _folder(folder: Path) -> Check:
    if not folder.exists():
        return Check("home", "warn", f"no folder {folder}", "run ctl keygen, or give --home")
    free_mib = shutil.disk_usage(folder).free / (1 << 20)
    return Check("home", "ok", f"{folder}, {free_mib:.0f} MiB free on its disk")


def _trust(home: "Home", keys: "KeySet") -> Check:
    from controller.signing import ROLES, has_key, load_signer  # noqa: PLC0415

    roles = {role: [k.key_id for k in keys.keys if k.role == role] for role in ROLES}
    for role in ROLES:
        if has_key(home, role):
            try:
                load_signer(home, role)
            except SluiceError as error:
                return Check("trust", "fail", explain(error), "put the right key back")
    return checks.trust(roles, keys.fleet)


def _catalog(home: "Home", keys: "KeySet") -> Check:
    from controller.catalog import Catalog  # noqa: PLC0415

    catalog = Catalog(home)
    try:
        models, bundles = len(catalog.models()), len(catalog.bundle_names())
    except SluiceError as error:
        return checks.catalog(0, 0, [explain(error)])
    return checks.catalog(bundles, models, catalog.faults(keys))


def _broker(ctx: typer.Context, home: "Home", wait_s: float) -> Iterator[Check]:
    from controller.cli.device import hear  # noqa: PLC0415
    from controller.cli.probe import retains  # noqa: PLC0415

    try:
        with open_session(ctx) as session:
            kept = retains(home)
            hear(session, lambda fleet: list(fleet.devices.values()), wait_s)
            fleet = session.fleet
    except SluiceError as error:
        yield Check("broker", "fail", explain(error), "start it, or give --broker mqtt://HOST:PORT")
        return
    yield checks.broker(home.broker.url, kept=kept)
    yield from _fleet(fleet)


def _fleet(fleet: "Fleet") -> Iterator[Check]:
    yield checks.controllers(fleet.alive("serve"))
    ours = [d for d in fleet.devices.values() if d.standing != "revoked"]
    online = sorted(d.name for d in ours if d.online)
    offline = sorted(d.name for d in ours if not d.online)
    yield checks.devices(online, offline)
    yield from _roster(fleet)
    now_s = time.time()
    yield checks.clocks(
        {
            d.name: d.telemetry.ts - (d.heard_s or now_s)
            for d in fleet.devices.values()
            if d.telemetry is not None
        }
    )


def _roster(fleet: "Fleet") -> Iterator[Check]:
    from controller.roster import unfinished, unseen  # noqa: PLC0415

    there = [*fleet.devices.values(), *unseen(fleet)]
    rivals = {name for c in fleet.controllers.values() if c.online for name in c.rivals}
    standings = {d.name: d.standing for d in there} if fleet.closed else {}
    yield checks.roster(standings, sorted(rivals), sorted(fleet.outdated))
    if names := unfinished(fleet):
        yield checks.rotations(names)


def _certificates(home: "Home") -> Check:
    from controller.enrolment.store import Store  # noqa: PLC0415

    return checks.certificates(Store(home).ends_in_days())


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
