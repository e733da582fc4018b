"""What the tuner has measured, on disk."""

import logging
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import ClassVar

from agent.storage.files import write_atomically
from protocols.errors import MessageError
from protocols.message import Message
from protocols.profile import StageProfile

log = logging.getLogger("sluice.profiles")

_KEPT = 64
"""As many as an inventory may carry, the newest."""


class Profiles(Message):
    """All profiles of a device, whatever they hold for."""

    KIND: ClassVar[str] = "profiles"
    MAX_BYTES: ClassVar[int] = 8 << 20

    profiles: tuple[StageProfile, ...] = ()


class ProfileFile:
    """The file. It can be measured again, so one that is damaged counts as empty.

    Args:
        path: of the file.
        runtime: that is installed now.
        kernel: that runs now.
        cpus: the mask now.
    """

    def __init__(self, path: Path, runtime: str, kernel: str | None, cpus: Collection[int]) -> None:
        self._path = path
        self._here = (runtime, kernel, frozenset(cpus))
        self._read_ns = -1
        self._all: tuple[StageProfile, ...] = ()
        self.reload()

    def use(self, cpus: Iterable[int]) -> None:
        """Hold for another mask from now on."""
        self._here = (*self._here[:2], frozenset(cpus))

    @property
    def valid(self) -> tuple[StageProfile, ...]:
        """Those that hold for this runtime, kernel and mask, newest first."""
        return tuple(
            profile
            for profile in self._all
            if (profile.key.runtime, profile.key.kernel, frozenset(profile.key.cpus)) == self._here
        )

    def reload(self) -> None:
        """Read the file if another process has written it."""
        try:
            written_ns = self._path.stat().st_mtime_ns
            if written_ns == self._read_ns:
                return
            self._all = Profiles.decode(self._path.read_bytes()).profiles
            self._read_ns = written_ns
        except FileNotFoundError:
            return
        except (OSError, MessageError) as error:
            log.warning("%s; the models are measured again", error)

    def put(self, profile: StageProfile) -> None:
        """Take a profile in the place of an older one of the same key, and write the file.

        A disk that is full takes nothing: the profile is then known until the agent ends.
        """
        self.reload()
        others = [one for one in self._all if one.key != profile.key]
        self._all = (profile, *others)[:_KEPT]
        try:
            write_atomically(self._path, Profiles(profiles=self._all).encode())
            self._read_ns = self._path.stat().st_mtime_ns
        except OSError as error:
            log.warning("cannot write %s: %s", self._path, error.strerror)
