"""The agent's configuration: TOML in, frozen classes out, unknown keys rejected."""

import os
import ssl
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from agent.errors import StartError
from protocols.envelope import KeySet
from protocols.errors import LinkError, MessageError
from protocols.link import Broker
from protocols.message import Name, explain
from protocols.pull import GIVE_UP_S

_MAX_UNIX_PATH_BYTES = 107

LONGEST_INTERVAL_S = 5.0
"""Between samples: half of the default `stale_s`."""


def _none_if_off(value: object) -> object:
    """TOML has no null, so `false` (or an empty string) switches an endpoint off."""
    return None if value is False or value == "" else value


class Section(BaseModel):
    """A table of the configuration file."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class BrokerSection(Section):
    """`[broker]`: where it is and who we are there."""

    url: str
    ca_file: Path | None = None
    username: str | None = None
    password_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    metered: bool | None = None
    """Whether the link to it costs. Left out: as NetworkManager says, else not known."""


class InferenceSection(Section):
    """`[inference]`: where answers are given; `false` switches one off."""

    tcp: Annotated[str | None, BeforeValidator(_none_if_off)] = "127.0.0.1:8000"
    unix: Annotated[Path | Literal["default"] | None, BeforeValidator(_none_if_off)] = "default"


class SensorsSection(Section):
    """`[sensors]`: the tree whose `proc` and `sys` are read, how often, and what else is asked."""

    sysroot: Path = Path("/")
    interval_s: float = Field(0.5, ge=0.05)
    providers: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = Field(
        (), max_length=8
    )
    """Entry points of the group `sluice.sensors`, by name."""

    @field_validator("interval_s")
    @classmethod
    def _often_enough(cls, interval_s: float) -> float:
        if interval_s > LONGEST_INTERVAL_S:
            raise ValueError(
                f"at most {LONGEST_INTERVAL_S:g} s: to the governor a sample that comes later is "
                "stale, and it would never act"
            )
        return interval_s


class TelemetrySection(Section):
    """`[telemetry]`: how often the device speaks."""

    interval_s: float = Field(5.0, ge=0.1, le=3600)


class FetchSection(Section):
    """`[fetch]`: how artifacts come.

    `jitter_s` spreads a fleet's fetches: one begins after a second for each MiB at most, and never
    later than this. `give_up_s` bounds one attempt's silence. The limits hold beside those of the
    schedule, the lower one counts. `ca_file` is for sources by HTTPS; without it, the system's.
    """

    jitter_s: float = Field(60.0, ge=0, le=3600)
    give_up_s: float = Field(GIVE_UP_S, gt=0, le=3600)
    kib_per_s: float | None = Field(None, ge=1)
    mib_per_day: float | None = Field(None, ge=1)
    ca_file: Path | None = None


class TuneSection(Section):
    """`[tune]`: whether the device measures its models when it idles, and after how long."""

    auto: bool = True
    idle_s: float = Field(60.0, ge=1)
    watts_per_cpu: float | None = Field(None, gt=0)
    """What one busy CPU takes: with it, the energy of an answer is estimated (method `model`)."""


class Config(Section):
    """All that the agent is told at its start."""

    id: Name
    fleet: Name = "home"
    labels: dict[Name, Annotated[str, Field(max_length=256)]] = {}
    state_dir: Path = Path()
    trust: Path | None = None
    enrolment: Path | None = None
    """The nonce of the enrolment file that the device came by, as `sluice-agent enroll` kept it."""
    broker: BrokerSection
    inference: InferenceSection = InferenceSection()
    sensors: SensorsSection = SensorsSection()
    telemetry: TelemetrySection = TelemetrySection()
    fetch: FetchSection = FetchSection()
    tune: TuneSection = TuneSection()

    @classmethod
    def parse(cls, document: dict[str, Any], source: str) -> Self:
        """Check a configuration and fill in where state is kept.

        Raises:
            StartError: it does not fit; the text names the keys.
        """
        try:
            config = cls.model_validate(document)
        except ValidationError as error:
            raise StartError(f"cannot start: {source}: {explain(error)}") from error
        if "state_dir" not in config.model_fields_set:
            return config.model_copy(update={"state_dir": _default_state_dir(config.id)})
        return config.model_copy(update={"state_dir": config.state_dir.expanduser().absolute()})

    def unix_path(self) -> Path | None:
        """Return where the Unix socket belongs; a default too long for one moves to /tmp.

        Raises:
            StartError: the path that was asked for is too long for a socket.
        """
        if self.inference.unix is None:
            return None
        asked = self.inference.unix
        path = self.state_dir / "infer.sock" if asked == "default" else Path(asked).expanduser()
        length = len(os.fsencode(path))
        if length <= _MAX_UNIX_PATH_BYTES:
            return path
        if asked == "default":
            import tempfile  # noqa: PLC0415 - for a rare case

            return Path(tempfile.gettempdir()) / f"sluice-{self.fleet}-{self.id}.sock"
        raise StartError(
            f"cannot start: the Unix socket's path has {length} bytes, at most "
            f"{_MAX_UNIX_PATH_BYTES} are possible; set a shorter [inference] unix"
        )

    def session(self) -> Broker:
        """Return the broker's address and our credentials there.

        Raises:
            StartError: the address is none, or the password or CA file cannot be read.
        """
        section = self.broker
        try:
            broker = Broker.parse(section.url, str(section.ca_file) if section.ca_file else None)
            password = section.password_file and section.password_file.read_text().strip()
        except (LinkError, OSError, UnicodeError) as error:
            raise StartError(f"cannot start: [broker]: {error}") from error
        if section.ca_file is not None:
            _check_ca_file(section.ca_file)
        if self.fetch.ca_file is not None:
            _check_ca_file(self.fetch.ca_file, "[fetch]")
        found = Broker(
            broker.host,
            broker.port,
            broker.tls,
            section.username or broker.username,
            password or broker.password,
            broker.ca_file,
            *_certificate(section),
        )
        if section.cert_file is not None:
            try:
                found.context()
            except LinkError as error:
                raise StartError(f"cannot start: [broker]: {error}") from error
        return found

    def trust_file(self) -> Path:
        """Return the file that holds the fleet's public keys.

        Raises:
            StartError: there is none; the text says how to get it.
        """
        places = [self.trust.expanduser()] if self.trust else _default_trust(self.state_dir)
        for place in places:
            if place.is_file():
                return place
        raise StartError(
            f"cannot start: no trust file at {' or '.join(map(str, places))}; it holds the public "
            "keys of the fleet: `ctl keygen` writes trust.json on the laptop, copy it here or name "
            "it with --trust"
        )

    def key_set(self) -> KeySet:
        """Return the keys that this fleet trusts.

        Raises:
            StartError: the file is missing, unreadable, empty of keys or another fleet's.
        """
        path = self.trust_file()
        try:
            keys = KeySet.decode(path.read_bytes())
        except (OSError, MessageError) as error:
            raise StartError(f"cannot start: trust file {path}: {error}") from error
        if keys.fleet != self.fleet:
            raise StartError(
                f"cannot start: trust file {path} is of fleet {keys.fleet!r}, this device is in "
                f"fleet {self.fleet!r}; set fleet, or copy that fleet's trust.json here"
            )
        for role in ("release", "controller"):
            if not any(key.role == role for key in keys.keys):
                raise StartError(
                    f"cannot start: trust file {path} has no {role} key; copy trust.json anew "
                    "after `ctl keygen`"
                )
        return keys


def read_toml(path: Path) -> dict[str, Any]:
    """Read a configuration file, unchecked.

    Raises:
        StartError: it cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text())
    except (OSError, UnicodeError, tomllib.TOMLDecodeError) as error:
        raise StartError(f"cannot start: {path}: {error}") from error


def _certificate(section: BrokerSection) -> tuple[str | None, str | None]:
    if (section.cert_file is None) != (section.key_file is None):
        raise StartError("cannot start: [broker]: want both cert_file and key_file")
    return (
        str(section.cert_file) if section.cert_file else None,
        str(section.key_file) if section.key_file else None,
    )


def _check_ca_file(path: Path, table: str = "[broker]") -> None:
    """Find out at the start, not at a connection, whether the file holds certificates."""
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:
        why = error.strerror or error
        raise StartError(f"cannot start: {table} ca_file {path}: {why}") from error


def _default_state_dir(device: str) -> Path:
    """The StateDirectory that systemd gave, else the user's own state folder."""
    if given := os.environ.get("STATE_DIRECTORY"):
        return Path(given.split(":")[0])
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "sluice" / device


def _default_trust(state_dir: Path) -> list[Path]:
    base = os.environ.get("XDG_CONFIG_HOME")
    home = Path(base) if base else Path.home() / ".config"
    return [state_dir / "trust.json", home / "sluice" / "trust.json"]
