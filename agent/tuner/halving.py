"""Successive halving: measure all a little, keep the better half, measure that more. Pure.

Jamieson and Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter Optimization",
2016 (arXiv:1502.07943). Two questions are asked at once, who answers soonest and who answers most,
so the better half of each is kept.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from protocols.profile import LayoutRun

_FINALISTS = 4
"""So few are measured to the end."""

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Effort:
    """How long one measurement lasts: until both are reached."""

    count: int
    seconds: float


FINAL = Effort(50, 1.0)
"""What `benchmark_model` does by default: at least 50 runs and 1 s."""


def efforts(contenders: int) -> tuple[Effort, ...]:
    """Return the effort of every round; the last is `FINAL`, each before it half of the next.

    Args:
        contenders: how many begin.
    """
    rounds = 1
    while contenders > _FINALISTS:
        contenders = -(-contenders // 2)
        rounds += 1
    return tuple(
        Effort(max(3, FINAL.count >> back), FINAL.seconds / (1 << back))
        for back in reversed(range(rounds))
    )


def survivors(found: Mapping[Key, LayoutRun], keep: int) -> tuple[Key, ...]:
    """Return the best for latency and the best for throughput, in turns, until `keep` are named.

    Args:
        found: what was measured of each.
        keep: how many stay; fewer than that stay all.
    """
    by_latency = sorted(found, key=lambda key: (found[key].p50_ms, found[key].cpu_ms))
    by_throughput = sorted(found, key=lambda key: (-found[key].answers_per_s, found[key].cpu_ms))
    turns = [key for pair in zip(by_latency, by_throughput, strict=True) for key in pair]
    return tuple(dict.fromkeys(turns))[:keep]


def run(
    contenders: Sequence[Key], measure: Callable[[Key, Effort], LayoutRun | None]
) -> dict[Key, LayoutRun]:
    """Carry all rounds out; return the finalists' measurements.

    Args:
        contenders: whom to try.
        measure: measures one; None: it cannot run that way, and is out.
    """
    left, found = list(contenders), dict[Key, LayoutRun]()
    for effort in efforts(len(left)):
        found = {key: outcome for key in left if (outcome := measure(key, effort)) is not None}
        left = list(survivors(found, max(_FINALISTS, -(-len(left) // 2))))
    return found
