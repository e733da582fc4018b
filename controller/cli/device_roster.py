"""`ctl device add`, `accept`, `revoke`, `rotate`: which devices belong to the fleet."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli import words
from controller.cli.context import open_home, open_session
from controller.cli.exits import ExitCode
from controller.cli.options import parse_selector
from controller.cli.output import Format, Output, note, print_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from controller.enrolment.store import Store
    from controller.session import Session
    from protocols.audit import Act
    from protocols.enrolment import EnrolmentFile
    from protocols.roster import RosterEntry

DeviceName = Annotated[str, typer.Argument(metavar="DEVICE")]
OutFile = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE", help="Where to.", show_default="DEVICE.enrol"),
]
ByPassword = Annotated[
    bool, typer.Option("--password", help="A password in place of a certificate.")
]


def add(
    ctx: typer.Context,
    name: DeviceName,
    labels: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="KEY=VALUE", help="A label of the device; repeatable."),
    ] = None,
    out_file: OutFile = None,
    *,
    by_password: ByPassword = False,
    output: Output = Format.TABLE,
) -> None:
    """Let a device come: writes its enrolment file, to be used once.

    On the device: sluice-agent enroll FILE. The first device that is added closes the fleet: from
    then on only devices on the roster are planned for.

    Example: ctl device add pi-1 --label room=hall
    """
    from controller import roster  # noqa: PLC0415
    from protocols.topics import check_name  # noqa: PLC0415

    path = (out_file or Path(f"{check_name(name, 'device')}.enrol")).expanduser().absolute()
    found = {check_name(key, "label"): value for key, value in parse_selector(labels).items()}
    with open_session(ctx, "deploy") as session:
        first = not session.fleet.closed
        entry, store = _make(
            session,
            _Made(check_name(name, "device"), path, roster.add, "device-added"),
            found,
            password=by_password,
        )
        others = [d for d in sorted(session.fleet.devices) if d != name]
    # A name that was revoked before stands in the access list as denied.
    _tell_file(path, entry, store, output, must_reload=by_password or entry.generation > 1)
    if first and others and output is Format.TABLE:
        note(
            f"The fleet has a roster now: {words.listed(others)} "
            f"{'waits' if len(others) == 1 else 'wait'} for ctl device accept NAME, or --all, "
            "before anything new is planned there.",
            style="yellow",
        )


def accept(
    ctx: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(metavar="DEVICE")] = None,
    *,
    everyone: Annotated[
        bool, typer.Option("--all", help="Every device that is pending now.")
    ] = False,
    output: Output = Format.TABLE,
) -> None:
    """Say yes to devices that came without being added, or on another machine than before.

    Example: ctl device accept pi-7
    """
    from controller import roster  # noqa: PLC0415
    from controller.identity import whoami  # noqa: PLC0415

    if bool(names) == everyone:
        raise typer.BadParameter("name devices, or give --all")
    with open_session(ctx, "deploy") as session:
        wanted = roster.pending(session.fleet) if everyone else list(names or ())
        entries = roster.accept(session.fleet, wanted, by=whoami(), now_s=time.time())
        _publish(session, entries, "device-accepted")
    if output is Format.JSON:
        print_json(entries)
    elif entries:
        note(f"Accepted: {words.listed([e.device for e in entries])}.", style="green")
    else:
        note("No device is pending.")


def revoke(
    ctx: typer.Context,
    name: DeviceName,
    *,
    clear: Annotated[
        bool, typer.Option("--clear", help="Also take its documents off the broker.")
    ] = False,
    output: Output = Format.TABLE,
) -> None:
    """End a device's membership: nothing is planned for it, and its credential is revoked.

    Example: ctl device revoke pi-1 --clear
    """
    from controller import roster  # noqa: PLC0415
    from controller.enrolment.store import Store  # noqa: PLC0415
    from controller.identity import whoami  # noqa: PLC0415
    from controller.steps import ClearDevice  # noqa: PLC0415

    store = Store(open_home(ctx))
    with open_session(ctx, "deploy") as session:
        entry = roster.revoke(session.fleet, name, by=whoami(), now_s=time.time())
        _publish(session, [entry], "device-revoked")
        had = store.ca_file.exists() and store.revoke(name)
        if clear:
            session.execute([ClearDevice(name)])
    if output is Format.JSON:
        print_json({"entry": entry, "credential_revoked": had})
        return
    note(f"{name} is revoked: nothing is planned for it any more.", style="green")
    if had:
        note(f"Its credential holds until the broker reads its files again: {_reload(store)}")
    else:
        note("It has no credential of this home's authority: end the one that it uses yourself.")
    if clear and had:
        note("If it said something before that, run this again with --clear.")


def rotate(
    ctx: typer.Context,
    name: DeviceName,
    out_file: OutFile = None,
    *,
    by_password: ByPassword = False,
    finish: Annotated[
        bool,
        typer.Option("--finish", help="Once the new file is used: revoke the credential before."),
    ] = False,
    output: Output = Format.TABLE,
) -> None:
    """Give a device a new enrolment file with a new credential.

    The certificate that it has holds until --finish; a password is exchanged at once. Code 4 from
    --finish: the device has not come by its new file yet.

    Example: ctl device rotate pi-1; then on the device: sluice-agent enroll pi-1.enrol
    """
    if finish:
        _finish(ctx, name, output)
        return
    from controller import roster  # noqa: PLC0415

    path = (out_file or Path(f"{name}.enrol")).expanduser().absolute()
    with open_session(ctx, "deploy") as session:
        labels = session.fleet.device(name).labels
        entry, store = _make(
            session,
            _Made(name, path, roster.rotate, "device-rotated"),
            labels,
            password=by_password,
        )
    _tell_file(path, entry, store, output, must_reload=by_password)
    if output is Format.TABLE:
        note(f"Once it is used: ctl device rotate {name} --finish")


def _finish(ctx: typer.Context, name: str, output: Format) -> None:
    """Revoke the credential before the one that a device uses now."""
    from controller import roster  # noqa: PLC0415
    from controller.enrolment.store import Store  # noqa: PLC0415
    from controller.identity import whoami  # noqa: PLC0415

    store = Store(open_home(ctx))
    _ = store.place
    with open_session(ctx, "deploy") as session:
        entry = roster.rotated(session.fleet, name, by=whoami(), now_s=time.time())
        if entry is None:
            note(f"{name} has not come by its new enrolment file yet.", style="yellow")
            raise typer.Exit(ExitCode.PENDING)
        _publish(session, [entry], "device-rotated")
        store.revoke(name, keep=entry.enrolment)
    if output is Format.JSON:
        print_json(entry)
    else:
        note(f"{name} has its new credential, the one before is revoked.", style="green")
        note(f"It holds until the broker reads its files again: {_reload(store)}")


@dataclass(frozen=True, slots=True)
class _Made:
    """An enrolment file that is to be made: for whom, where, and what it is on the roster."""

    name: str
    path: Path
    entry: "Callable[..., RosterEntry]"
    act: "Act"


def _make(
    session: "Session", made: _Made, labels: dict[str, str], *, password: bool
) -> "tuple[RosterEntry, Store]":
    """Make a credential and hand it out. What can be refused is refused before there is one."""
    from controller.enrolment.handout import (  # noqa: PLC0415
        check_new,
        enrolment_file,
        new_nonce,
        shown,
    )
    from controller.enrolment.store import Store  # noqa: PLC0415
    from controller.identity import whoami  # noqa: PLC0415
    from controller.signing import load_signer  # noqa: PLC0415
    from protocols.enrolment import file_digest  # noqa: PLC0415
    from protocols.roster import Credential  # noqa: PLC0415

    store, nonce, by = Store(session.home), new_nonce(), whoami()
    digest, fleet = file_digest(nonce), session.fleet
    check_new(made.path)
    load_signer(session.home, "release")
    made.entry(fleet, made.name, digest, Credential(kind="certificate"), by=by, now_s=0.0)
    granted = store.grant_device(made.name, digest, password=password)
    entry = made.entry(fleet, made.name, digest, shown(granted), by=by, now_s=time.time())
    file = enrolment_file(session.home, store, granted, nonce, labels)
    _hand_out(session, entry, file, made)
    return entry, store


def _hand_out(session: "Session", entry: "RosterEntry", file: "EnrolmentFile", made: _Made) -> None:
    """Publish the entry and put the file in place: the file is on disk before, not yet by name."""
    from controller.enrolment.files import stage_private  # noqa: PLC0415
    from controller.errors import EnrolmentError  # noqa: PLC0415

    try:
        staged = stage_private(made.path, file.encode() + b"\n")
    except OSError as error:
        raise EnrolmentError(f"cannot write {made.path}: {error.strerror or error}") from error
    try:
        _publish(session, [entry], made.act)
        staged.replace(made.path)
    finally:
        staged.unlink(missing_ok=True)


def _publish(session: "Session", entries: "Sequence[RosterEntry]", act: "Act") -> None:
    from controller.steps import PutRoster  # noqa: PLC0415

    session.execute([PutRoster(entry, act) for entry in entries])


def _tell_file(
    path: Path, entry: "RosterEntry", store: "Store", output: Format, *, must_reload: bool
) -> None:
    if output is Format.JSON:
        print_json({"file": path, "entry": entry})
        return
    note(f"Wrote {path}: it holds a secret. Carry it to the device and use it there, once:")
    note(f"  sluice-agent enroll {path.name}")
    if must_reload:
        note(f"The broker must read its files again: {_reload(store)}")


def _reload(store: "Store") -> str:
    from controller.enrolment.store import reload_command  # noqa: PLC0415

    return reload_command(store.place)
