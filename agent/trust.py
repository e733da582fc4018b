"""The keys that this device trusts: those of its trust file, and every key set that followed them.

The trust file is a person's word and the root of all: where what is kept does not go on from it,
what is kept is forgotten. A later key set comes as a signed envelope on `keys/<version>`, one after
the other, so that a device that was away for several of them follows them one by one.
"""

import hashlib
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

from agent.errors import ChildError, StoreError
from agent.reporting.publisher import Publisher
from agent.storage.files import write_atomically
from protocols.envelope import Holds, KeySet
from protocols.errors import MessageError, SluiceError, TrustError
from protocols.message import Message
from protocols.trust import check_usable, verify_rotation


class KeyChain(Message):
    """`STATE/keys.json`: the key set of the trust file, and those that followed it."""

    KIND: ClassVar[str] = "key chain"
    MAX_BYTES: ClassVar[int] = 8 << 20

    sets: tuple[KeySet, ...]


@dataclass(frozen=True, slots=True)
class KeySets:
    """The key sets that this device has followed, the oldest first; never empty."""

    sets: tuple[KeySet, ...]

    @property
    def keys(self) -> KeySet:
        """The keys that are trusted now."""
        return self.sets[-1]

    @property
    def newest_first(self) -> tuple[KeySet, ...]:
        """All of them: what was accepted under one of these may go on."""
        return self.sets[::-1]


def resume(configured: KeySet, kept: tuple[KeySet, ...]) -> KeySets:
    """Return the key sets to go on with. Pure.

    Args:
        configured: of the trust file.
        kept: as this device has followed them.

    Returns:
        What is kept from the configured one on, if that is part of it; else that one alone.

    Raises:
        TrustError: what is kept is no chain.
    """
    if configured not in kept:
        return KeySets((configured,))
    found = kept[kept.index(configured) :]
    for before, after in pairwise(found):
        if (after.version, after.fleet) != (before.version + 1, before.fleet):
            raise TrustError(f"cannot trust keys: {after.version} follows {before.version}")
        check_usable(after)
    return KeySets(found)


def read_key_sets(path: Path, configured: KeySet) -> tuple[KeySets, str]:
    """Return the key sets to go on with, and what is wrong with the kept ones; empty: nothing.

    Args:
        path: where they are kept. A file that cannot be used counts for nothing: the device goes on
            from its trust file, and the broker has what follows.
        configured: of the trust file.
    """
    try:
        return resume(configured, KeyChain.decode(path.read_bytes()).sets), ""
    except FileNotFoundError:
        return KeySets((configured,)), ""
    except (OSError, MessageError, TrustError) as error:
        return KeySets((configured,)), f"{error}; {path} counts for nothing, the trust file does"


class Trust:
    """Follows the keys of the fleet.

    Args:
        path: where they are kept.
        configured: of the trust file.
        holds: checks one signature.
        publisher: says what was refused, and that other keys are trusted.
    """

    def __init__(self, path: Path, configured: KeySet, holds: Holds, publisher: Publisher) -> None:
        self._path, self._holds, self._publisher = path, holds, publisher
        self.now, self.damage = read_key_sets(path, configured)
        self._refused = self._waiting = b""

    def take(self, envelope: bytes) -> bool:
        """Take what came on the topic of the next key set; return whether others are trusted now.

        One that is refused is said so, once.
        """
        self._waiting = b""
        if not envelope:
            return False
        try:
            new = verify_rotation(envelope, self.now.keys, self._holds)
            self._keep(KeySets((*self.now.sets, new)))
        except (TrustError, MessageError) as error:
            self._refuse(envelope, error)
            return False
        except (ChildError, StoreError) as error:
            self._waiting = envelope
            self._refuse(envelope, error)
            return False
        self._publisher.event("keys", f"trusts the keys of version {new.version}: {_named(new)}")
        return True

    def retry(self) -> bool:
        """Take again what was refused for no fault of its own; see `take`."""
        return self.take(self._waiting)

    def _refuse(self, envelope: bytes, error: SluiceError) -> None:
        digest = hashlib.sha256(envelope).digest()
        if digest != self._refused:
            self._refused = digest
            self._publisher.event("refused", str(error))

    def _keep(self, now: KeySets) -> None:
        """Make them last before they count."""
        try:
            write_atomically(self._path, KeyChain(sets=now.sets).encode())
        except OSError as error:
            raise StoreError(f"cannot write {self._path}: {error.strerror}") from error
        self.now = now


def _named(keys: KeySet) -> str:
    return ", ".join(f"{key.role} {key.key_id}" for key in keys.keys)
