"""mosquitto's files as text: configuration, access list, password hashes. Pure.

The one source of what our mosquitto says: `deploy/mosquitto/sluice.conf` is `trial_config()`, and
`ctl broker config` writes `fleet_config(...)`.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from protocols.topics import DeviceKind, Topics

Duty = Literal["release", "controller"]
"""What a person's or a controller's identity is for: all of the fleet, or planning for it."""

PEOPLE_PREFIX = "@"
"""Identities of people and controllers begin so; no device's name can."""

DEVICE_WRITES: tuple[DeviceKind, ...] = ("status", "inventory", "telemetry", "events", "reported")
DEVICE_READS: tuple[DeviceKind, ...] = ("desired", "status")
"""Its own status too, by which an agent notices another one of its name."""

SHARED_READS = ("artifacts/+/+", "keys/#")
"""Below the fleet's root, for every device: chunks by their digests, and the fleet's key sets."""

CONTROLLER_WRITES = (
    "devices/+/desired",
    "devices/+/events",
    "controllers/#",
    "artifacts/#",
    "rollouts/#",
    "audit/#",
    "keys/#",
)
"""What `ctl serve` publishes: its own documents, and key sets that the broker has lost. What else
people decide is not its to write."""

PBKDF2_ROUNDS = 101
"""mosquitto_passwd's own number. Our passwords are 256 random bits: there is nothing to stretch."""

_TRIAL_HEAD = """\
# /etc/mosquitto/mosquitto.conf, the whole of it: mosquitto 2 as the broker of a fleet, for a trial
# on one machine. For devices on the network `ctl broker config DIR` writes a complete set with TLS,
# certificates and an access list; the part below is the same there.
"""

_COMMON = """\
# The retained documents are the fleet's database, so they must survive a broker that is killed.
# All that is older than about a second survives a SIGKILL; with the default of 30 minutes
# everything since the last save would be gone. mosquitto writes its whole store each time, changed
# or not: on an SD card, or with hundreds of megabytes of artifacts retained, take 60 and lose the
# last minute instead. (autosave_on_changes would write the whole store at every publication: 103 ms
# each with 100 MB retained.)
persistence true
persistence_location {data}/
autosave_interval 1
autosave_on_changes false

# Without `information`, which would say that it saves, every second.
log_type error
log_type warning
log_type notice

# Sessions of devices that do not come back do not stay for ever.
persistent_client_expiration 14d

# Small packets do not wait for each other: artifacts arrive fourteen times as fast.
set_tcp_nodelay true

# The largest payload is an artifact's chunk of 64 KiB or a document of at most 1 MiB. Never set
# this below: the broker would confirm what it drops.
message_size_limit 1114112
max_packet_size 1179648

# A client that does not read cannot fill the broker's memory. A device subscribes to at most eight
# chunks at a time; a controller that starts gets the retained documents of the whole fleet, which
# is why the number of messages has no limit and their bytes have one.
max_inflight_messages 20
max_queued_messages 0
max_queued_bytes 268435456
"""

_TRIAL_TAIL = """\
# This machine only, without passwords: enough for a trial on one machine.
listener 1883 127.0.0.1
allow_anonymous true
max_connections 65535
"""


@dataclass(frozen=True, slots=True)
class BrokerPlan:
    """Where a fleet's broker listens, and where its files are on its machine.

    Attributes:
        port: of the listener for certificates.
        password_port: of the listener for passwords, None for no such listener.
        folder: of the files that `ctl broker config` writes.
        data: folder of what the broker retains.
        user: whose rights mosquitto takes where root starts it; None: its default, `mosquitto`.
    """

    port: int
    password_port: int | None
    folder: str
    data: str
    user: str | None = None


def trial_config() -> str:
    """Return the configuration for a trial on one machine: no TLS, everybody, loopback."""
    return "\n".join((_TRIAL_HEAD, _COMMON.format(data="/var/lib/mosquitto"), _TRIAL_TAIL))


def fleet_config(plan: BrokerPlan) -> str:
    """Return the configuration of a fleet's broker: TLS, certificates, an access list."""
    head = (
        "# Written by `ctl broker config`, which writes it anew: edit nothing here. Made for\n"
        f"# {plan.folder}; all files must belong to the user that mosquitto runs as, mode 0600.\n"
    )
    if plan.user is not None:
        head += f"user {plan.user}\n"
    parts = [head, _COMMON.format(data=plan.data), _certificates(plan)]
    if plan.password_port is not None:
        parts.append(_passwords(plan, plan.password_port))
    return "\n".join(parts)


def _certificates(plan: BrokerPlan) -> str:
    folder = plan.folder
    return f"""\
# Nobody without a name, and nobody beyond what the access list gives to that name.
allow_anonymous false
acl_file {folder}/acl

# A certificate of the fleet's own authority; its common name is who the client is. Not set:
# use_username_as_clientid. It would give the one session of a device that listens and the other
# that fetches the same id, and they would end each other. What keeps a device from ending another
# one's session is that ids are not to be guessed: agents and controllers mix their own key in.
listener {plan.port}
{_tls(folder)}require_certificate true
crlfile {folder}/crl.pem
use_identity_as_username true
"""


def _passwords(plan: BrokerPlan, port: int) -> str:
    folder = plan.folder
    return f"""\
# For devices that cannot show a certificate: TLS too, and a password for each.
listener {port}
{_tls(folder)}password_file {folder}/passwords
"""


def _tls(folder: str) -> str:
    # Never before a listener: mosquitto would take it for one of the default listener, and open
    # port 1883 to everybody.
    limit = "max_connections 65535\n"
    return limit + (
        f"cafile {folder}/ca.pem\ncertfile {folder}/broker.pem\nkeyfile {folder}/broker.key\n"
        "tls_version tlsv1.2\n"
    )


def access_list(topics: Topics, people: Mapping[str, Duty], revoked: Iterable[str]) -> str:
    """Return the access list: each identity reads and writes what it must, and nothing else.

    Args:
        topics: of the fleet.
        people: identities of people and controllers, and what each is for.
        revoked: identities without any valid credential left: what holds a session still, when the
            broker reads this, gets and says nothing more on it.
    """
    root = topics.root
    lines = ["# Written by `ctl broker config`. An identity is a common name, or a user name.", ""]
    for name, duty in sorted(people.items()):
        lines.append(f"user {name}")
        if duty == "release":
            lines.append(f"topic readwrite {root}/#")
        else:
            lines.append(f"topic read {root}/#")
            lines += [f"topic write {root}/{below}" for below in CONTROLLER_WRITES]
        lines.append("")
    for name in sorted(set(revoked)):
        lines += [f"user {name}", "topic deny #", ""]
    lines.append("# Every device: what is its own, by the name it has proved.")
    lines += [f"pattern write {topics.device('%u', kind)}" for kind in DEVICE_WRITES]
    lines += [f"pattern read {topics.device('%u', kind)}" for kind in DEVICE_READS]
    lines += [f"pattern read {root}/{below}" for below in SHARED_READS]
    return "\n".join(lines) + "\n"


def password_line(username: str, password: str, salt: bytes) -> str:
    """Return a line of a password file, as `mosquitto_passwd` writes it ($7$: PBKDF2, SHA-512)."""
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, PBKDF2_ROUNDS)
    words = (base64.b64encode(part).decode() for part in (salt, digest))
    return f"{username}:$7${PBKDF2_ROUNDS}${'$'.join(words)}"
