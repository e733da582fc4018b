"""How often `ctl cascade search` promises too much, although it chooses among many cascades.

Four models of a made-up world of 30,000 samples, whose losses in all of it are known. Every trial
draws 1,500 of them; a third chooses a cascade for every eps, the rest certify it. What is counted
is harm, which is never less than the loss.
"""

import math

import numpy as np

from controller.search import METRICS, Found, Member, on, search

WORLD, DRAWN, CHOOSE, TRIALS = 30_000, 1500, 500, 100
MAY_BREAK = 0.1
"""All rows hold with 95%, the bounds of single models with 95%."""


def main() -> None:
    """Print in how many trials any row did more harm than its eps."""
    world = [
        member("large", 100.0, 0.97, 1),
        member("small", 1.0, 0.8, 2),
        member("medium", 12.0, 0.92, 3),
        member("useless", 50.0, 0.3, 4),
    ]
    broken = rows = weighed = 0
    for trial in range(TRIALS):
        drawn = np.random.default_rng(trial).integers(0, WORLD, DRAWN)
        choose, prove = ([on(one, part) for one in world] for part in np.split(drawn, [CHOOSE]))
        found = search(choose, prove, most_stages=3)
        cascades = [(row.eps, row.cascade) for row in found.rows if row.cascade is not None]
        broken += any(harm(world, cascade) > eps for eps, cascade in cascades)
        rows, weighed = rows + len(cascades), weighed + found.weighed
    allowed = MAY_BREAK + 3 * math.sqrt(MAY_BREAK * (1 - MAY_BREAK) / TRIALS)
    print(f"{TRIALS} searches, {weighed / TRIALS:.0f} choices weighed in each, {rows} rows")
    print(f"  a row did more harm than its eps in {broken / TRIALS:.1%} of them, {allowed:.1%} may")


def member(name: str, cost: float, skill: float, seed: int) -> Member:
    """Return a model that is right where a sample is easier than its skill, but for some noise."""
    hard = np.random.default_rng(99).random(WORLD)
    right = hard + np.random.default_rng(seed).normal(0, 0.03, WORLD) < skill
    sure = np.clip(1 - 0.5 * hard / skill - 0.3 * (~right), 0, 1)
    sure += np.random.default_rng(seed + 100).normal(0, 0.1, WORLD)
    return Member(
        name, cost, right, {m: np.clip(sure, 0, 1) ** k for k, m in enumerate(METRICS, 1)}
    )


def harm(world: list[Member], cascade: Found) -> float:
    """Return the share of the world that a cascade has wrong and the best model right."""
    by_name = {one.name: one for one in world}
    right = by_name[cascade.stages[-1]].right
    early = list(zip(cascade.stages[:-1], cascade.metrics, strict=True))
    for stage, metric in reversed(early):
        threshold = cascade.calibration.gates[stage][cascade.step].threshold
        leaves = by_name[stage].confidence[metric] >= threshold
        right = np.where(leaves, by_name[stage].right, right)
    best = max(world, key=lambda one: float(one.right.mean()))
    return float((best.right & ~right).mean())


if __name__ == "__main__":
    main()
