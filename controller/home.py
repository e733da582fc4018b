"""The controller's home folder: configuration, keys, trust and catalog, and who says where it is.

`$SLUICE_HOME`, else `~/.config/sluice`. `config.toml` in it may say:

    fleet = "home"
    controller = "laptop"          # this controller's name; default: the host's name
    [broker]
    url = "mqtts://broker.example:8883"
    ca_file = "ca.pem"             # paths are relative to the home folder
    username = "ctl"
    password_file = "broker.password"

`--broker` and `--fleet`, then `$SLUICE_BROKER` and `$SLUICE_FLEET`, go before the file.
"""

import hashlib
import os
import re
import socket
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from controller.errors import HomeError
from protocols.envelope import KeySet
from protocols.errors import MessageError
from protocols.link import Broker
from protocols.message import Name, explain
from protocols.topics import Topics, check_name

DEFAULT_BROKER = "mqtt://127.0.0.1:1883"
DEFAULT_FLEET = "home"


class Section(BaseModel):
    """A table of the configuration file: unknown keys are rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class BrokerSection(Section):
    """`[broker]`: where it is and who we are there."""

    url: str = DEFAULT_BROKER
    ca_file: Path | None = None
    username: str | None = None
    password_file: Path | None = None


class HomeConfig(Section):
    """All that `config.toml` can say."""

    fleet: Name = DEFAULT_FLEET
    controller: Name | None = None
    broker: BrokerSection = BrokerSection()


@dataclass(frozen=True, slots=True)
class Home:
    """The home folder of one controller and what its configuration says."""

    folder: Path
    fleet: str
    broker: Broker
    controller: str
    """This controller's name: stable, so that a restart takes its old place."""

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
        return cls(
            folder=place,
            fleet=check_name(fleet or environ.get("SLUICE_FLEET") or config.fleet, "fleet"),
            broker=_broker(place, config.broker, url),
            controller=config.controller or _default_name(place),
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
    )


def _password(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeError) as error:
        raise HomeError(f"cannot read password file {path}: {error}") from error


def _default_name(folder: Path) -> str:
    """Name a controller after its host, and its folder: two of a host must not take turns."""
    host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname()).strip("-")[:40] or "controller"
    return f"{host}-{hashlib.sha256(str(folder).encode()).hexdigest()[:6]}"
