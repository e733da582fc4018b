"""After a death: who was at work, who is condemned, what the ledger then says. Pure."""

from dataclasses import dataclass

from agent.reporting import wording
from agent.processes.crashes import WITHIN_S, Death, judge
from agent.storage.ledger import Ledger
from agent.processes.runners import Died
from agent.cascades.choice import identity
from protocols.desired import DesiredCascade


@dataclass(frozen=True, slots=True)
class Finding:
    """What is to be remembered and said."""

    ledger: Ledger
    message: str
    condemned: tuple[DesiredCascade, ...]


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
        cascade.bundle.artifact.sha256: wording.condemned(cascade, death, WITHIN_S / 60)
        for cascade in condemned
    }
    return Finding(
        ledger.with_(strikes=verdict.strikes, quarantined={**ledger.quarantined, **why}),
        wording.runner_hung(died.ready)
        if died.late
        else wording.runner_died(death, tuple(c.bundle.name for c in suspects)),
        condemned,
    )


def unproven(ledger: Ledger, cascades: tuple[DesiredCascade, ...]) -> tuple[DesiredCascade, ...]:
    """Return the cascades that have not served on this device as they are now."""
    proven = {identity(good) for kept in ledger.good.values() for good in kept}
    return tuple(cascade for cascade in cascades if identity(cascade) not in proven)
