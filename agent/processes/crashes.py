"""Who killed the runner? Pure: deaths in, quarantine out.

A crash signal (SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT) is a model's doing, and so is an exit
before the runner was ready; each gives one strike, shared among the cascades that were at work.
SIGKILL comes from outside: it counts only when the kernel's counter of OOM kills rose, and then
half. Two strikes within ten minutes condemn a bundle: two crashes of which it is the only suspect,
or four in which it was at work beside another one every time.
"""

import signal
from collections.abc import Mapping
from dataclasses import dataclass

from agent.storage.ledger import Strike

CRASHES = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT})
LIMIT = 2.0
WITHIN_S = 600.0
_OOM_WEIGHT = 0.5
_ROUNDING = 1e-6

Strikes = Mapping[str, tuple[Strike, ...]]


@dataclass(frozen=True, slots=True)
class Death:
    """How a runner ended. `suspects` are the digests of the bundles that were at work."""

    code: int
    ready: bool
    suspects: tuple[str, ...]
    oom: bool
    ts: float

    @property
    def how(self) -> str:
        """For a person: the signal's name, or the exit code."""
        if self.code >= 0:
            return f"exit code {self.code}"
        try:
            name = signal.Signals(-self.code).name
        except ValueError:
            name = f"signal {-self.code}"
        return f"{name} (out of memory)" if self.oom else name


@dataclass(frozen=True, slots=True)
class Verdict:
    """The strikes that now stand, and who is condemned by them."""

    strikes: dict[str, tuple[Strike, ...]]
    condemned: tuple[str, ...]


def weigh(death: Death) -> float:
    """Return how much a death counts, for all its suspects together."""
    if death.code < 0 and -death.code in CRASHES:
        return 1.0
    if death.code == -signal.SIGKILL:
        return _OOM_WEIGHT if death.oom else 0.0
    return 1.0 if death.code > 0 and not death.ready else 0.0


def judge(strikes: Strikes, death: Death) -> Verdict:
    """Add a death to the record and say whom it condemns."""
    standing = {
        sha: kept
        for sha, all_ in strikes.items()
        if (kept := tuple(s for s in all_ if abs(death.ts - s.ts) <= WITHIN_S))
    }
    weight = weigh(death)
    if weight and death.suspects:
        strike = Strike(ts=death.ts, weight=weight / len(death.suspects))
        for sha in death.suspects:
            standing[sha] = (*standing.get(sha, ()), strike)
    condemned = tuple(
        sha
        for sha in death.suspects
        if sum(s.weight for s in standing.get(sha, ())) >= LIMIT - _ROUNDING
    )
    return Verdict({k: v for k, v in standing.items() if k not in condemned}, condemned)
