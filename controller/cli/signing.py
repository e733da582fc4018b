"""`ctl sign` and `ctl publish`: documents that several people sign, one after the other."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli import words
from controller.cli.contents import describe, terms
from controller.cli.context import open_home, open_session
from controller.cli.exits import ExitCode
from controller.cli.keys import NoResign, publish_keys
from controller.cli.output import Format, Output, note, print_json
from protocols.errors import MessageError, TrustError

if TYPE_CHECKING:
    from controller.home import Home
    from controller.resign import Resigned
    from controller.signing import Signer
    from protocols.audit import Act
    from protocols.bundle import BundleRef
    from protocols.desired import Deployment
    from protocols.envelope import Envelope, KeySet, PayloadType, Role

File = Annotated[Path, typer.Argument(metavar="FILE", help="Of ctl deploy or keys --sign-only.")]


def sign(
    ctx: typer.Context,
    what: Annotated[
        str, typer.Argument(metavar="FILE|NAME@VERSION", help="A file, or a cascade's bundle.")
    ],
    *,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="FILE", help="Write it there; default: where it came from."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Add the signatures of your release keys to a deployment, a key set or a bundle.

    It shows what it is that you sign. Exit code 4: more signatures are needed yet.

    Example: ctl sign digits-deployment.json
    """
    from protocols.envelope import Envelope  # noqa: PLC0415

    home = open_home(ctx)
    source = Path(what)
    from_catalog = not source.is_file() and "@" in what
    envelope = _from_catalog(home, what) if from_catalog else _read(source)
    for line in (describe(envelope), *terms(envelope)):
        note(line)
    if not yes and not _agreed():
        note("Nothing was signed.")
        raise typer.Exit(ExitCode.ERROR)
    signed = _signer_for(home, envelope).add_to(Envelope.decode(envelope)).encode()
    if to is None and from_catalog:
        _into_catalog(home, signed)
    else:
        write_envelope(to or source, signed)
    if not say_signed(home, to or source, signed, output):
        raise typer.Exit(ExitCode.PENDING)


def publish(
    ctx: typer.Context,
    file: File,
    *,
    no_resign: NoResign = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Publish what enough people have signed: a deployment, a key set; a bundle is kept.

    Example: ctl publish digits-deployment.json
    """
    from protocols.envelope import BUNDLE, DEPLOYMENT, KEYS, open_unverified  # noqa: PLC0415

    envelope = _read(file)
    kind, _ = open_unverified(envelope)
    if no_resign and kind != KEYS:
        raise typer.BadParameter(f"--no-resign is for key sets, and {file} holds none")
    if kind == KEYS:
        said = describe(envelope)
        publish_keys(ctx, envelope, said, output, resigns=not no_resign, yes=yes)
    elif kind == DEPLOYMENT:
        _publish_deployment(ctx, envelope, output)
    elif kind == BUNDLE:
        _check(open_home(ctx), envelope, BUNDLE)
        _into_catalog(open_home(ctx), envelope)
        note(f"Kept {describe(envelope)}; ctl deploy takes it from here.", style="green")
    else:
        raise MessageError(f"cannot publish {file}: it holds {kind[:80]!r}")


def sign_partly(home: "Home", deployment: "Deployment", path: Path, output: Format) -> None:
    """Write a deployment that as many sign as there are keys here, for others to sign it too."""
    from controller.signing import load_signer  # noqa: PLC0415

    envelope = load_signer(home, "release").sign_deployment(deployment, partly=True)
    write_envelope(path, envelope)
    if say_signed(home, path, envelope, output):
        note(f"ctl publish {path} publishes it.")


def documents_to_keep(
    home: "Home", before: "KeySet", after: "KeySet", *, resigns: bool
) -> "Resigned":
    """Return what must be signed anew before the keys change, as far as it can be here."""
    from controller.errors import HomeError  # noqa: PLC0415
    from controller.resign import resign  # noqa: PLC0415
    from controller.retained import read_retained  # noqa: PLC0415
    from controller.signing import load_signer  # noqa: PLC0415

    def add(role: "Role", envelope: "Envelope") -> "Envelope":
        if not resigns:
            return envelope
        try:
            return load_signer(home, role, after).add_to(envelope)
        except (HomeError, TrustError):
            return envelope

    topics = home.topics
    filters = (
        topics.deployment("+"),
        topics.rollout("+"),
        topics.roster("+"),
        topics.device("+", "pins"),
        topics.device("+", "desired"),
    )
    return resign(read_retained(home, filters), before, after, add)


def write_envelope(path: Path, envelope: bytes) -> None:
    """Write an envelope into a file, whole or not at all."""
    from controller.trust import write_public  # noqa: PLC0415

    write_public(path.absolute(), envelope + b"\n")


def say_signed(home: "Home", path: Path, envelope: bytes, output: Format) -> bool:
    """Say how many have signed; return whether that is enough."""
    left = _missing(home, envelope)
    if output is Format.JSON:
        said = {"holds": describe(envelope), "terms": terms(envelope)}
        print_json({"file": path, "missing": left, **said})
    elif left:
        note(f"{path}: {words.count(left, 'signature')} missing; ctl sign {path}", style="yellow")
    else:
        note(f"{path}: enough have signed.", style="green")
    return not left


def say_unfinished(home: "Home", ref: "BundleRef") -> None:
    """Say that others must sign a bundle, too, where that is so."""
    from controller.catalog import Catalog  # noqa: PLC0415

    if left := _missing(home, Catalog(home).read(ref.artifact)):
        name = f"{ref.name}@{ref.version}"
        note(
            f"{words.count(left, 'signature')} missing: ctl sign {name} --to FILE, for others to "
            "sign it with ctl sign FILE, then ctl publish FILE.",
            style="yellow",
        )


def _missing(home: "Home", envelope: bytes) -> int:
    """Return how many more release keys must sign, at least."""
    from protocols.envelope import BUNDLE, DEPLOYMENT, KEYS, KeySet, open_unverified  # noqa: PLC0415
    from protocols.trust import count_signers  # noqa: PLC0415

    keys = home.trust()
    kind, body = open_unverified(envelope)
    sets = (keys, KeySet.decode(body)) if kind == KEYS else (keys,)
    types: dict[str, PayloadType] = {BUNDLE: BUNDLE, DEPLOYMENT: DEPLOYMENT, KEYS: KEYS}
    return max(
        max(0, one.needed("release") - count_signers(envelope, types[kind], one)) for one in sets
    )


def _signer_for(home: "Home", envelope: bytes) -> "Signer":
    from controller.signing import load_signer  # noqa: PLC0415
    from protocols.envelope import KEYS, KeySet, open_unverified  # noqa: PLC0415

    keys = home.trust()
    kind, body = open_unverified(envelope)
    if kind == KEYS:
        after = KeySet.decode(body)
        keys = keys.with_(keys=tuple(dict.fromkeys((*keys.keys, *after.keys))))
    return load_signer(home, "release", keys)


def _read(path: Path) -> bytes:
    from controller.errors import ControllerError  # noqa: PLC0415

    try:
        return path.read_bytes().strip()
    except OSError as error:
        raise ControllerError(f"cannot read {path}: {error.strerror or error}") from error


def _from_catalog(home: "Home", name: str) -> bytes:
    from controller.catalog import Catalog  # noqa: PLC0415
    from controller.errors import CatalogError  # noqa: PLC0415

    cascade, _, version = name.partition("@")
    if not (version.isascii() and version.isdigit()):
        raise CatalogError(f"cannot sign {name!r}: want a file, or NAME@VERSION of a cascade")
    catalog = Catalog(home)
    return catalog.read(catalog.bundle_ref(cascade, int(version)).artifact)


def _into_catalog(home: "Home", envelope: bytes) -> None:
    from controller.catalog import Catalog  # noqa: PLC0415
    from protocols.bundle import Bundle  # noqa: PLC0415
    from protocols.envelope import open_unverified  # noqa: PLC0415

    bundle = Bundle.decode(open_unverified(envelope)[1])
    catalog = Catalog(home)
    with catalog.locked():
        catalog.resign_bundle(bundle, envelope)


def _check(home: "Home", envelope: bytes, kind: "PayloadType") -> bytes:
    from protocols.envelope import verify  # noqa: PLC0415

    return verify(envelope, kind, home.trust())


def _publish_deployment(ctx: typer.Context, envelope: bytes, output: Format) -> None:
    from controller.catalog import Catalog  # noqa: PLC0415
    from controller.cli.deploying import check_fits  # noqa: PLC0415
    from controller.cli.previews import prospects  # noqa: PLC0415
    from controller.deployments import check_current, named_artifacts  # noqa: PLC0415
    from controller.steps import PutArtifact, PutSigned  # noqa: PLC0415
    from protocols.desired import Deployment  # noqa: PLC0415
    from protocols.envelope import DEPLOYMENT  # noqa: PLC0415

    home = open_home(ctx)
    deployment = Deployment.decode(_check(home, envelope, DEPLOYMENT))
    if deployment.fleet != home.fleet:
        raise TrustError(f"cannot publish: it is for fleet {deployment.fleet!r}")
    bundle = Catalog(home).bundle(deployment.bundle, home.trust())
    topic = home.topics.deployment(deployment.id)
    act: Act = "aborted" if deployment.aborted else "deployed"
    with open_session(ctx, "deploy") as session:
        fleet = session.fleet
        check_current(deployment, fleet)
        if not deployment.aborted:
            check_fits(prospects(deployment, bundle, fleet, session.bundles))
        session.add_bundle(deployment.bundle, bundle)
        puts = [PutArtifact(ref, what) for ref, what in named_artifacts(deployment.bundle, bundle)]
        session.execute([*puts, PutSigned(topic, envelope, describe(envelope), act, deployment.id)])
    if output is Format.JSON:
        print_json({"deployment": deployment})
    else:
        note(f"Published; ctl deployment watch {deployment.id} shows how it goes.", style="green")


def _agreed() -> bool:
    try:
        return typer.confirm("Sign this?", err=True)
    except typer.Abort:
        return False
