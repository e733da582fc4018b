"""`ctl keys`: whose signatures the fleet trusts, and how that changes."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from controller.cli import words
from controller.cli.context import open_home, open_session
from controller.cli.exits import ExitCode
from controller.cli.output import Column, Format, Output, note, print_json, print_rows, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.fleet import Fleet
    from controller.home import Home
    from controller.resign import Resigned
    from protocols.envelope import KeySet, PublicKey, Role

app = typer.Typer(no_args_is_help=True, help="Whose signatures the fleet trusts.")

_MOST_SAID = 10

RoleName = Literal["release", "controller"]
RoleArgument = Annotated[RoleName, typer.Argument(metavar="ROLE", help="release or controller.")]
KeyId = Annotated[str, typer.Argument(metavar="KEY", help="Its id, as ctl keys ls shows it.")]
SignOnly = Annotated[
    Path | None,
    typer.Option(
        "--sign-only",
        metavar="FILE",
        help="Publish nothing: write the signed key set, for others to sign it with ctl sign.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
NoResign = Annotated[
    bool,
    typer.Option(
        "--no-resign",
        help="The key may be in wrong hands: vouch for nothing that it has signed.",
    ),
]


@dataclass(frozen=True, slots=True)
class _Row:
    """One key of the fleet."""

    key: "PublicKey"
    here: Path | None
    former: bool = False

    def document(self) -> object:
        return {
            "key_id": self.key.key_id,
            "role": self.key.role,
            "public": self.key.public,
            "here": self.here,
            "former": self.former,
        }


@dataclass(frozen=True, slots=True)
class _Change:
    """What becomes of the keys."""

    add: "Sequence[PublicKey]" = ()
    remove: "Sequence[PublicKey]" = ()
    threshold: "dict[Role, int]" = field(default_factory=dict)
    said: str = ""
    resigns: bool = True


@app.command("ls")
def list_keys(
    ctx: typer.Context,
    *,
    offline: Annotated[
        bool, typer.Option("--offline", help="Only what the home folder knows; ask no broker.")
    ] = False,
    output: Output = Format.TABLE,
) -> None:
    """List the keys, how many of each role must sign, and which devices trust them already.

    Example: ctl keys ls
    """
    home = open_home(ctx)
    versions: dict[str, int] = {}
    if not offline:
        with open_session(ctx) as session:
            fleet = session.fleet
        versions = _versions(fleet)
    keys = home.trust()
    paths = _paths(home)
    rows = [_Row(key, paths.get(key.key_id)) for key in keys.keys]
    rows += [_Row(key, None, former=True) for key in keys.former]
    if output is Format.JSON:
        print_json(
            {
                "fleet": keys.fleet,
                "version": keys.version,
                "threshold": keys.threshold,
                "keys": [row.document() for row in rows],
                "devices": versions,
            }
        )
        return
    print_table(
        rows,
        [
            Column("KEY", lambda r: r.key.key_id),
            Column("ROLE", lambda r: r.key.role),
            Column("TRUSTED", lambda r: "no more" if r.former else "yes"),
            Column("HERE", lambda r: r.here, wrap=True),
        ],
    )
    needed = ", ".join(f"{n} {role}" for role, n in sorted(keys.threshold.items()))
    note(f"Version {keys.version} of fleet {keys.fleet}; must sign: {needed}.")
    behind = sorted(name for name, version in versions.items() if version < keys.version)
    if behind:
        note(f"Devices that trust an older version: {words.listed(behind)}.", style="yellow")


@app.command("new")
def new_key(ctx: typer.Context, role: RoleArgument, output: Output = Format.TABLE) -> None:
    """Make a private key here, and print its public half for whoever runs ctl keys add.

    Nobody trusts it before that.

    Example: ctl keys new release
    """
    from controller.signing import make_key  # noqa: PLC0415

    path, public = make_key(open_home(ctx), role)
    print_rows([public.public], [Column("PUBLIC", lambda r: r)], output, document=lambda _: public)
    note(f"The private key {public.key_id} is {path}. To trust it: ctl keys add {role} PUBLIC")


@app.command("add")
def add_key(
    ctx: typer.Context,
    role: RoleArgument,
    public: Annotated[
        str, typer.Argument(metavar="PUBLIC", help="As ctl keys new prints it: 44 characters.")
    ],
    *,
    sign_only: SignOnly = None,
    yes: Yes = False,
    output: Output = Format.TABLE,
) -> None:
    """Trust one more key.

    Example: ctl keys add release 3q2+7w...=
    """
    key = _public(public, role)
    _change(
        ctx, _Change(add=(key,), said=f"adds {role} key {key.key_id}"), sign_only, output, yes=yes
    )


@app.command("remove")
def remove_key(
    ctx: typer.Context,
    key_id: KeyId,
    *,
    sign_only: SignOnly = None,
    no_resign: NoResign = False,
    yes: Yes = False,
    output: Output = Format.TABLE,
) -> None:
    """Trust a key no more: what it alone has signed counts for nothing from then on.

    Deployments, pins and the like that need it are signed by your own key first, unless
    --no-resign. What runs on devices goes on running.

    Example: ctl keys remove 24f6ed6acbfe1009 --no-resign
    """
    _check_place(sign_only, no_resign=no_resign)
    found = _find(open_home(ctx).trust(), key_id)
    said = f"removes {' and '.join(k.role for k in found)} key {found[0].key_id}"
    change = _Change(remove=found, said=said, resigns=not no_resign)
    _change(ctx, change, sign_only, output, yes=yes)


@app.command("threshold")
def set_threshold(
    ctx: typer.Context,
    role: RoleArgument,
    count: Annotated[int, typer.Argument(metavar="N", min=1, max=8, help="Distinct keys.")],
    *,
    sign_only: SignOnly = None,
    yes: Yes = False,
    output: Output = Format.TABLE,
) -> None:
    """Say how many distinct keys of a role must sign.

    Example: ctl keys threshold release 2
    """
    change = _Change(threshold={role: count}, said=f"{count} {role} keys must sign")
    _change(ctx, change, sign_only, output, yes=yes)


@app.command("rotate")
def rotate_key(
    ctx: typer.Context,
    role: RoleArgument,
    *,
    sign_only: SignOnly = None,
    no_resign: NoResign = False,
    yes: Yes = False,
    output: Output = Format.TABLE,
) -> None:
    """Put a new key of yours in the place of the one that is here.

    The old one's file is kept, with the ending .retired. A controller's key is rotated where ctl
    serve runs, with the release key at hand: --key FILE.

    Example: ctl keys rotate release
    """
    from controller.signing import load_signer, make_key  # noqa: PLC0415

    _check_place(sign_only, no_resign=no_resign)
    home = open_home(ctx)
    old = load_signer(home, role).public
    path, new = make_key(home, role)
    said = f"{role} key {new.key_id} takes the place of {old.key_id}"
    change = _Change((new,), (old,), said=said, resigns=not no_resign)
    try:
        _change(ctx, change, sign_only, output, yes=yes)
    finally:
        if sign_only is None and new not in home.trust().keys:
            path.unlink()  # nobody will ever trust it


def _check_place(sign_only: Path | None, *, no_resign: bool) -> None:
    """Refuse --no-resign where it would be forgotten: a file does not hold it."""
    if sign_only is not None and no_resign:
        raise typer.BadParameter(
            "--no-resign is for who publishes, a file does not hold it: leave it out with "
            "--sign-only, and then ctl publish FILE --no-resign"
        )


def _change(
    ctx: typer.Context, change: _Change, sign_only: Path | None, output: Format, *, yes: bool
) -> None:
    """Make the next key set; publish it, or write it for others to sign."""
    from controller.trust import successor  # noqa: PLC0415

    home = open_home(ctx)
    before = home.trust()
    after = successor(before, add=change.add, remove=change.remove, threshold=change.threshold)
    envelope = _signed(home, before, after)
    if sign_only is not None:
        from controller.cli.signing import say_signed, write_envelope  # noqa: PLC0415

        write_envelope(sign_only, envelope)
        say_signed(home, sign_only, envelope, output)
        return
    publish_keys(ctx, envelope, change.said, output, resigns=change.resigns, yes=yes)


def publish_keys(
    ctx: typer.Context,
    envelope: bytes,
    said: str,
    output: Format,
    *,
    resigns: bool = True,
    yes: bool = False,
) -> None:
    """Publish a signed key set, after what would lose its word with it has been signed anew.

    Raises:
        TrustError: it is not signed as the keys of now and its own demand, or the fleet has such a
            version already.
        LinkError: not all that is signed anew could be read.
    """
    from controller.cli.signing import documents_to_keep  # noqa: PLC0415
    from controller.signing import retire_keys  # noqa: PLC0415
    from controller.steps import PutSigned  # noqa: PLC0415
    from controller.trust import check_next, keep_keys  # noqa: PLC0415
    from protocols.trust import verify_rotation  # noqa: PLC0415

    home = open_home(ctx)
    before = home.trust()
    after = verify_rotation(envelope, before)
    shown = documents_to_keep(home, before, after, resigns=resigns)
    _say_kept(shown)
    _say_bundles(home, before, after)
    if not yes and not _agreed(said):
        note("Nothing was changed.")
        raise typer.Exit(ExitCode.ERROR)
    topic, what = home.topics.keys(after.version), f"key set {after.version}: {said}"
    with open_session(ctx) as session:
        check_next(session.fleet, after, envelope)
        # Whoever was asked may have thought for an hour: what has changed meanwhile counts.
        kept = documents_to_keep(home, before, after, resigns=resigns)
        if kept != shown:
            _say_kept(kept)
        session.execute([*kept.steps])
        keep_keys(home, after, envelope)
        session.execute([PutSigned(topic, envelope, what, "keys-changed", f"keys-{after.version}")])
    retired = retire_keys(home, after)
    if output is Format.JSON:
        print_json({"keys": after, "resigned": len(kept.steps), "lost": kept.lost})
        return
    note(f"Published version {after.version}: {said}.", style="green")
    for path in retired:
        note(f"{path} is trusted no more; its file is kept as {path.name}.retired.")
    note(f"Machines that join from now on need {home.trust_file}; the others follow by themselves.")


def _signed(home: "Home", before: "KeySet", after: "KeySet") -> bytes:
    """Return a key set's envelope, signed by all release keys here that are of now or of then."""
    from controller.signing import load_signer  # noqa: PLC0415

    both = before.with_(keys=tuple(dict.fromkeys((*before.keys, *after.keys))))
    return load_signer(home, "release", both).sign_keys(after)


def _say_kept(kept: "Resigned") -> None:
    """Say what is signed anew, and what is not. Desired documents ctl serve writes anew itself."""
    _say_some([f"Signs {step.what} anew." for step in kept.steps])
    lost = ["/".join(topic.split("/")[3:]) for topic in kept.lost]
    _say_some(
        [
            f"{place} counts for nothing after this: no key here signs it anew."
            for place in lost
            if not place.endswith("/desired")
        ],
        style="yellow",
    )


def _say_some(lines: "Sequence[str]", style: str = "") -> None:
    for line in lines[:_MOST_SAID]:
        note(line, style=style)
    if len(lines) > _MOST_SAID:
        note(f"... and {len(lines) - _MOST_SAID} more alike.", style=style)


def _say_bundles(home: "Home", before: "KeySet", after: "KeySet") -> None:
    """Say which bundles a device would not take any more, and what to do about it."""
    from controller.catalog import Catalog  # noqa: PLC0415
    from controller.resign import distrusted  # noqa: PLC0415

    catalog = Catalog(home)
    refs = [catalog.bundle_ref(n, v) for n in catalog.bundle_names() for v in catalog.versions(n)]
    envelopes = [(f"{ref.name}@{ref.version}", catalog.read(ref.artifact)) for ref in refs]
    for name in distrusted(envelopes, before, after):
        note(
            f"{name} goes on where it serves, and no other device takes it after this: "
            f"ctl sign {name}, then deploy it again.",
            style="yellow",
        )


def _agreed(said: str) -> bool:
    try:
        return typer.confirm(f"Change of the fleet's keys: {said}. Go on?", err=True)
    except typer.Abort:
        return False


def _find(keys: "KeySet", key_id: str) -> "tuple[PublicKey, ...]":
    from controller.errors import ControllerError  # noqa: PLC0415

    found = tuple(key for key in keys.keys if key.key_id.startswith(key_id))
    if not found or len({key.key_id for key in found}) > 1:
        why = "several keys begin so" if found else "no such key is trusted"
        known = ", ".join(key.key_id for key in keys.keys)
        raise ControllerError(f"cannot remove key {key_id}: {why}; there are {known}")
    return found


def _public(text: str, role: "Role") -> "PublicKey":
    import base64  # noqa: PLC0415
    import binascii  # noqa: PLC0415

    from protocols.envelope import KEY_BYTES, PublicKey, key_id  # noqa: PLC0415

    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != KEY_BYTES:
        raise typer.BadParameter("want a public key as ctl keys new prints it: 44 characters")
    return PublicKey(key_id=key_id(raw), role=role, public=text)


def _paths(home: "Home") -> dict[str, Path]:
    """Return where the private keys are that can be used here, by key id."""
    from controller.errors import HomeError  # noqa: PLC0415
    from controller.signing import ROLES, key_paths, read_key  # noqa: PLC0415
    from protocols.envelope import public_key  # noqa: PLC0415

    found: dict[str, Path] = {}
    for path in (*(p for role in ROLES for p in key_paths(home, role)), *home.more_keys):
        try:
            found[public_key(read_key(path), "release").key_id] = path
        except HomeError as error:
            note(str(error), style="yellow")
    return found


def _versions(fleet: "Fleet") -> dict[str, int]:
    return {
        device.name: device.reported.keys_version
        for device in fleet.devices.values()
        if device.reported is not None
    }
