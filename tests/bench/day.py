"""A simulated day of four devices under five policies: what each answers, and what it costs.

    python -m tests.bench day

A simulation, not a measurement: `tests/plant/pictures.py` says which of its figures have a source.
Each policy gets the same requests and the same use of the device by others.
"""

import math
from collections.abc import Callable, Mapping

from controller.planner import PlannerPolicy
from tests.plant.loop import live
from tests.plant.pictures import PICTURES, Picture
from tests.plant.policies import (
    Ours,
    Policy,
    all_loaded,
    least_recently_used,
    small_only,
)
from tests.plant.scenes import HOUR_S, day
from tests.plant.serving import Tally

SEEDS = (1, 2, 3)
"""The table is of the first; of the others only the front is shown."""

NEVER = PlannerPolicy(revise_after_s=math.inf)


def reflex_alone(picture: Picture) -> Ours:
    """Return ours with a planner that never revises."""
    return Ours(picture, NEVER)


POLICIES: Mapping[str, Callable[[Picture], Policy]] = {
    "ours": Ours,
    "no planner": reflex_alone,
    "all loaded": all_loaded,
    "small only": small_only,
    "lru by size": least_recently_used,
}
COLUMNS = (
    "policy     answers degraded refused  lost  right   p95  MiB-h CPU-h kills  loads denied   Wh"
)

Point = tuple[float, float, float]
"""Answers served well (more is better), MiB-hours and CPU-hours (less is)."""


def main() -> None:
    """Print a table for each device, and who stands on the front."""
    for seed in SEEDS:
        for picture in PICTURES:
            scene = day(picture, seed)
            tallies = {name: live(picture, scene, make(picture)) for name, make in POLICIES.items()}
            if seed == SEEDS[0]:
                _print_table(picture, tallies)
            _print_front(picture, seed, {name: point(one) for name, one in tallies.items()})


def point(tally: Tally) -> Point:
    """Return where a day stands on the three axes."""
    return tally.well, tally.mib_s / HOUR_S, tally.core_s / HOUR_S


def dominates(one: Point, other: Point) -> bool:
    """Whether one is nowhere worse than another, and somewhere better."""
    at_least = one[0] >= other[0] and one[1] <= other[1] and one[2] <= other[2]
    return at_least and one != other


def front(points: Mapping[str, Point]) -> list[str]:
    """Return those that no other dominates."""
    return [
        name
        for name, mine in points.items()
        if not any(dominates(other, mine) for other in points.values())
    ]


def _print_table(picture: Picture, tallies: Mapping[str, Tally]) -> None:
    memory = f"{picture.memory_mib:.0f} MiB"
    print(f"\n{picture.name}: {len(picture.cpus)} CPUs, {memory}; {_asked(tallies)} requests")
    print(COLUMNS)
    for name, tally in tallies.items():
        _well, mib_h, cpu_h = point(tally)
        print(
            f"{name:11}{tally.served:7} {tally.degraded / tally.asked:8.1%} "
            f"{tally.refused / tally.asked:7.1%} {tally.lost / tally.asked:5.1%} "
            f"{tally.accuracy:6.1%} {tally.quantile_ms(0.95):5.0f} {mib_h:6.0f} {cpu_h:5.2f} "
            f"{tally.kills:5} {tally.loads:6} {tally.denied_core_s / HOUR_S:6.2f} "
            f"{tally.used_wh:4.0f}"
        )


def _asked(tallies: Mapping[str, Tally]) -> int:
    (asked,) = {tally.asked for tally in tallies.values()}
    return asked


def _print_front(picture: Picture, seed: int, points: Mapping[str, Point]) -> None:
    there = front(points)
    verdict = "ours is on it" if "ours" in there else "OURS IS NOT ON IT"
    print(f"{picture.name}, day {seed}: on the front: {', '.join(there)} ({verdict})")


if __name__ == "__main__":
    main()
