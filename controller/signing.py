"""Private keys: made once, kept in files that nobody else may read, and used to sign.

Two roles (architecture, section 4): the release key, on a person's laptop, signs bundles,
deployments and pins; the controller key, where the planner runs, signs desired documents.
"""

import base64
import binascii
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from controller.errors import HomeError
from controller.home import Home
from protocols.bundle import Bundle
from protocols.desired import Deployment, Desired, Pins
from protocols.envelope import (
    BUNDLE,
    DEPLOYMENT,
    DESIRED,
    PINS,
    KeySet,
    PublicKey,
    Role,
    generate_key,
    public_key,
    sign,
)

ROLES: tuple[Role, ...] = ("release", "controller")
_KEY_BYTES = 32
_MODE = 0o600
_OTHERS = 0o077


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs with one private key. The key never shows in a repr."""

    public: PublicKey
    _private: bytes

    def __repr__(self) -> str:
        return f"Signer({self.public.role} {self.public.key_id})"

    @property
    def key_id(self) -> str:
        """The name of the key."""
        return self.public.key_id

    def sign_bundle(self, bundle: Bundle) -> bytes:
        """Return a bundle's envelope; needs the release key."""
        self._check("release", "a bundle")
        return sign(bundle, BUNDLE, [self._private]).encode()

    def sign_deployment(self, deployment: Deployment) -> bytes:
        """Return a deployment's envelope; needs the release key."""
        self._check("release", "a deployment")
        return sign(deployment, DEPLOYMENT, [self._private]).encode()

    def sign_pins(self, pins: Pins) -> bytes:
        """Return the envelope of a device's pins; needs the release key."""
        self._check("release", "pins")
        return sign(pins, PINS, [self._private]).encode()

    def sign_desired(self, desired: Desired) -> bytes:
        """Return the envelope of a desired document; needs the controller key."""
        self._check("controller", "a desired document")
        return sign(desired, DESIRED, [self._private]).encode()

    def _check(self, role: Role, what: str) -> None:
        if self.public.role != role:
            raise HomeError(
                f"cannot sign {what}: that needs the {role} key, this is the "
                f"{self.public.role} key {self.key_id}"
            )


def key_path(home: Home, role: Role) -> Path:
    """Return where a role's private key lies."""
    return home.keys_dir / f"{role}.key"


def has_key(home: Home, role: Role) -> bool:
    """Whether a role's private key is here (it may still be unusable)."""
    return key_path(home, role).exists()


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


def load_signer(home: Home, role: Role) -> Signer:
    """Return the signer of a role.

    Raises:
        HomeError: the key is missing, readable by others, damaged, or not trusted by the fleet.
    """
    path = key_path(home, role)
    private = _read_key(path)
    public = public_key(private, role)
    if not any(k.key_id == public.key_id and k.role == role for k in home.trust().keys):
        raise HomeError(
            f"cannot use key {path}: {home.trust_file} does not trust {public.key_id} as a "
            f"{role} key, so no device would"
        )
    return Signer(public, private)


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


def _read_key(path: Path) -> bytes:
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
