"""What was tried and failed, and for how long that stands. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from protocols.device import CascadePhase

TRY_AGAIN_S = 60.0
"""What was rejected is tried again by a new generation, but not more often than this."""

PASSES_AFTER_S = 300.0
"""What may be the machine's or the broker's fault of a moment is tried again by itself after so
long."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A reason not to run something, found while trying."""

    phase: CascadePhase
    message: str


@dataclass(frozen=True, slots=True)
class _Standing:
    verdict: Verdict
    until_s: float
    """A new generation is no reason to try again before."""
    passes_s: float
    """By itself it stands no longer than this."""


class Verdicts:
    """By identity of a cascade, or by the digest of an artifact. Times: monotonic, in seconds."""

    def __init__(self) -> None:
        self._standing: dict[str, _Standing] = {}

    @property
    def now(self) -> Mapping[str, Verdict]:
        """The verdicts that stand."""
        return {key: standing.verdict for key, standing in self._standing.items()}

    def reject(self, key: str, message: str, now_s: float, *, proven: bool) -> None:
        """A runner could not serve a cascade; `proven`: on this device it has served before."""
        passes_s = now_s + PASSES_AFTER_S if proven else float("inf")
        verdict = Verdict("rejected", message)
        self._standing[key] = _Standing(verdict, now_s + TRY_AGAIN_S, passes_s)

    def miss(self, key: str, verdict: Verdict, now_s: float) -> None:
        """An artifact could not be had: its bytes are wrong (rejected), or the disk (refused).

        The right bytes may be put out again, and a disk may have room again: nobody tells.
        """
        self._standing[key] = _Standing(verdict, now_s, now_s + PASSES_AFTER_S)

    def renew(self, now_s: float) -> None:
        """Another desired document is in force: what failed may be tried again."""
        self._standing = {k: s for k, s in self._standing.items() if s.until_s > now_s}

    def expire(self, now_s: float) -> None:
        """Forget what has stood long enough."""
        self._standing = {k: s for k, s in self._standing.items() if s.passes_s > now_s}
