"""What the device remembers across restarts: generation, desired document, good, bad.

The ledger is why no replayed or rolled-back document passes, why the device works without a broker
and why a bundle that kills the runner stays away after a reboot.
"""

import contextlib
import logging
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from agent.errors import StoreError
from agent.storage.files import DISK, Disk, write_atomically
from protocols.desired import DesiredCascade
from protocols.errors import MessageError
from protocols.message import Message, Name, Part, Sha256

log = logging.getLogger("sluice.ledger")

GOOD_KEPT = 2
"""The one that serves, and the one before it: where a quarantine returns to."""


class Strike(Part):
    """A bundle was at work when a runner died."""

    ts: float = Field(description="Unix time in seconds")
    weight: float = Field(gt=0, description="1: it alone was at work and the signal was a crash")


class Ledger(Message):
    """The persisted state of the agent."""

    KIND: ClassVar[str] = "ledger"
    MAX_BYTES: ClassVar[int] = 8 << 20

    generation: int = 0
    desired: str = Field("", description="the accepted envelope as it came, UTF-8")
    good: dict[Name, tuple[DesiredCascade, ...]] = Field(
        {}, description="per cascade what has served here, newest first"
    )
    quarantined: dict[Sha256, str] = Field({}, description="bundle digest -> why")
    strikes: dict[Sha256, tuple[Strike, ...]] = {}
    newest_ts: float = Field(0.0, description="of all accepted documents, Unix time: no earlier")

    def has_served(self, sha256: str) -> bool:
        """Whether the bundle of this digest has served well here."""
        return any(
            cascade.bundle.artifact.sha256 == sha256
            for kept in self.good.values()
            for cascade in kept
        )

    def with_good(self, served: tuple[DesiredCascade, ...], wanted: frozenset[str]) -> "Ledger":
        """Return the ledger after cascades have taken over; those no longer wanted are forgotten.

        Args:
            served: what now answers requests.
            wanted: the names of the cascades in the desired document.
        """
        good = {name: kept for name, kept in self.good.items() if name in wanted}
        for cascade in served:
            name = cascade.bundle.name
            older = [c for c in good.get(name, ()) if c.bundle != cascade.bundle]
            good[name] = (cascade, *older)[:GOOD_KEPT]
        return self.with_(good=good)


class LedgerFile:
    """The ledger on disk; `now` is what it holds, or will hold once the disk takes it.

    A file that cannot be read is put aside and the device starts anew: one that is out of reach
    must not stay dead for a disk error. `damage` then says so; empty: all is well.
    """

    def __init__(self, path: Path, disk: Disk = DISK) -> None:
        self._path, self._disk = path, disk
        self.damage = ""
        self.now = self._written = self._read()
        self._failing = False

    def has_served(self, sha256: str) -> bool:
        """Whether the bundle of this digest has served well here."""
        return self.now.has_served(sha256)

    def write(self, ledger: Ledger) -> None:
        """Make a ledger last before this returns.

        Raises:
            StoreError: the disk does not take it; `now` is still the old one.
        """
        if ledger != self._written:
            try:
                write_atomically(self._path, ledger.encode(), self._disk)
            except OSError as error:
                raise StoreError(f"cannot write {self._path}: {error.strerror}") from error
        self.now = self._written = ledger
        self._failing = False

    def note(self, ledger: Ledger) -> None:
        """Write what may wait for `settle`: a disk that fails must not stop what runs."""
        try:
            self.write(ledger)
        except StoreError as error:
            if not self._failing:
                log.warning("%s; it is remembered, and written when that is possible", error)
            self.now, self._failing = ledger, True

    def settle(self) -> None:
        """Write what could not be written before."""
        self.note(self.now)

    def _read(self) -> Ledger:
        try:
            return Ledger.decode(self._path.read_bytes())
        except FileNotFoundError:
            return Ledger()
        except (OSError, MessageError) as error:
            aside = self._path.with_suffix(".damaged")
            with contextlib.suppress(OSError):
                self._path.replace(aside)
            self.damage = f"{error}; it is put aside as {aside} and the device starts anew"
            return Ledger()
