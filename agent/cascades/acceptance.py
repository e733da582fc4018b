"""May a desired document be acted on: signed, for us, and newer than what was accepted. Pure."""

from agent.errors import RefusalError
from agent.storage.ledger import Ledger
from protocols.desired import Desired
from protocols.enrolment import Enrolment
from protocols.envelope import DESIRED, Holds, KeySet, open_unverified, verify


def accept(
    envelope: bytes,
    keys: KeySet,
    device: str,
    ledger: Ledger,
    holds: Holds,
    now_s: float | None,
) -> Desired:
    """Return a desired document that the device may act on: a newer one, or the remembered one.

    Args:
        envelope: as it came.
        keys: that are trusted.
        device: this device's name.
        ledger: what was accepted before.
        holds: checks one signature.
        now_s: Unix time in seconds; None: the clock is not synchronized, so that nothing can be
            said to have expired. It is no earlier than the newest document that was ever accepted.

    Raises:
        RefusalError: it is not for this device, not newer than what was accepted, or expired.
        TrustError, MessageError: it is not signed as it must be, or is no such message.
    """
    desired = read_desired(envelope, keys, device, holds)
    generation = desired.generation
    if generation <= ledger.generation and not _is_known(envelope, ledger):
        other = " with other content" if generation == ledger.generation else ""
        raise RefusalError(
            f"cannot apply generation {generation}: generation {ledger.generation} was accepted "
            f"before{other}; the controller must go on from {ledger.generation + 1}",
            generation,
        )
    if now_s is not None and desired.expires_ts is not None:
        late_s = max(now_s, ledger.newest_ts) - desired.expires_ts
        if late_s >= 0:
            raise RefusalError(
                f"cannot apply generation {generation}: it expired {late_s:.0f} s ago, by this "
                "device's clock and the documents that it had before",
                generation,
            )
    return desired


def check_machine(desired: Desired, enrolment: Enrolment | None) -> None:
    """Check that a document is for this machine: its credential may have been copied to another.

    Args:
        desired: a verified document for a device of this name.
        enrolment: of this machine; None: it came without a file.

    Raises:
        RefusalError: it is for another one.
    """
    if desired.enrolment is not None and desired.enrolment != enrolment:
        raise RefusalError(
            f"cannot apply generation {desired.generation}: it is for another machine that was "
            f"enrolled as {desired.device}; if this one takes its place: ctl device accept "
            f"{desired.device}",
            desired.generation,
        )


def _is_known(envelope: bytes, ledger: Ledger) -> bool:
    """Whether a document is the accepted one: perhaps other keys have signed it, too, since then.

    Both envelopes are sound: one was verified now, the other when it was accepted.
    """
    known = ledger.desired.encode()
    return envelope == known or (
        bool(known) and open_unverified(envelope) == open_unverified(known)
    )


def read_desired(envelope: bytes, keys: KeySet, device: str, holds: Holds) -> Desired:
    """Return the verified document of an envelope for this device.

    Raises:
        TrustError, MessageError: it is not signed as it must be, or is no such message.
        RefusalError: it is for another device, or names a cascade twice.
    """
    desired = Desired.decode(verify(envelope, DESIRED, keys, holds))
    generation = desired.generation
    if desired.fleet != keys.fleet or desired.device != device:
        raise RefusalError(
            f"cannot apply generation {generation}: it is for device {desired.device!r} of fleet "
            f"{desired.fleet!r}, this is {device!r} of {keys.fleet!r}",
            generation,
        )
    names = [cascade.bundle.name for cascade in desired.cascades]
    if twice := {name for name in names if names.count(name) > 1}:
        raise RefusalError(
            f"cannot apply generation {generation}: it names {min(twice)} twice", generation
        )
    return desired
