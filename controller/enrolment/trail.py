"""What is done to the broker's own set-up, in the audit trail: here, and there if it runs."""

import logging
import socket
import time

from controller.audit import keep, new_entry
from controller.home import Home
from controller.identity import whoami
from controller.signing import has_key, load_signer
from protocols.errors import LinkError
from protocols.link import Link

log = logging.getLogger("sluice.enrolment")

_KNOCK_S = 1.0
_CONFIRM_S = 5.0


def record(home: Home, target: str, message: str) -> None:
    """Record an act on the broker's files, signed by the release key; without one, nothing is.

    Args:
        home: keys, and the broker.
        target: the broker's address, or an identity.
        message: for a person.

    Raises:
        HomeError: the key cannot be used, or the home's own trail not be written.
    """
    if not has_key(home, "release"):
        return
    signer = load_signer(home, "release")
    entry = new_entry(
        home.fleet,
        "broker-configured",
        target,
        message,
        by=whoami(),
        key_id=signer.key_id,
        now_s=time.time(),
    )
    keep(home.audit_file, entry)
    topic, envelope = home.topics.audit(entry.id), signer.sign_entry(entry)
    try:
        socket.create_connection((home.broker.host, home.broker.port), _KNOCK_S).close()
        link = Link(home.broker, f"{home.fleet}-ctl-trail", lambda *_: None)
        link.start()
        try:
            link.publish_and_wait(topic, envelope, retain=True, timeout_s=_CONFIRM_S)
        finally:
            link.stop()
    except (OSError, LinkError):
        log.info("the broker is not there: %s has the entry alone", home.audit_file)
