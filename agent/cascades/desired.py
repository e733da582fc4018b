"""The desired document: what comes in, what is accepted, and what is said of what is not."""

import hashlib
from collections.abc import Callable

from agent.cascades.acceptance import accept, check_machine, read_desired
from agent.errors import AgentError, ChildError, RefusalError, StoreError
from agent.reporting.publisher import Publisher, synced_time_s
from agent.storage.ledger import LedgerFile
from agent.trust import KeySets
from protocols.desired import Desired
from protocols.device import Refusal
from protocols.enrolment import Enrolment
from protocols.envelope import Holds
from protocols.errors import MessageError, SluiceError, TrustError
from protocols.schedule import Schedule

_UNTIL_TOLD = Schedule()
"""The schedule of a device that nothing was desired of yet."""


class DesiredDocument:
    """Holds the document that is in force. It starts with the one that the ledger remembers.

    Args:
        device: this device's name.
        trust: the keys that must have signed it.
        holds: checks one signature.
        ledger: what was accepted.
        publisher: says what is refused.
        clock: Unix time in seconds; None: not synchronized.
        enrolment: of this machine; None: it came without a file.
    """

    def __init__(  # noqa: PLR0913 - what it brings together
        self,
        device: str,
        trust: KeySets,
        holds: Holds,
        ledger: LedgerFile,
        publisher: Publisher,
        clock: Callable[[], float | None] = synced_time_s,
        *,
        enrolment: Enrolment | None = None,
    ) -> None:
        self._enrolment = enrolment
        self._device, self._trust, self._holds = device, trust, holds
        self._ledger, self._publisher, self._clock = ledger, publisher, clock
        self._refused = self._waiting = self._distrusted = b""
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
        self._waiting = self._distrusted = b""
        known = self.desired is not None and payload == self._ledger.now.desired.encode()
        if not known:
            try:
                self.desired = self._accepted(payload)
            except (TrustError, MessageError, AgentError) as error:
                self._distrusted = payload if isinstance(error, TrustError) else b""
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

    def renew(self, trust: KeySets) -> None:
        """Trust other keys: the next `retry` takes again what the old ones did not vouch for.

        The document in force stays: it was good when it came.
        """
        self._trust = trust
        self._waiting = self._waiting or self._distrusted

    def _accepted(self, payload: bytes) -> Desired:
        """Check a document and make its generation last before anything is done with it."""
        ledger = self._ledger.now
        try:
            keys, now_s = self._trust.keys, self._clock()
            desired = accept(payload, keys, self._device, ledger, self._holds, now_s)
            check_machine(desired, self._enrolment)
        except ChildError:
            self._waiting = payload
            raise
        try:
            self._ledger.write(
                ledger.with_(
                    generation=desired.generation,
                    desired=payload.decode(),
                    newest_ts=max(ledger.newest_ts, desired.ts),
                )
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
            return self._read(envelope)
        except (TrustError, MessageError, AgentError) as error:
            self._waiting = envelope if isinstance(error, ChildError) else b""
            self._refuse(envelope, error)
            return None

    def _read(self, envelope: bytes) -> Desired:
        """Read what was accepted once: under the keys of now, or those of then."""
        errors: list[TrustError] = []
        for keys in self._trust.newest_first:
            try:
                return read_desired(envelope, keys, self._device, self._holds)
            except TrustError as error:
                errors.append(error)
        raise errors[0]
