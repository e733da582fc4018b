"""The fleet's authority on this machine, and the folder that goes to its broker.

`HOME/pki` is the source: `ca.pem`, `ca.key` and the register of what was issued. The broker's
folder is written out of it, and again after every change, if it is on this machine.
"""

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from controller.enrolment.authority import (
    Issued,
    create_authority,
    ends_ts,
    hosts_of,
    issue_client,
    issue_server,
    read_issued,
    revocation_list,
    revoked_in,
)
from controller.enrolment.files import (
    Written,
    locked,
    make_private_folder,
    put,
    read,
    write_private,
)
from controller.enrolment.mosquitto import (
    PEOPLE_PREFIX,
    BrokerPlan,
    Duty,
    access_list,
    fleet_config,
    password_line,
)
from controller.enrolment.register import (
    BrokerPlace,
    Login,
    Register,
    read_register,
    write_register,
)
from controller.errors import EnrolmentError
from controller.home import Home, check_private

ALWAYS = ("localhost", "127.0.0.1")
"""The broker's certificate holds for these too: for whoever is on its own machine."""

PASSWORD_BYTES = 32
_SALT_BYTES = 12
_LEAST_YEARS_S = 365.25 * 86400
"""A broker's certificate that lasts for less is made anew with the next `ctl broker config`."""


@dataclass(frozen=True, slots=True)
class Granted:
    """A credential that was just made. Its secret never shows in a repr."""

    login: Login
    issued: Issued | None = None
    password: str | None = None

    def __repr__(self) -> str:
        return f"Granted({self.login.identity} {'password' if self.password else 'certificate'})"


class Store:
    """The authority and the register of one home folder.

    Args:
        home: whose.
        clock: Unix time in seconds.
    """

    def __init__(self, home: Home, clock: Callable[[], float] = time.time) -> None:
        self._home, self._clock = home, clock
        self._folder = home.pki_dir

    @property
    def ca_file(self) -> Path:
        """The authority's certificate."""
        return self._folder / "ca.pem"

    @property
    def register(self) -> Register:
        """What was issued.

        Raises:
            EnrolmentError: it cannot be read.
        """
        return read_register(self._folder / "register.json")

    @property
    def place(self) -> BrokerPlace:
        """Where the broker is.

        Raises:
            EnrolmentError: `ctl broker config` has not been run.
        """
        place = self.register.broker
        if place is None or not self.ca_file.exists():
            raise EnrolmentError(
                f"cannot make credentials: {self._folder} has no certificate authority; run "
                "`ctl broker config DIR --host NAME` first"
            )
        return place

    def configure(self, place: BrokerPlace, *, renew: bool = False) -> list[Written]:
        """Write the broker's folder: all that mosquitto needs.

        The authority is made once and kept; so is the broker's certificate, unless it is to be
        renewed, holds for other hosts, or ends soon.

        Raises:
            EnrolmentError: something cannot be read or written.
        """
        with locked(self._folder):
            authority, made = self._authority()
            folder = place.written_to
            make_private_folder(folder)
            register = self.register.model_copy(update={"broker": place})
            done = [*made, *self._serve_as(authority, place, renew=renew)]
            done.append(put(folder / "ca.pem", authority.certificate))
            done.append(put(folder / "mosquitto.conf", fleet_config(_plan(place)).encode()))
            if not (data := Path(place.data)).exists() and data.is_relative_to(folder):
                make_private_folder(data)
            done += self._write_lists(authority, register)
            return done

    def grant_device(self, name: str, enrolment: str, *, password: bool) -> Granted:
        """Make a device's credential, and write the broker's lists anew.

        Raises:
            EnrolmentError: there is no authority, or it does not take passwords.
        """
        if password and self.place.password_port is None:
            raise EnrolmentError(
                f"cannot give {name} a password: the broker takes certificates alone; run "
                "`ctl broker config` with --password-fallback"
            )
        with self._changing() as (authority, register):
            granted = self._grant(authority, name, enrolment, password=password)
            self._write_lists(authority, register.with_login(granted.login))
            return granted

    def grant_person(self, name: str, duty: Duty) -> Granted:
        """Make the certificate of a person or a controller; its identity is `@name`.

        Raises:
            EnrolmentError: there is no authority, or the name is taken.
        """
        identity = PEOPLE_PREFIX + name
        with self._changing() as (authority, register):
            if register.holds(identity):
                raise EnrolmentError(
                    f"cannot make identity {identity}: it exists; take another name, or end that "
                    f"one: ctl broker revoke {name}"
                )
            issued = issue_client(authority, identity, self._clock())
            login = self._login(identity, duty, issued, None)
            self._write_lists(authority, register.with_login(login))
            return Granted(login, issued)

    def revoke(self, identity: str, *, keep: str | None = None) -> bool:
        """Revoke all credentials of an identity but those of one enrolment; whether it had any.

        The broker's lists are written anew.

        Raises:
            EnrolmentError: there is no authority, or a file cannot be written.
        """
        with self._changing() as (authority, register):
            after = register.revoked(identity, self._clock(), keep)
            self._write_lists(authority, after)
            return after.logins != register.logins

    def ends_in_days(self) -> dict[str, float]:
        """Return when the certificates that hold end, by identity; `broker` is the broker's.

        Raises:
            EnrolmentError: a file cannot be read.
        """
        now_s = self._clock()
        ends = {
            one.identity: one.not_after_ts
            for one in self.register.logins
            if one.revoked_ts is None and one.not_after_ts is not None
        }
        place = self.register.broker
        if place is not None and (file := place.written_to / "broker.pem").exists():
            ends["broker"] = ends_ts(read(file))
        return {who: (ts - now_s) / 86400 for who, ts in ends.items()}

    @contextmanager
    def _changing(self) -> Iterator[tuple[Issued, Register]]:
        """Hold the folder, and give what is in it."""
        _ = self.place
        with locked(self._folder):
            authority, _ = self._authority()
            yield authority, self.register

    def _authority(self) -> tuple[Issued, list[Written]]:
        """Return the authority, made now if there is none."""
        key_file = self._folder / "ca.key"
        if self.ca_file.exists() != key_file.exists():
            raise EnrolmentError(
                f"cannot use {self._folder}: it has only one of ca.pem and ca.key; put the other "
                "back (a new authority would lock every device out)"
            )
        if self.ca_file.exists():
            check_private(key_file)
            return read_issued(read(self.ca_file), read(key_file)), []
        authority = create_authority(self._home.fleet, self._clock())
        # The key first: a certificate without one is the only half that must never be there.
        return authority, [
            put(key_file, authority.key),
            put(self.ca_file, authority.certificate),
        ]

    def _serve_as(self, authority: Issued, place: BrokerPlace, *, renew: bool) -> list[Written]:
        certificate, key = place.written_to / "broker.pem", place.written_to / "broker.key"
        hosts = tuple(dict.fromkeys([*place.hosts, *ALWAYS]))
        if not renew and certificate.exists() and key.exists():
            found = read_issued(read(certificate), read(key))
            lasts_s = found.not_after_ts - self._clock()
            same = set(hosts_of(found.certificate)) == set(hosts)
            if same and lasts_s > _LEAST_YEARS_S:
                return [Written(certificate, "kept"), Written(key, "kept")]
        issued = issue_server(authority, hosts, self._clock())
        return [put(key, issued.key), put(certificate, issued.certificate)]

    def _grant(self, authority: Issued, name: str, enrolment: str, *, password: bool) -> Granted:
        if not password:
            issued = issue_client(authority, name, self._clock())
            return Granted(self._login(name, "device", issued, enrolment), issued)
        word = secrets.token_urlsafe(PASSWORD_BYTES)
        login = Login(
            identity=name,
            holder="device",
            enrolment=enrolment,
            password_line=password_line(name, word, secrets.token_bytes(_SALT_BYTES)),
            issued_ts=self._clock(),
        )
        return Granted(login, password=word)

    def _login(self, identity: str, holder: str, issued: Issued, enrolment: str | None) -> Login:
        return Login.model_validate(
            {
                "identity": identity,
                "holder": holder,
                "enrolment": enrolment,
                "serial": f"{issued.serial:x}",
                "not_after_ts": issued.not_after_ts,
                "issued_ts": self._clock(),
            }
        )

    def _write_lists(self, authority: Issued, register: Register) -> list[Written]:
        """Write what changes with every credential, and the register itself, first."""
        crl_file = self._folder / "crl.pem"
        if not crl_file.exists() or revoked_in(read(crl_file)) != set(register.revoked_serials):
            crl, at_s = revocation_list(
                authority, register.revoked_serials, self._clock(), register.revocations_ts
            )
            register = register.model_copy(update={"revocations_ts": at_s})
            write_private(crl_file, crl)
        self._keep(register)
        place = register.broker
        if place is None or not place.written_to.is_dir():
            return []
        acl = access_list(self._home.topics, register.people, register.shut_out)
        lists = [("acl", acl.encode()), ("crl.pem", read(crl_file))]
        if place.password_port is not None:
            lines = (f"{line}\n" for line in register.password_lines)
            lists.append(("passwords", "".join(lines).encode()))
        return [put(place.written_to / name, content) for name, content in lists]

    def _keep(self, register: Register) -> None:
        write_register(self._folder / "register.json", register)


def reload_command(place: BrokerPlace) -> str:
    """Return what makes the broker read its lists again, for a person."""
    if place.user is not None:
        return "pkill -HUP -x mosquitto"
    return f"copy {place.written_to} to {place.folder} there, then: systemctl reload mosquitto"


def urls(place: BrokerPlace) -> tuple[str, str | None]:
    """Return where devices find the broker: with certificates, and with passwords if they may."""
    host = f"[{place.hosts[0]}]" if ":" in place.hosts[0] else place.hosts[0]
    by_password = None if place.password_port is None else f"mqtts://{host}:{place.password_port}"
    return f"mqtts://{host}:{place.port}", by_password


def _plan(place: BrokerPlace) -> BrokerPlan:
    return BrokerPlan(
        port=place.port,
        password_port=place.password_port,
        folder=place.folder,
        data=place.data,
        user=place.user,
    )
