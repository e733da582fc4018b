"""The controller's home folder: configuration, keys, trust and catalog, and who says where it is.

`$SLUICE_HOME`, else `~/.config/sluice`. `config.toml` in it may say:

    fleet = "home"
    controller = "laptop"          # this controller's name; default: the host's name
    [broker]
    url = "mqtts://broker.example:8883"
    ca_file = "ca.pem"             # paths are relative to the home folder
    username = "ctl"
    password_file = "broker.password"
    [planner]
    expire_after = "7d"            # of desired documents; default: they never expire

or, instead of the last two, `cert_file` and `key_file`: a client certificate.

`--broker` and `--fleet`, then `$SLUICE_BROKER` and `$SLUICE_FLEET`, go before the file.
"""

import hashlib
import os
import re
import socket
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from controller.errors import HomeError
from protocols.envelope import KeySet
from protocols.errors import MessageError
from protocols.link import Broker
from protocols.message import Name, explain
from protocols.topics import Topics, check_name

DEFAULT_BROKER = "mqtt://127.0.0.1:1883"
DEFAULT_FLEET = "home"
_OTHERS = 0o077


class Section(BaseModel):
    """A table of the configuration file: unknown keys are rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class BrokerSection(Section):
    """`[broker]`: where it is and who we are there."""

    url: str = DEFAULT_BROKER
    ca_file: Path | None = None
    username: str | None = None
    password_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


SHORTEST_LIFE_S = 3600.0
"""A document is written anew at half of its life, and must not keep the planner from revising."""

_DURATION = re.compile(r"(\d+)([hd])")
_UNITS_S = {"h": 3600.0, "d": 86400.0}


class PlannerSection(Section):
    """`[planner]`: `expire_after = "7d"`; without it desired documents never expire."""

    expire_after: str | None = None

    @field_validator("expire_after")
    @classmethod
    def _is_duration(cls, words: str | None) -> str | None:
        if words is not None and not _DURATION.fullmatch(words):
            raise ValueError('want hours or days, as "12h" or "7d"')
        if words is not None and _seconds(words) < SHORTEST_LIFE_S:
            raise ValueError('at least "1h"')
        return words


def _seconds(words: str) -> float:
    count, unit = words[:-1], words[-1]
    return float(count) * _UNITS_S[unit]


class HomeConfig(Section):
    """All that `config.toml` can say."""

    fleet: Name = DEFAULT_FLEET
    controller: Name | None = None
    broker: BrokerSection = BrokerSection()
    planner: PlannerSection = PlannerSection()


@dataclass(frozen=True, slots=True)
class Home:
    """The home folder of one controller and what its configuration says."""

    folder: Path
    fleet: str
    broker: Broker
    controller: str
    """This controller's name: stable, so that a restart takes its old place."""
    more_keys: tuple[Path, ...] = ()
    """Private keys outside of the folder, given with --key."""
    expire_after_s: float | None = None
    """How long a desired document may be accepted; None: for ever."""

    @classmethod
    def open(
        cls,
        folder: Path | None = None,
        *,
        broker: str | None = None,
        fleet: str | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> Self:
        """Read the home folder's configuration; a folder that is not there yet is all defaults.

        Args:
            folder: None: `$SLUICE_HOME`, else `~/.config/sluice`.
            broker: an URL that goes before `$SLUICE_BROKER` and the file.
            fleet: a name that goes before `$SLUICE_FLEET` and the file.
            environ: where the variables are.

        Raises:
            HomeError: the configuration cannot be read or is wrong.
            LinkError: the broker's URL is none.
            TopicError: the fleet's name is none.
        """
        place = _folder(folder, environ)
        config = _read(place / "config.toml")
        url = broker or environ.get("SLUICE_BROKER")
        expire_after = config.planner.expire_after
        return cls(
            folder=place,
            fleet=check_name(fleet or environ.get("SLUICE_FLEET") or config.fleet, "fleet"),
            broker=_broker(place, config.broker, url),
            controller=config.controller or _default_name(place),
            expire_after_s=_seconds(expire_after) if expire_after is not None else None,
        )

    @property
    def topics(self) -> Topics:
        """The topics of the fleet."""
        return Topics(self.fleet)

    @property
    def keys_dir(self) -> Path:
        """The folder of private keys."""
        return self.folder / "keys"

    @property
    def trust_file(self) -> Path:
        """The fleet's public keys: the file that every device gets a copy of."""
        return self.folder / "trust.json"

    @property
    def chain_dir(self) -> Path:
        """The key sets that have followed the first one, each as an envelope, `<version>.json`."""
        return self.folder / "trust"

    @property
    def audit_file(self) -> Path:
        """What was done from here: one audit entry a line."""
        return self.folder / "audit.jsonl"

    @property
    def pki_dir(self) -> Path:
        """The fleet's certificate authority, and what it has issued. Secret."""
        return self.folder / "pki"

    @property
    def catalog_dir(self) -> Path:
        """Models and bundles by name."""
        return self.folder / "catalog"

    @property
    def artifacts_dir(self) -> Path:
        """Immutable files, each named by its SHA-256: models, bundle envelopes, golden samples."""
        return self.catalog_dir / "artifacts"

    @property
    def models_dir(self) -> Path:
        """What is known of each model, by name."""
        return self.catalog_dir / "models"

    @property
    def bundles_dir(self) -> Path:
        """What is known of each cascade's bundles, by name."""
        return self.catalog_dir / "bundles"

    def artifact_path(self, sha256: str) -> Path:
        """Return where an artifact lies if this catalog has it."""
        return self.artifacts_dir / sha256

    def trust(self) -> KeySet:
        """Return the keys that the fleet trusts.

        Raises:
            HomeError: there is no trust file, it is damaged, or it is of another fleet.
        """
        try:
            keys = KeySet.decode(self.trust_file.read_bytes())
        except FileNotFoundError as error:
            raise HomeError(
                f"cannot read trust file {self.trust_file}: there is none; run `ctl keygen`, or "
                "copy the fleet's trust.json there"
            ) from error
        except (OSError, MessageError) as error:
            raise HomeError(f"cannot read trust file {self.trust_file}: {error}") from error
        if keys.fleet != self.fleet:
            raise HomeError(
                f"cannot use trust file {self.trust_file}: it is of fleet {keys.fleet!r}, this is "
                f"{self.fleet!r}; use --fleet {keys.fleet}, or a home folder of its own"
            )
        return keys


def _folder(folder: Path | None, environ: Mapping[str, str]) -> Path:
    given = environ.get("SLUICE_HOME")
    if folder is None and given:
        folder = Path(given)
    if folder is None:
        base = environ.get("XDG_CONFIG_HOME")
        folder = (Path(base) if base else Path.home() / ".config") / "sluice"
    return folder.expanduser().absolute()


def _read(path: Path) -> HomeConfig:
    try:
        return HomeConfig.model_validate(tomllib.loads(path.read_text()))
    except FileNotFoundError:
        return HomeConfig()
    except ValidationError as error:
        raise HomeError(f"cannot read {path}: {explain(error)}") from error
    except (OSError, UnicodeError, tomllib.TOMLDecodeError) as error:
        raise HomeError(f"cannot read {path}: {error}") from error


def _broker(folder: Path, section: BrokerSection, url: str | None) -> Broker:
    """Put address and credentials together; those of the file belong to the file's URL alone."""
    if url is not None and url != section.url:
        ca_file = section.ca_file and folder / section.ca_file
        return Broker.parse(url, str(ca_file) if ca_file else None)
    ca_file = section.ca_file and folder / section.ca_file
    if ca_file and not ca_file.is_file():
        raise HomeError(f"cannot use broker {section.url}: no ca_file {ca_file}")
    broker = Broker.parse(section.url, str(ca_file) if ca_file else None)
    password = broker.password
    if section.password_file is not None:
        password = _password(folder / section.password_file)
    return Broker(
        broker.host,
        broker.port,
        broker.tls,
        section.username or broker.username,
        password,
        broker.ca_file,
        *_certificate(folder, section),
    )


def _certificate(folder: Path, section: BrokerSection) -> tuple[str | None, str | None]:
    """Return certificate and key, which must both be there and be ours alone."""
    if section.cert_file is None and section.key_file is None:
        return None, None
    if section.cert_file is None or section.key_file is None:
        raise HomeError(f"cannot use broker {section.url}: want both cert_file and key_file")
    certificate, key = folder / section.cert_file, folder / section.key_file
    for what, path in (("cert_file", certificate), ("key_file", key)):
        if not path.is_file():
            raise HomeError(f"cannot use broker {section.url}: no {what} {path}")
    check_private(key)
    return str(certificate), str(key)


def check_private(path: Path) -> None:
    """Check that nobody else may read a secret file.

    Raises:
        HomeError: somebody may.
    """
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & _OTHERS:
        raise HomeError(
            f"cannot use {path}: mode {mode:04o}, want 0600; run chmod 600 {path}, and make a new "
            "one if others can log in here"
        )


def _password(path: Path) -> str:
    try:
        check_private(path)
        return path.read_text().strip()
    except (OSError, UnicodeError) as error:
        raise HomeError(f"cannot read password file {path}: {error}") from error


def _default_name(folder: Path) -> str:
    """Name a controller after its host, and its folder: two of a host must not take turns."""
    host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname()).strip("-")[:40] or "controller"
    return f"{host}-{hashlib.sha256(str(folder).encode()).hexdigest()[:6]}"
