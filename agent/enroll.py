"""`sluice-agent enroll FILE`: makes a device a member of a fleet, out of its one-time file."""

import contextlib
import json
import os
import pwd
import stat
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

from agent.config import Config
from agent.enrolment import kept_nonce
from agent.errors import StartError
from agent.storage.files import DISK
from protocols.enrolment import EnrolmentFile
from protocols.errors import MessageError

SYSTEM_FOLDER = Path("/etc/sluice")
"""Where the systemd unit looks for `agent.toml`."""

SERVICE_USER = "sluice"
"""As whom the systemd unit runs the agent: the files become its own."""

_PUBLIC, _SECRET = 0o644, 0o600
_OTHERS = 0o077

Say = Callable[[str], object]


def enroll(
    path: Path, folder: Path | None = None, state_dir: Path | None = None, *, force: bool = False
) -> int:
    """Write configuration, trust and credential, then delete the file; return the exit code.

    Args:
        path: the enrolment file.
        folder: None: `/etc/sluice` for root, else the user's own.
        state_dir: where the agent keeps artifacts; None: its default.
        force: another device's identity that is there may be replaced.

    Raises:
        StartError: the file cannot be used, another identity is there, or a file not be written.
    """
    place = (folder or default_folder()).expanduser().absolute()
    file = _read(path)
    _check_free(place, file, force=force)
    _rehearse(file)
    try:
        place.mkdir(parents=True, exist_ok=True, mode=0o755 if place == SYSTEM_FOLDER else 0o700)
        owner = _owner(place)
        for name, content, mode in _files(file, place, state_dir):
            if name == "agent.toml" and (why := _keep_configuration(place, file)):
                _say(why)
                continue
            _write(place / name, content, mode, owner)
        # What a former credential of another kind has left.
        for name in {"device.pem", "device.key", "broker.password"} - _names(file):
            (place / name).unlink(missing_ok=True)
        DISK.sync_folder(place)
    except OSError as error:
        raise StartError(f"cannot enroll: {error.filename or place}: {error.strerror}") from error
    who = f"{file.device} in fleet {file.fleet}"
    _say(f"enrolled {who}: {place / 'agent.toml'}, broker {file.broker_url}")
    _forget(path)
    _say(f"now: sluice-agent check --config {place / 'agent.toml'}")
    return 0


def default_folder() -> Path:
    """Return where an agent's configuration belongs, for whoever runs this."""
    if os.geteuid() == 0:
        return SYSTEM_FOLDER
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "sluice-agent"


def _read(path: Path) -> EnrolmentFile:
    try:
        with path.open("rb") as source:
            mode = stat.S_IMODE(os.fstat(source.fileno()).st_mode)
            file = EnrolmentFile.decode(source.read(EnrolmentFile.MAX_BYTES + 1))
    except FileNotFoundError as error:
        raise StartError(
            f"cannot enroll: no file {path}; each is used once: `ctl device rotate NAME` makes "
            "another"
        ) from error
    except (OSError, MessageError) as error:
        raise StartError(f"cannot enroll: {path}: {error}") from error
    by_certificate = file.certificate is not None and file.key is not None
    if not by_certificate and (file.username is None or file.password is None):
        raise StartError(f"cannot enroll: {path}: it holds no credential")
    if mode & _OTHERS:
        _say(f"warning: {path} had mode {mode:04o}: whoever could read it can be {file.device}")
    return file


def _check_free(place: Path, file: EnrolmentFile, *, force: bool) -> None:
    there = _present(place)
    if there is None or force:
        return
    device, fleet = there.get("id"), there.get("fleet", "home")
    if (device, fleet) != (file.device, file.fleet):
        raise StartError(
            f"cannot enroll as {file.device} of fleet {file.fleet}: {place} is of {device} in "
            f"fleet {fleet}; --force replaces it, --dir takes another folder"
        )


def _present(place: Path) -> dict[str, object] | None:
    """Return the configuration that is there; None: there is none."""
    try:
        return tomllib.loads((place / "agent.toml").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeError, tomllib.TOMLDecodeError) as error:
        raise StartError(f"cannot enroll: {place / 'agent.toml'}: {error}") from error


def _keep_configuration(place: Path, file: EnrolmentFile) -> str:
    """Keep a configuration that leads to the new files already, and a copy of any other one.

    Returns:
        Why it stays; empty: it is to be written.
    """
    there = _present(place)
    if there is None:
        return ""
    wanted = tomllib.loads(_configuration(file, place, None))
    same = ("id", "fleet", "trust", "enrolment", "broker")
    if all(there.get(key) == wanted[key] for key in same):
        return f"kept {place / 'agent.toml'}, which has the right places"
    old = place / "agent.toml.old"
    (place / "agent.toml").replace(old)
    _say(f"kept what was in {place / 'agent.toml'} as {old}")
    return ""


def _names(file: EnrolmentFile) -> set[str]:
    return {"broker.password"} if file.certificate is None else {"device.pem", "device.key"}


def _files(
    file: EnrolmentFile, place: Path, state_dir: Path | None
) -> Iterator[tuple[str, str, int]]:
    """Yield name, content and mode; the configuration last, since it makes the others count."""
    if file.certificate is not None and file.key is not None:
        yield "device.key", file.key, _SECRET
        yield "device.pem", file.certificate, _PUBLIC
    else:
        yield "broker.password", f"{file.password}\n", _SECRET
    yield "broker-ca.pem", file.ca, _PUBLIC
    yield "trust.json", file.trust, _PUBLIC
    yield kept_nonce(place).name, f"{file.nonce}\n", _SECRET
    yield "agent.toml", _configuration(file, place, state_dir), _PUBLIC


def _configuration(file: EnrolmentFile, place: Path, state_dir: Path | None) -> str:
    """Return the agent's configuration."""
    lines = [
        "# Written by sluice-agent enroll. deploy/systemd/agent.toml shows what else can be set.",
        f"id = {_toml(file.device)}",
        f"fleet = {_toml(file.fleet)}",
        f"trust = {_toml(str(place / 'trust.json'))}",
        f"enrolment = {_toml(str(kept_nonce(place)))}",
    ]
    if state_dir is not None:
        lines.append(f"state_dir = {_toml(str(state_dir.expanduser().absolute()))}")
    if file.labels:
        labels = (f"{_toml(k)} = {_toml(v)}" for k, v in sorted(file.labels.items()))
        lines += ["", "[labels]", *labels]
    lines += [
        "",
        "[broker]",
        f"url = {_toml(file.broker_url)}",
        f"ca_file = {_toml(str(place / 'broker-ca.pem'))}",
    ]
    if file.certificate is not None:
        lines.append(f"cert_file = {_toml(str(place / 'device.pem'))}")
        lines.append(f"key_file = {_toml(str(place / 'device.key'))}")
    else:
        lines.append(f"username = {_toml(file.username)}")
        lines.append(f"password_file = {_toml(str(place / 'broker.password'))}")
    if place == SYSTEM_FOLDER:
        lines += ["", "[inference]", 'tcp = "127.0.0.1:8000"', 'unix = "/run/sluice/infer.sock"']
    return "\n".join(lines) + "\n"


def _toml(text: str | None) -> str:
    """Return a string as TOML has it: as JSON does, but no pairs of surrogates, and DEL escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _owner(place: Path) -> tuple[int, int] | None:
    """Return who the files are for: the service's user, where root sets the system's agent up."""
    if os.geteuid() != 0 or place != SYSTEM_FOLDER:
        return None
    try:
        user = pwd.getpwnam(SERVICE_USER)
    except KeyError:
        _say(f"warning: no user {SERVICE_USER} here yet: chown the files in {place} to it later")
        return None
    return user.pw_uid, user.pw_gid


def _write(path: Path, content: str, mode: int, owner: tuple[int, int] | None) -> None:
    """Replace a file as a whole; its mode holds from its first byte on."""
    staged = path.with_name(f".{path.name}.new")
    staged.unlink(missing_ok=True)
    handle = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "w", encoding="utf-8") as target:
        os.fchmod(target.fileno(), mode)
        if owner is not None:
            os.fchown(target.fileno(), *owner)
        target.write(content)
        target.flush()
        os.fsync(target.fileno())
    staged.replace(path)


def _rehearse(file: EnrolmentFile) -> None:
    """Read everything as `run` will, elsewhere: what cannot work must cost nothing that is there.

    Raises:
        StartError: something in it cannot be used.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="sluice-enroll-") as folder:
            place = Path(folder)
            for name, content, mode in _files(file, place, None):
                _write(place / name, content, mode, None)
            config = Config.parse(
                tomllib.loads((place / "agent.toml").read_text(encoding="utf-8")), "its contents"
            )
            config.key_set()
            config.session()
    except OSError as error:
        raise StartError(f"cannot enroll: {error.filename}: {error.strerror}") from error
    except StartError as error:
        raise StartError(f"cannot enroll: the file is damaged: {error}") from error


def _forget(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
        _say(f"deleted {path}: it is used up")
        return
    _say(f"warning: cannot delete {path}: do it yourself, whoever has it can be this device")


def _say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
