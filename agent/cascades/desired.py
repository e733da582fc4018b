"""The desired document: what comes in, what is accepted, and what is said of what is not."""

import hashlib

from agent.cascades.acceptance import accept, read_desired
from agent.errors import AgentError, ChildError, RefusalError, StoreError
from agent.reporting.publisher import Publisher
from agent.storage.ledger import LedgerFile
from protocols.desired import Desired
from protocols.device import Refusal
from protocols.envelope import Holds, KeySet
from protocols.errors import MessageError, SluiceError, TrustError
from protocols.schedule import Schedule

_UNTIL_TOLD = Schedule()
"""The schedule of a device that nothing was desired of yet."""


class DesiredDocument:
    """Holds the document that is in force. It starts with the one that the ledger remembers."""

    def __init__(
        self, device: str, keys: KeySet, holds: Holds, ledger: LedgerFile, publisher: Publisher
    ) -> None:
        self._device, self.keys, self._holds = device, keys, holds
        self._ledger, self._publisher = ledger, publisher
        self._refused = self._waiting = b""
        self.refusal: Refusal | None = None
        self.desired = self._remembered()

    @property
    def schedule(self) -> Schedule:
        """The schedule in force."""
        return self.desired.schedule if self.desired else _UNTIL_TOLD

    def take(self, payload: bytes) -> bool:
        """Take what came on our desired topic; return whether another document is in force now.

        An empty payload is a topic that was cleared: what runs goes on. A document that came
        before, retained, changes nothing. One that is refused is reported, once.
        """
        if not payload:
            return False
        self._waiting = b""
        known = self.desired is not None and payload == self._ledger.now.desired.encode()
        if not known:
            try:
                self.desired = self._accepted(payload)
            except (TrustError, MessageError, AgentError) as error:
                self._refuse(payload, error)
                return False
        self.refusal, self._refused = None, b""
        return not known

    def retry(self) -> bool:
        """Take again what was refused for no fault of its own; see `take`.

        The broker says it only once: a full disk, or a signature that could not be checked, would
        else cost the device a generation.
        """
        return self.take(self._waiting)

    def _accepted(self, payload: bytes) -> Desired:
        """Check a document and make its generation last before anything is done with it."""
        ledger = self._ledger.now
        try:
            desired = accept(payload, self.keys, self._device, ledger, self._holds)
        except ChildError:
            self._waiting = payload
            raise
        try:
            self._ledger.write(
                ledger.with_(generation=desired.generation, desired=payload.decode())
            )
        except StoreError as error:
            self._waiting = payload
            raise RefusalError(
                f"cannot apply generation {desired.generation}: {error}", desired.generation
            ) from error
        return desired

    def _refuse(self, payload: bytes, error: SluiceError) -> None:
        generation = error.generation if isinstance(error, RefusalError) else None
        self.refusal = Refusal(generation=generation, message=str(error))
        digest = hashlib.sha256(payload).digest()
        if digest != self._refused:
            self._refused = digest
            self._publisher.event("refused", str(error))

    def _remembered(self) -> Desired | None:
        envelope = self._ledger.now.desired.encode()
        if not envelope:
            return None
        try:
            return read_desired(envelope, self.keys, self._device, self._holds)
        except (TrustError, MessageError, AgentError) as error:
            self._waiting = envelope if isinstance(error, ChildError) else b""
            self._refuse(envelope, error)
            return None
