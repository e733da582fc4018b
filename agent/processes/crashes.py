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

from agent.processes.runners import Died
from agent.reporting import wording
from agent.storage.ledger import Ledger, Strike
from protocols.bundle import BundleRef
from protocols.desired import DesiredCascade
from protocols.device import CascadeStats

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
class Judgement:
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


def judge(strikes: Strikes, death: Death) -> Judgement:
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
    return Judgement({k: v for k, v in standing.items() if k not in condemned}, condemned)


@dataclass(frozen=True, slots=True)
class Finding:
    """What is to be remembered and said."""

    ledger: Ledger
    message: str
    condemned: tuple[DesiredCascade, ...]
    blamed: tuple[DesiredCascade, ...]
    """Who got a strike for it."""


def inquire(ledger: Ledger, died: Died, *, oom: bool, now_ts: float) -> Finding:
    """Say what a runner's death means.

    Before it was ready, cascades that have never served here are suspects where the runner itself
    left no trace of who was at work.

    Args:
        ledger: what was known before.
        died: the runner's end.
        oom: whether the kernel has killed for want of memory meanwhile.
        now_ts: Unix time in seconds.
    """
    suspects = died.suspects
    if not suspects and not died.ready:
        suspects = unproven(ledger, died.cascades)
    by_digest = {c.bundle.artifact.sha256: c for c in suspects}
    death = Death(died.code, died.ready, tuple(by_digest), oom, now_ts)
    verdict = judge(ledger.strikes, death)
    condemned = tuple(by_digest[sha] for sha in verdict.condemned)
    why = {
        cascade.bundle.artifact.sha256: wording.condemned(cascade, death.how, WITHIN_S / 60)
        for cascade in condemned
    }
    return Finding(
        ledger.with_(strikes=verdict.strikes, quarantined={**ledger.quarantined, **why}),
        wording.runner_hung(ready=died.ready)
        if died.late
        else wording.runner_died(
            death.how, tuple(c.bundle.name for c in suspects), ready=died.ready
        ),
        condemned,
        suspects if weigh(death) else (),
    )


def with_deaths(
    counted: tuple[CascadeStats, ...], deaths: Mapping[BundleRef, int]
) -> tuple[CascadeStats, ...]:
    """Return statistics with how often a runner died of each version, which it cannot count."""
    known = {(ref.name, ref.version): count for ref, count in deaths.items()}
    return tuple(
        one.model_copy(update={"deaths": known.get((one.name, one.version), 0)}) for one in counted
    )


def unproven(ledger: Ledger, cascades: tuple[DesiredCascade, ...]) -> tuple[DesiredCascade, ...]:
    """Return the cascades that have not served on this device as they are now."""
    proven = {good.identity for kept in ledger.good.values() for good in kept}
    return tuple(cascade for cascade in cascades if cascade.identity not in proven)
