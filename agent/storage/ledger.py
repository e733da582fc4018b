"""What the device remembers across restarts: generation, desired document, good, bad.

The ledger is why no replayed or rolled-back document passes, why the device works without a broker
and why a bundle that kills the runner stays away after a reboot.
"""

import logging
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from agent.errors import StoreError
from agent.storage.files import write_atomically
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


def read_ledger(path: Path) -> Ledger:
    """Return what the device remembers; nothing at its first start.

    A ledger that cannot be read is put aside and the device starts anew: one that is out of reach
    must not stay dead for a disk error.
    """
    try:
        return Ledger.decode(path.read_bytes())
    except FileNotFoundError:
        return Ledger()
    except (OSError, MessageError) as error:
        aside = path.with_suffix(".damaged")
        log.warning("%s; it is put aside as %s and the device starts anew", error, aside)
        if path.is_file():
            path.replace(aside)
        return Ledger()


class LedgerFile:
    """The ledger on disk; `now` is what it holds."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.now = read_ledger(path)

    def write(self, ledger: Ledger) -> None:
        """Make a ledger last before this returns.

        Raises:
            StoreError: the disk does not take it; `now` is still the old one.
        """
        if ledger == self.now:
            return
        try:
            write_atomically(self._path, ledger.encode())
        except OSError as error:
            raise StoreError(f"cannot write {self._path}: {error}") from error
        self.now = ledger

    def note(self, ledger: Ledger) -> None:
        """Write what may be lost: a disk that fails must not stop what runs."""
        try:
            self.write(ledger)
        except StoreError as error:
            log.warning("%s; it is remembered until the agent ends", error)
            self.now = ledger
