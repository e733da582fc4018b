"""How fast the CPUs are, as measured once: the file that spares every start the measurement."""

import logging
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from agent.storage.files import write_atomically
from protocols.errors import MessageError
from protocols.message import Message, Part

log = logging.getLogger("sluice.cores")

_KEPT = 16
"""Kernels and masks, the newest."""

Speeds = Mapping[int, float]


class MeasuredCpus(Part):
    """What was measured of the CPUs of one mask, under one kernel."""

    kernel: str
    cpus: tuple[int, ...]
    speeds: dict[int, float] = Field(description="by CPU number, in a unit of its own")


class CoreSpeeds(Message):
    """All that this device has measured of its CPUs."""

    KIND: ClassVar[str] = "core speeds"

    measured: tuple[MeasuredCpus, ...] = Field((), max_length=_KEPT)


class CoreSpeedFile:
    """The file. It can be measured again, so one that is damaged counts as empty.

    Args:
        path: of the file.
        measure: finds the speeds; empty, if it cannot tell.
    """

    def __init__(self, path: Path, measure: Callable[[Sequence[int]], Speeds]) -> None:
        self._path, self._measure = path, measure
        self._kernel = os.uname().release

    def find(self, cpus: Collection[int]) -> Speeds:
        """Return the speeds of CPUs that were measured together under this kernel, or nothing."""
        for one in self._read():
            if one.kernel == self._kernel and set(cpus) <= set(one.cpus) & one.speeds.keys():
                return {cpu: one.speeds[cpu] for cpu in cpus}
        return {}

    def find_or_measure(self, cpus: tuple[int, ...]) -> Speeds:
        """Return the speeds, measured now if they never were; a doubtful result is not kept."""
        known = self.find(cpus)
        if known:
            return known
        speeds = self._measure(cpus)
        if speeds:
            self._keep(MeasuredCpus(kernel=self._kernel, cpus=cpus, speeds=dict(speeds)))
        return speeds

    def _read(self) -> tuple[MeasuredCpus, ...]:
        try:
            return CoreSpeeds.decode(self._path.read_bytes()).measured
        except FileNotFoundError:
            return ()
        except (OSError, MessageError) as error:
            log.warning("%s; the CPUs are measured again", error)
            return ()

    def _keep(self, new: MeasuredCpus) -> None:
        others = (one for one in self._read() if (one.kernel, one.cpus) != (new.kernel, new.cpus))
        try:
            write_atomically(self._path, CoreSpeeds(measured=(new, *others)[:_KEPT]).encode())
        except OSError as error:
            log.warning("cannot write %s: %s", self._path, error.strerror)
