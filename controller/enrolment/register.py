"""What the fleet's authority has issued, and what of it is revoked: `HOME/pki/register.json`."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from controller.enrolment.files import write_private
from controller.enrolment.mosquitto import Duty
from controller.errors import EnrolmentError
from protocols.message import explain

Holder = Literal["device", "release", "controller"]
"""Who has a credential: a device, a person (`release`), or a controller."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Login(_Part):
    """One credential, by what it is known by; the certificate or password itself is nowhere here.

    Attributes:
        identity: common name or user name.
        holder: who has it.
        enrolment: digest of the file it went out in; None for people and controllers.
        serial: of a certificate, in hexadecimal.
        password_line: of a password: user name and salted hash, as the broker's file has it.
        not_after_ts: when a certificate ends.
        revoked_ts: when it was revoked, None while it holds.
    """

    identity: str
    holder: Holder
    enrolment: str | None = None
    serial: str | None = None
    password_line: str | None = Field(None, repr=False)
    not_after_ts: float | None = None
    issued_ts: float
    revoked_ts: float | None = None


class BrokerPlace(_Part):
    """Where the broker is, and for where its files are written."""

    hosts: tuple[str, ...]
    port: int
    password_port: int | None = None
    written_to: Path
    folder: str
    data: str
    user: str | None = None


class Register(_Part):
    """All of it."""

    broker: BrokerPlace | None = None
    logins: tuple[Login, ...] = ()
    revocations_ts: float = 0.0
    """Time of the last revocation list."""

    def with_login(self, login: Login) -> "Register":
        """Return it with one more credential."""
        return self.model_copy(update={"logins": (*self.logins, login)})

    def revoked(self, identity: str, now_s: float, keep: str | None = None) -> "Register":
        """Return it with all credentials of an identity revoked, but those of enrolment `keep`."""
        logins = tuple(
            login.model_copy(update={"revoked_ts": now_s})
            if login.identity == identity
            and login.revoked_ts is None
            and (keep is None or login.enrolment != keep)
            else login
            for login in self.logins
        )
        return self.model_copy(update={"logins": logins})

    def holds(self, identity: str) -> bool:
        """Whether an identity has a credential that is not revoked."""
        return any(one.identity == identity and one.revoked_ts is None for one in self.logins)

    @property
    def revoked_serials(self) -> tuple[int, ...]:
        """The certificates of the revocation list."""
        return tuple(
            int(one.serial, 16) for one in self.logins if one.serial and one.revoked_ts is not None
        )

    @property
    def shut_out(self) -> tuple[str, ...]:
        """The devices that have had credentials and have none left."""
        named = {one.identity for one in self.logins if one.holder == "device"}
        return tuple(sorted(name for name in named if not self.holds(name)))

    @property
    def people(self) -> dict[str, Duty]:
        """The identities that are no devices, and what each is for."""
        return {
            one.identity: one.holder
            for one in self.logins
            if one.holder != "device" and one.revoked_ts is None
        }

    @property
    def password_lines(self) -> tuple[str, ...]:
        """The broker's password file: a user name has one line, its latest password's."""
        lines = {
            one.identity: one.password_line
            for one in self.logins
            if one.password_line is not None and one.revoked_ts is None
        }
        return tuple(line for _, line in sorted(lines.items()))


def read_register(path: Path) -> Register:
    """Return the register; one that is not there yet is empty.

    Raises:
        EnrolmentError: it cannot be read.
    """
    try:
        return Register.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Register()
    except ValidationError as error:
        raise EnrolmentError(f"cannot read {path}: {explain(error)}") from error
    except OSError as error:
        raise EnrolmentError(f"cannot read {path}: {error.strerror or error}") from error


def write_register(path: Path, register: Register) -> None:
    """Put it on disk.

    Raises:
        EnrolmentError: it cannot be written.
    """
    write_private(path, register.model_dump_json(indent=2).encode() + b"\n")
