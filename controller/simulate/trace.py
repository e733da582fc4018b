"""The trace: JSON Lines, one sample a line, as recorded on a device or made. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from pydantic import ConfigDict, Field, ValidationError

from protocols.device import CascadeStats, Rungs, Sample
from protocols.errors import MessageError
from protocols.message import Name, explain


class TraceLine(Sample):
    """One sample, and what else was known then. A field that does not exist is refused."""

    model_config = ConfigDict(extra="forbid")

    ts: float | None = Field(None, description="the device's wall clock, Unix time in seconds")
    local_minute: int | None = Field(
        None, ge=0, lt=1440, description="since midnight, local time; null: no window applies"
    )
    device: Name | None = None
    boot_id: str | None = Field(None, description="of this run of the agent: a new one starts anew")
    seq: int | None = Field(None, ge=0)
    rungs: Rungs | None = Field(None, description="where the device stood, as it reported")
    cascades: tuple[CascadeStats, ...] | None = Field(
        None, description="what they did, as it reported"
    )


@dataclass(frozen=True, slots=True)
class Trace:
    """The samples of one device, in order; at least one.

    Attributes:
        lines: as they stand.
        at_s: of each line, seconds since the first one. Rises, whatever the device's clock does
            when it starts again.
        begins: of each line, whether the agent had started anew before it.
        interval_s: between two samples, median; 1 where there is one alone.
    """

    lines: tuple[TraceLine, ...]
    at_s: tuple[float, ...]
    begins: tuple[bool, ...]
    interval_s: float

    @property
    def device(self) -> str | None:
        """Whose samples they are; None: the trace does not say."""
        return next((line.device for line in self.lines if line.device is not None), None)

    @property
    def memory_total_mib(self) -> float | None:
        """The machine's memory; None: no sample says."""
        totals = (line.memory_total_mib for line in self.lines)
        return next((total for total in totals if total is not None), None)


def parse_trace(lines: Iterable[bytes], where: str) -> Trace:
    """Read a trace.

    Args:
        lines: of its file; blank ones are passed over.
        where: what the trace is called in errors.

    Raises:
        MessageError: "cannot read trace X: line N: why".
    """
    found: list[TraceLine] = []
    for number, words in enumerate(lines, start=1):
        if not words.strip():
            continue
        try:
            line = TraceLine.model_validate_json(words)
            if found:
                _check_follows(found[-1], line)
        except ValidationError as error:
            raise MessageError(
                f"cannot read trace {where}: line {number}: {explain(error)}"
            ) from error
        except MessageError as error:
            raise MessageError(f"cannot read trace {where}: line {number}: {error}") from error
        found.append(line)
    if not found:
        raise MessageError(f"cannot read trace {where}: there is no sample in it")
    return trace_of(found)


def _check_follows(before: TraceLine, line: TraceLine) -> None:
    if before.device != line.device:
        raise MessageError(f"it is of device {line.device}, the line before of {before.device}")
    if before.boot_id == line.boot_id and line.time_s <= before.time_s:
        raise MessageError(
            f"time_s {line.time_s:g} is not after {before.time_s:g}, that of the line before"
        )


def trace_of(lines: Iterable[TraceLine]) -> Trace:
    """Return the trace of these lines, at least one, whose times rise within each run."""
    found = tuple(lines)
    pairs = list(pairwise(found))
    begins = (False, *(one.boot_id != other.boot_id for one, other in pairs))
    steps_s = [
        other.time_s - one.time_s
        for (one, other), anew in zip(pairs, begins[1:], strict=True)
        if not anew
    ]
    interval_s = median(steps_s) if steps_s else 1.0
    at_s = [0.0]
    for (one, other), anew in zip(pairs, begins[1:], strict=True):
        passed_s = _between_s(one, other, interval_s) if anew else other.time_s - one.time_s
        at_s.append(at_s[-1] + passed_s)
    return Trace(found, tuple(at_s), begins, interval_s)


def _between_s(last: TraceLine, first: TraceLine, interval_s: float) -> float:
    """Return the time between two runs: by the wall clock where both know it and it went on."""
    if last.ts is None or first.ts is None:
        return interval_s
    return max(first.ts - last.ts, interval_s)


def encode_line(line: TraceLine) -> bytes:
    """Return a line of a trace's file, its end included; what is not known is left out."""
    return line.model_dump_json(exclude_none=True).encode() + b"\n"
