"""Enrolment files: what goes into one, and where it may be put."""

import os
import secrets
from pathlib import Path

from controller.enrolment.store import Granted, Store, urls
from controller.errors import EnrolmentError
from controller.home import Home
from protocols.enrolment import EnrolmentFile
from protocols.roster import Credential

_NONCE_BYTES = 32


def new_nonce() -> str:
    """Return what makes a file unlike any other."""
    return secrets.token_hex(_NONCE_BYTES)


def check_new(path: Path) -> None:
    """Check that a file can be made, before anything else is.

    Raises:
        EnrolmentError: it is there already, or its folder cannot be written.
    """
    if path.exists():
        raise EnrolmentError(f"cannot write {path}: it exists; use it, delete it, or give --out")
    if not os.access(path.parent, os.W_OK):
        raise EnrolmentError(f"cannot write {path}: folder {path.parent} cannot be written")


def shown(granted: Granted) -> Credential:
    """Return of a credential what everybody may see."""
    if granted.issued is None:
        return Credential(kind="password")
    return Credential(
        kind="certificate",
        serial=f"{granted.issued.serial:x}",
        fingerprint=granted.issued.fingerprint,
    )


def enrolment_file(
    home: Home, store: Store, granted: Granted, nonce: str, labels: dict[str, str]
) -> EnrolmentFile:
    """Return the file that makes a device a member.

    Raises:
        HomeError: the home's trust file cannot be used, so no device could use the file.
        EnrolmentError: there is no broker.
    """
    home.trust()
    by_certificate, by_password = urls(store.place)
    issued = granted.issued
    return EnrolmentFile(
        fleet=home.fleet,
        device=granted.login.identity,
        labels=labels,
        broker_url=by_certificate if issued is not None else by_password or by_certificate,
        ca=store.ca_file.read_text(),
        certificate=issued.certificate.decode() if issued is not None else None,
        key=issued.key.decode() if issued is not None else None,
        username=granted.login.identity if issued is None else None,
        password=granted.password,
        trust=home.trust_file.read_text(),
        nonce=nonce,
        created_ts=granted.login.issued_ts,
    )
