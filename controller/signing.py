"""Private keys: made once, kept in files that nobody else may read, and used to sign.

Two roles (architecture, section 4): the release keys, on people's laptops, sign bundles,
deployments, pins and key sets; the controller key, where the planner runs, signs desired documents.
"""

import base64
import binascii
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from controller.errors import HomeError
from controller.home import Home
from protocols.audit import AuditEntry
from protocols.bundle import Bundle
from protocols.desired import Deployment, Desired, Pins
from protocols.envelope import (
    AUDIT,
    BUNDLE,
    DEPLOYMENT,
    DESIRED,
    KEYS,
    PINS,
    ROLES,
    ROLLOUT,
    ROSTER,
    Envelope,
    KeySet,
    PublicKey,
    Role,
    add_signatures,
    generate_key,
    public_key,
    sign,
)
from protocols.rollout import Rollout
from protocols.roster import RosterEntry

__all__ = ["ROLES", "Signer", "generate_keys", "has_key", "key_path", "load_signer"]

_KEY_BYTES = 32
_MODE = 0o600
_OTHERS = 0o077


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs with the private keys of one role that are here. They never show in a repr.

    Attributes:
        public: the first of them.
        others: more of them, private, 32 raw bytes each.
        needed: how many must sign a document of this role before anybody trusts it.
    """

    public: PublicKey
    _private: bytes
    others: tuple[bytes, ...] = ()
    needed: int = 1

    def __repr__(self) -> str:
        return f"Signer({self.public.role} {self.public.key_id})"

    @property
    def key_id(self) -> str:
        """The name of the first key."""
        return self.public.key_id

    def sign_bundle(self, bundle: Bundle) -> bytes:
        """Return a bundle's envelope; needs a release key. Others may sign it later."""
        self._check("release", "a bundle")
        return sign(bundle, BUNDLE, self._privates).encode()

    def sign_deployment(self, deployment: Deployment, *, partly: bool = False) -> bytes:
        """Return a deployment's envelope; needs the release keys. `partly`: others sign it later.

        Raises:
            HomeError: this is another role, or fewer keys are here than must sign.
        """
        self._check("release", "a deployment", partly=partly)
        return sign(deployment, DEPLOYMENT, self._privates).encode()

    def sign_pins(self, pins: Pins) -> bytes:
        """Return the envelope of a device's pins; needs the release keys."""
        self._check("release", "pins", partly=False)
        return sign(pins, PINS, self._privates).encode()

    def sign_desired(self, desired: Desired) -> bytes:
        """Return the envelope of a desired document; needs the controller keys."""
        self._check("controller", "a desired document", partly=False)
        return sign(desired, DESIRED, self._privates).encode()

    def sign_rollout(self, rollout: Rollout) -> bytes:
        """Return the envelope of a rollout's state; needs the controller keys."""
        self._check("controller", "a rollout", partly=False)
        return sign(rollout, ROLLOUT, self._privates).encode()

    def sign_roster(self, entry: RosterEntry) -> bytes:
        """Return the envelope of a device's entry in the roster; needs the release keys."""
        self._check("release", "the roster", partly=False)
        return sign(entry, ROSTER, self._privates).encode()

    def sign_entry(self, entry: AuditEntry) -> bytes:
        """Return the envelope of an audit entry, signed by the first key alone."""
        return sign(entry, AUDIT, [self._private]).encode()

    def sign_keys(self, keys: KeySet) -> bytes:
        """Return the envelope of a key set, which others may have to sign too."""
        self._check("release", "a key set")
        return sign(keys, KEYS, self._privates).encode()

    def add_to(self, envelope: Envelope) -> Envelope:
        """Return an envelope that these keys have signed too."""
        return add_signatures(envelope, self._privates)

    @property
    def _privates(self) -> tuple[bytes, ...]:
        return (self._private, *self.others)

    def check_enough(self, what: str) -> None:
        """Check that as many keys are here as must sign.

        Raises:
            HomeError: there are fewer.
        """
        if len(self._privates) < self.needed:
            raise HomeError(
                f"cannot sign {what}: {self.needed} {self.public.role} keys must sign, here are "
                f"{len(self._privates)}; give more with --key FILE"
            )

    def _check(self, role: Role, what: str, *, partly: bool = True) -> None:
        if self.public.role != role:
            raise HomeError(
                f"cannot sign {what}: that needs the {role} key, this is the "
                f"{self.public.role} key {self.key_id}"
            )
        if not partly:
            self.check_enough(what)


def key_path(home: Home, role: Role) -> Path:
    """Return where the first private key of a role lies, or would lie."""
    return next(iter(key_paths(home, role)), home.keys_dir / f"{role}.key")


def key_paths(home: Home, role: Role) -> list[Path]:
    """Return where private keys of a role lie: `keys/<role>.key` and `keys/<role>-*.key`."""
    first = home.keys_dir / f"{role}.key"
    return [*([first] if first.exists() else []), *sorted(home.keys_dir.glob(f"{role}-*.key"))]


def has_key(home: Home, role: Role) -> bool:
    """Whether a private key of a role is here (it may still be unusable)."""
    return bool(key_paths(home, role))


def generate_keys(home: Home) -> KeySet:
    """Make the release and the controller key and the trust file; nothing is ever overwritten.

    Raises:
        HomeError: one of the three files is already there, or the folder cannot be written.
    """
    for path in (*(key_path(home, role) for role in ROLES), home.trust_file):
        if path.exists():
            raise HomeError(
                f"cannot generate keys: {path} exists; devices trust it. Keep it, or use another "
                "home folder (--home) for another fleet"
            )
    try:
        home.keys_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        publics = tuple(_make_key(key_path(home, role), role) for role in ROLES)
        keys = KeySet(fleet=home.fleet, keys=publics)
        _write_new(home.trust_file, keys.model_dump_json(indent=2).encode() + b"\n", 0o644)
    except OSError as error:
        raise HomeError(f"cannot generate keys in {home.keys_dir}: {error}") from error
    return keys


def load_signer(home: Home, role: Role, trusted: KeySet | None = None) -> Signer:
    """Return the signer of a role: all of its keys in the home folder, and those given with --key.

    Args:
        home: keys and trust.
        role: which.
        trusted: whose keys may sign; None: the home's trust file.

    Raises:
        HomeError: no key is here, one is readable by others or damaged, or the fleet trusts none.
    """
    keys = trusted if trusted is not None else home.trust()
    known = {key.key_id for key in keys.of(role)}
    paths = [*key_paths(home, role), *home.more_keys] or [key_path(home, role)]
    found = {public_key(one, role).key_id: one for one in map(read_key, paths)}
    privates = [private for name, private in found.items() if name in known]
    if not privates:
        raise HomeError(
            f"cannot use key {paths[0]}: {home.trust_file} does not trust {next(iter(found))} as a "
            f"{role} key, so no device would"
        )
    first, *others = privates
    return Signer(public_key(first, role), first, tuple(others), keys.needed(role))


def make_key(home: Home, role: Role) -> tuple[Path, PublicKey]:
    """Make one more private key of a role, in a file named after it.

    Raises:
        HomeError: the folder cannot be written.
    """
    private = generate_key()
    public = public_key(private, role)
    path = home.keys_dir / f"{role}-{public.key_id}.key"
    try:
        home.keys_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write_new(path, base64.b64encode(private) + b"\n", _MODE)
    except OSError as error:
        raise HomeError(f"cannot write {path}: {error.strerror or error}") from error
    return path, public


def retire_keys(home: Home, keys: KeySet) -> list[Path]:
    """Put aside the private keys that a key set trusts no more: `<name>.retired`.

    Returns:
        Their former places.

    Raises:
        HomeError: a key cannot be read, or its file not be renamed.
    """
    gone: list[Path] = []
    former = {key.key_id for key in keys.former} - {key.key_id for key in keys.keys}
    for role in ROLES:
        for path in key_paths(home, role):
            if public_key(read_key(path), role).key_id in former:
                try:
                    path.rename(path.with_name(f"{path.name}.retired"))
                except OSError as error:
                    raise HomeError(f"cannot put {path} aside: {error.strerror}") from error
                gone.append(path)
    return gone


def _make_key(path: Path, role: Role) -> PublicKey:
    private = generate_key()
    _write_new(path, base64.b64encode(private) + b"\n", _MODE)
    return public_key(private, role)


def _write_new(path: Path, content: bytes, mode: int) -> None:
    """Write a file that must not be there yet; its mode holds from its first byte on."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def read_key(path: Path) -> bytes:
    """Return a private key, 32 raw bytes.

    Raises:
        HomeError: it is not there, readable by others, or damaged.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & _OTHERS:
                raise HomeError(
                    f"cannot use key {path}: mode {mode:04o}, want 0600; run chmod 600 {path}"
                )
            private = base64.b64decode(file.read(256).strip(), validate=True)
    except FileNotFoundError as error:
        raise HomeError(
            f"cannot use key {path}: there is none; run `ctl keygen`, or copy it from where it is"
        ) from error
    except (OSError, binascii.Error) as error:
        raise HomeError(f"cannot use key {path}: {error}") from error
    if len(private) != _KEY_BYTES:
        raise HomeError(f"cannot use key {path}: {len(private)} bytes, want {_KEY_BYTES}")
    return private
