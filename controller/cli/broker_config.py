"""`ctl broker config` and `identity`: the fleet's own broker, and who may use it."""

import getpass
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli.context import open_home
from controller.cli.output import Column, Format, Output, note, print_json, print_rows

if TYPE_CHECKING:
    from controller.enrolment.files import Written
    from controller.enrolment.mosquitto import Duty
    from controller.enrolment.register import BrokerPlace
    from controller.enrolment.store import Store
    from controller.home import Home

_COLUMNS: "list[Column[Written]]" = [
    Column("FILE", lambda w: w.path, wrap=True),
    Column("RESULT", lambda w: w.what, style=lambda w: "yellow" if w.what == "replaced" else ""),
]


def configure(  # noqa: PLR0913 - one parameter an option
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the files go.")],
    hosts: Annotated[
        list[str] | None,
        typer.Option(
            "--host",
            metavar="NAME",
            help="Name or address of the broker; the first is what devices are told. Repeatable.",
            show_default="as before, else this host's name",
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="For certificates.", show_default="as before, or 8883"),
    ] = None,
    *,
    passwords: Annotated[
        bool | None,
        typer.Option(
            "--password-fallback/--no-password-fallback",
            help="Also listen, on the next port, for devices with passwords.",
            show_default="as before, or not",
        ),
    ] = None,
    at: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="Where DIR will be on the broker's machine, if that is another."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Where the broker keeps its documents.",
            show_default="DIR/data, with --at /var/lib/mosquitto",
        ),
    ] = None,
    renew: Annotated[
        bool, typer.Option("--renew", help="Make the broker a new certificate; the CA stays.")
    ] = False,
    output: Output = Format.TABLE,
) -> None:
    """Write what mosquitto needs as the fleet's broker: TLS, certificates, an access list.

    Run again, it keeps the certificate authority, and says what it replaces.

    Example: ctl broker config /etc/mosquitto/sluice --host broker.lan
    """
    from controller.enrolment.store import Store, reload_command, urls  # noqa: PLC0415
    from controller.enrolment.trail import record  # noqa: PLC0415

    home = open_home(ctx)
    store = Store(home)
    before = store.register.broker
    folder = folder.expanduser().absolute()
    place = _place(folder, before, hosts, port, passwords, at, data)
    written = [*store.configure(place, renew=renew), *_own_identity(home, store, place)]
    print_rows(written, _COLUMNS, output)
    url, by_password = urls(place)
    if changed := sorted(w.path.name for w in written if w.what != "kept"):
        record(open_home(ctx), url, f"wrote {', '.join(changed)}")
    if output is Format.JSON:
        return
    note(f"Devices are told {url}{f', with passwords {by_password}' if by_password else ''}.")
    if before is not None and url != home.broker.url:
        note(f"This home itself goes to {home.broker.url}: its config.toml is yours to change.")
    if place.user is None:
        note(f"Copy {folder} to {place.folder} there; its files must belong to mosquitto's user.")
    elif {"mosquitto.conf", "broker.pem"} & {w.path.name for w in written if w.what != "kept"}:
        note(f"Start it, anew if it runs: mosquitto -c {folder / 'mosquitto.conf'}")
    elif any(w.what != "kept" for w in written):
        note(f"If it runs, it must read its files again: {reload_command(place)}")


def identity(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of a person or a controller.")],
    out_dir: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Becomes a home folder with it.")
    ],
    *,
    for_serve: Annotated[
        bool,
        typer.Option("--serve", help="For ctl serve alone: it may not publish what people decide."),
    ] = False,
    output: Output = Format.TABLE,
) -> None:
    """Make a certificate for another person or controller, in a home folder of its own.

    The signing keys are not in it: copy keys/controller.key, or release.key, as it needs.

    Example: ctl broker identity server --serve --out server-home
    """
    from controller.enrolment.store import Store, reload_command  # noqa: PLC0415
    from controller.enrolment.trail import record  # noqa: PLC0415
    from controller.errors import EnrolmentError  # noqa: PLC0415
    from protocols.topics import check_name  # noqa: PLC0415

    home = open_home(ctx)
    store = Store(home)
    place = store.place
    folder = out_dir.expanduser().absolute()
    if (folder / "config.toml").exists():
        raise EnrolmentError(f"cannot write {folder}: it is a home folder already")
    written = _write_identity(
        home, store, place, check_name(name), "controller" if for_serve else "release", folder
    )
    print_rows(written, _COLUMNS, output)
    what = "a controller" if for_serve else "a person"
    record(home, f"@{name}", f"made a certificate for {what}")
    if output is Format.TABLE:
        note(f"The broker must read its files again: {reload_command(place)}")


def revoke(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="As ctl broker identity was told.")],
    output: Output = Format.TABLE,
) -> None:
    """Revoke the certificate of a person or a controller. For devices: ctl device revoke.

    Example: ctl broker revoke server
    """
    from controller.enrolment.store import Store, reload_command  # noqa: PLC0415
    from controller.enrolment.trail import record  # noqa: PLC0415
    from controller.errors import EnrolmentError  # noqa: PLC0415
    from protocols.topics import check_name  # noqa: PLC0415

    home = open_home(ctx)
    store = Store(home)
    who = f"@{check_name(name)}"
    if not store.register.holds(who):
        known = ", ".join(sorted(store.register.people)) or "none"
        raise EnrolmentError(f"cannot revoke {who}: it has no certificate; there are {known}")
    record(home, who, "revoked its certificate")
    store.revoke(who)
    if output is Format.JSON:
        print_json({"revoked": who})
    else:
        note(f"Revoked. It holds until the broker reads its files: {reload_command(store.place)}")


def _place(  # noqa: PLR0913, PLR0917 - the command's options
    folder: Path,
    before: "BrokerPlace | None",
    hosts: list[str] | None,
    port: int | None,
    passwords: bool | None,  # noqa: FBT001
    at: Path | None,
    data: Path | None,
) -> "BrokerPlace":
    """Put together where the broker is; what is not said stays as it was."""
    from controller.enrolment.register import BrokerPlace  # noqa: PLC0415
    from protocols.link import TLS_PORT  # noqa: PLC0415

    known = before is not None and before.written_to == folder
    if at is None and before is not None and known and before.user is None:
        at = Path(before.folder)
    chosen = port or (before.port if before is not None else TLS_PORT)
    if passwords is None:
        passwords = before is not None and before.password_port is not None
    default_data = Path("/var/lib/mosquitto") if at is not None else folder / "data"
    if data is None and before is not None and known:
        data = Path(before.data)
    return BrokerPlace(
        hosts=tuple(hosts or (before.hosts if before is not None else (socket.gethostname(),))),
        port=chosen,
        password_port=chosen + 1 if passwords else None,
        written_to=folder,
        folder=str(at or folder),
        data=str(data or default_data),
        user=None if at is not None else getpass.getuser(),
    )


def _own_identity(home: "Home", store: "Store", place: "BrokerPlace") -> "list[Written]":
    """Make this home's own certificate, once, and its configuration, where there is none."""
    from controller.enrolment.files import Written  # noqa: PLC0415

    if store.register.holds("@ctl"):
        return []
    if not (home.folder / "config.toml").exists():
        return _write_identity(home, store, place, "ctl", "release", home.folder)
    written = _write_certificate(home, store, "ctl", "release", home.folder)
    note(
        f"{home.folder / 'config.toml'} is yours and stays as it is; its [broker] must say:\n"
        f"{_config(home, place).partition('[broker]')[2].strip()}"
    )
    return [*written, Written(home.folder / "config.toml", "kept")]


def _write_identity(
    home: "Home", store: "Store", place: "BrokerPlace", name: str, duty: "Duty", folder: Path
) -> "list[Written]":
    """Write a certificate and what else makes a home folder of it."""
    from controller.enrolment.files import Written, write_private  # noqa: PLC0415

    written = _write_certificate(home, store, name, duty, folder)
    files = [("config.toml", _config(home, place).encode())]
    if folder != home.folder:
        files.append(("trust.json", home.trust_file.read_bytes()))
    for file, content in files:
        write_private(folder / file, content)
        written.append(Written(folder / file, "made"))
    return written


def _write_certificate(
    home: "Home", store: "Store", name: str, duty: "Duty", folder: Path
) -> "list[Written]":
    from controller.enrolment.files import (  # noqa: PLC0415
        Written,
        make_private_folder,
        write_private,
    )

    if folder != home.folder:
        home.trust()  # without it nothing is made at all
    make_private_folder(folder)
    granted = store.grant_person(name, duty)
    if granted.issued is None:
        return []
    files = (
        ("broker-ca.pem", store.ca_file.read_bytes()),
        ("client.pem", granted.issued.certificate),
        ("client.key", granted.issued.key),
    )
    return [
        Written(folder / file, "replaced" if write_private(folder / file, content) else "made")
        for file, content in files
    ]


def _config(home: "Home", place: "BrokerPlace") -> str:
    from controller.enrolment.store import urls  # noqa: PLC0415

    return (
        f"# Written by ctl, {time.strftime('%Y-%m-%d')}.\n"
        f'fleet = "{home.fleet}"\n\n[broker]\nurl = "{urls(place)[0]}"\n'
        'ca_file = "broker-ca.pem"\ncert_file = "client.pem"\nkey_file = "client.key"\n'
    )
