"""May a desired document be acted on: signed, for us, and newer than what was accepted. Pure."""

from agent.errors import RefusalError
from agent.storage.ledger import Ledger
from protocols.desired import Desired
from protocols.envelope import DESIRED, Holds, KeySet, verify


def accept(envelope: bytes, keys: KeySet, device: str, ledger: Ledger, holds: Holds) -> Desired:
    """Return a desired document that the device may act on: a newer one, or the remembered one.

    Raises:
        RefusalError: it is not for this device, or not newer than what was accepted.
        TrustError, MessageError: it is not signed as it must be, or is no such message.
    """
    desired = read_desired(envelope, keys, device, holds)
    generation = desired.generation
    if generation <= ledger.generation and envelope != ledger.desired.encode():
        other = " with other content" if generation == ledger.generation else ""
        raise RefusalError(
            f"cannot apply generation {generation}: generation {ledger.generation} was accepted "
            f"before{other}; the controller must go on from {ledger.generation + 1}",
            generation,
        )
    return desired


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
