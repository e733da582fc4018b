"""What the gates say of one device that runs the new bundle. Pure.

Every gate compares counts or times that the device reports with a limit that a person has signed.
Counts are judged so that chance alone hardly ever stops a rollout; figures from few answers say
nothing yet.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from protocols.bundle import Bundle
from protocols.desired import DesiredCascade
from protocols.device import CascadeStats, Sample
from protocols.rollout import Baseline, Finding, GateName, Gates

MISTAKE = 0.001
"""How seldom a count may be called too high where its limit is kept."""

MIN_ANSWERS = 50
"""A p95 of fewer answers rests on two of them, or less."""

NOISE_MS = 1.0
"""A p95 that has risen by less says nothing: so much a scheduler takes."""

SLOW_S, SLOW_SHARE = 60.0, 0.2
"""A p95 is over the last answers alone: it must stay above its limit for so long, or for this share
of a shorter soak."""

MIN_DROP = 2.0
"""Percentage points that a battery must have lost: most report whole ones."""

_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Sight:
    """What is known of one device with the new bundle.

    Attributes:
        device: its name.
        stats: of the new bundle, since its runner started.
        sample: the last one.
        before: how it was.
        soaked_s: since its wave began to soak; 0: it has not.
        expected: escalations per answer that the certificate lets expect; None: it says nothing.
        slow_for_s: from when its p95 was first over the limit until it was last heard, without a
            break.
        soak_s: how long waves soak.
    """

    device: str
    stats: CascadeStats
    sample: Sample
    before: Baseline | None = None
    soaked_s: float = 0.0
    expected: float | None = None
    slow_for_s: float = 0.0
    soak_s: float = 0.0

    @property
    def usual(self) -> float | None:
        """Escalations per answer that need no explanation: by the certificate, or as before.

        Who asks what the calibration has not seen gets more of them from any bundle.
        """
        before = self.before.escalated if self.before is not None else None
        return None if self.expected is None else max(self.expected, before or 0.0)


def judge(gates: Gates, sight: Sight) -> Iterator[Finding]:
    """Yield what is wrong with a device, in the order of the gates."""
    for gate, message in (
        ("failed", _failed(gates, sight.stats)),
        ("degraded", _degraded(gates, sight)),
        ("deaths", _deaths(gates, sight)),
        ("p95", _p95(gates, sight) if _lasts(sight) else None),
        ("escalated", _escalated(gates, sight)),
        ("battery", _battery(gates, sight)),
    ):
        if message:
            yield found(gate, sight.device, message)  # type: ignore[arg-type] # literals above


def is_slow(gates: Gates, sight: Sight) -> bool:
    """Whether a device's p95 is over its limit at this moment."""
    return _p95(gates, sight) is not None


def found(gate: GateName, device: str | None, message: str) -> Finding:
    """Return a finding whose message fits."""
    return Finding(gate=gate, device=device, message=message[:512])


def baseline(stats: CascadeStats | None, version: int) -> Baseline:
    """Return what is to be remembered of a device before it gets a version of its cascade.

    Deaths are counted for each version, so those of another one do not matter.
    """
    if stats is None:
        return Baseline()
    total = requests(stats)
    return Baseline(
        p95_ms=stats.p95_ms if stats.answers >= MIN_ANSWERS else None,
        degraded=(stats.degraded + stats.refused) / total if total >= MIN_ANSWERS else None,
        escalated=stats.escalated / stats.answers if stats.answers >= MIN_ANSWERS else None,
        deaths=stats.deaths if stats.version == version else 0,
    )


def requests(stats: CascadeStats) -> int:
    """Return how many requests a cascade had: answered, failed or turned down."""
    return stats.answers + stats.failed + stats.refused


def exceeds(count: int, n: int, limit: float) -> bool:
    """Whether `count` of `n` are too many for a limit on their share to be kept.

    Chernoff's bound: P(Bin(n, p) >= k) <= exp(-n KL(k/n || p)) for k/n > p (Hoeffding, 1963,
    theorem 1). It holds for every n, and errs on the side of letting a rollout go on.
    """
    if n <= 0 or limit >= 1:
        return False
    share = min(1.0, count / n)
    if share <= limit:
        return False
    if limit <= 0:
        return True
    divergence = share * math.log(share / limit)
    if share < 1:
        divergence += (1 - share) * math.log((1 - share) / (1 - limit))
    return n * divergence >= -math.log(MISTAKE)


def expected_escalations(bundle: Bundle, cascade: DesiredCascade, step: int) -> float | None:
    """Return how many escalations an answer takes by the certificate; None: there is none.

    Args:
        bundle: with its certificates.
        cascade: the variants on the device.
        step: of the ladder of thresholds at C0.
    """
    certificate = bundle.certificate(cascade.variants)
    if certificate is None or not certificate.gates:
        return None
    # Each gate's `escalated` is of all the samples; the runner counts at every gate, too.
    return sum(gate[min(step, len(gate) - 1)].escalated for gate in certificate.gates.values())


def _failed(gates: Gates, stats: CascadeStats) -> str | None:
    total = requests(stats)
    if gates.failed is None or not exceeds(stats.failed, total, gates.failed):
        return None
    return (
        f"{stats.failed} of {total} requests failed ({_percent(stats.failed / total)}), "
        f"at most {_percent(gates.failed)} may"
    )


def _degraded(gates: Gates, sight: Sight) -> str | None:
    before = sight.before.degraded if sight.before is not None else None
    if gates.degraded is None or before is None:
        return None
    stats, total = sight.stats, requests(sight.stats)
    worse = stats.degraded + stats.refused
    if not exceeds(worse, total, before + gates.degraded):
        return None
    return (
        f"{_percent(worse / total)} of {total} requests degraded or turned down, "
        f"{_percent(before)} before; {_percent(gates.degraded)} more at most"
    )


def _deaths(gates: Gates, sight: Sight) -> str | None:
    if gates.deaths is None:
        return None
    deaths = sight.stats.deaths - (sight.before.deaths if sight.before is not None else 0)
    if deaths <= gates.deaths:
        return None
    times = "once" if deaths == 1 else f"{deaths} times"
    return f"its runner died {times} of it, at most {gates.deaths:g} are allowed"


def _p95(gates: Gates, sight: Sight) -> str | None:
    before = sight.before.p95_ms if sight.before is not None else None
    now = sight.stats.p95_ms
    if gates.p95 is None or not before or now is None or sight.stats.answers < MIN_ANSWERS:
        return None
    if now <= before * gates.p95 or now - before < NOISE_MS:
        return None
    return (
        f"p95 {now:.3g} ms, {before:.3g} ms before: {now / before:.2g} times, at most {gates.p95:g}"
    )


def _lasts(sight: Sight) -> bool:
    return sight.slow_for_s >= min(SLOW_S, SLOW_SHARE * sight.soak_s)


def _escalated(gates: Gates, sight: Sight) -> str | None:
    stats, usual = sight.stats, sight.usual
    if gates.escalated is None or usual is None or not stats.answers:
        return None
    if not exceeds(stats.escalated, stats.answers, usual + gates.escalated):
        return None
    whose = "by the certificate" if usual == sight.expected else "before"
    return (
        f"{_percent(stats.escalated / stats.answers)} of {stats.answers} answers escalated, "
        f"{_percent(usual)} {whose}; {_percent(gates.escalated)} more at most"
    )


def _battery(gates: Gates, sight: Sight) -> str | None:
    before = sight.before.battery_percent if sight.before is not None else None
    now = sight.sample.battery_percent
    if gates.battery is None or before is None or now is None or sight.soaked_s <= 0:
        return None
    drop = before - now
    slope = drop * _HOUR_S / sight.soaked_s
    if sight.sample.battery_plugged is not False or drop < MIN_DROP or slope <= gates.battery:
        return None
    return f"battery falls by {slope:.0f} points an hour, at most {gates.battery:g} are allowed"


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"
