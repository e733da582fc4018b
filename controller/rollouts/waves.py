"""Whose turn it is: every device's place in a rollout, and how many each wave reaches. Pure.

A device's place is a hash of its name and the deployment's, so nobody has to store who has the
bundle: one number says it, and a device that joins later has its place already. A deployment's
places differ from those of the one before, so that it is not always the same devices that go first.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping

from controller.fleet import Device
from protocols.desired import Deployment
from protocols.rollout import Rollout, RolloutPhase, Strategy, Wave

ENDED: frozenset[RolloutPhase] = frozenset({"stopped", "completed"})

ALL = Wave(percent=100)
BATCHES_PER_MINUTE = 12
"""A rate is kept in batches: a signed document for every single device would be too many."""

_BITS = 53
"""Of a float's mantissa."""


def place(deployment: Deployment, device: Device) -> float:
    """Return a device's place in a deployment's rollout, in (0, 1]; canaries have the lower half.

    Canaries are ordinary members of one order, and not a set beside it, so that rate, pause and
    promotion hold for them as they do for all others.
    """
    digest = hashlib.blake2b(f"{deployment.id}/{device.name}".encode(), digest_size=8).digest()
    found = ((int.from_bytes(digest) >> (64 - _BITS)) + 1) / (1 << _BITS)
    if deployment.strategy is None or deployment.strategy.canary is None:
        return found
    return found / 2 if is_canary(deployment.strategy, device) else 0.5 + found / 2


def is_canary(strategy: Strategy, device: Device) -> bool:
    """Whether a device has the canaries' labels."""
    return strategy.canary is not None and device.matches(strategy.canary)


def admits(deployment: Deployment, device: Device, rollouts: Mapping[str, Rollout]) -> bool:
    """Whether a deployment has reached a device, of those that it is for: only then does it rule.

    Args:
        deployment: without a strategy it reaches all of them at once.
        device: one that it is for.
        rollouts: by deployment.
    """
    if deployment.strategy is None:
        return True
    found = rollouts.get(deployment.id)
    if found is None or found.phase == "stopped":
        return False
    return place(deployment, device) <= found.admitted


def touched(
    deployment: Deployment,
    before: Rollout | None,
    after: Rollout | None,
    devices: Iterable[Device],
) -> list[str]:
    """Return the devices on which a deployment may rule now and did not before, or the reverse.

    Args:
        deployment: with a strategy.
        before: the state of its rollout as it was; None: nobody had said.
        after: as it is.
        devices: all of the fleet.
    """
    if before is None or after is None:
        return [device.name for device in devices]
    low, high = sorted((before.admitted, after.admitted))
    if (before.phase == "stopped") is not (after.phase == "stopped"):
        low, high = 0.0, max(low, high)
    if low == high:
        return []
    return [device.name for device in devices if low < place(deployment, device) <= high]


def is_over(deployment: Deployment, rollouts: Mapping[str, Rollout]) -> bool:
    """Whether a deployment rules nowhere any more: aborted, or its rollout has stopped."""
    found = rollouts.get(deployment.id) if deployment.strategy is not None else None
    return deployment.aborted or (found is not None and found.phase == "stopped")


def is_under_way(deployment: Deployment, rollouts: Mapping[str, Rollout]) -> bool:
    """Whether a deployment's rollout has not ended yet."""
    if deployment.strategy is None or deployment.aborted:
        return False
    found = rollouts.get(deployment.id)
    return found is None or found.phase not in ENDED


def is_held(rollout: Rollout | None) -> bool:
    """Whether a rollout waits for a person's word, since its state may have been lost."""
    return rollout is not None and rollout.phase == "paused" and bool(rollout.findings)


def has_bundle(device: Device, deployment: Deployment) -> bool:
    """Whether a device is told to run a deployment's bundle, or says that it does."""
    told = device.desired.cascades if device.desired is not None else ()
    said = device.reported.cascades if device.reported is not None else ()
    return any(c.bundle == deployment.bundle for c in told) or any(
        c.running == deployment.bundle for c in said
    )


def wave_names(strategy: Strategy) -> tuple[str, ...]:
    """Return what the waves are called: `canary`, `5%`, `10 devices`, `all`."""
    canary = () if strategy.canary is None else ("canary",)
    return (*canary, *map(wave_name, _waves(strategy)))


def wave_name(wave: Wave) -> str:
    """Return what a wave is called."""
    if wave == ALL:
        return "all"
    if wave.percent is not None:
        return f"{wave.percent:g}%"
    return "1 device" if wave.count == 1 else f"{wave.count} devices"


def goal(strategy: Strategy, wave: int, devices: int, canaries: int) -> int:
    """Return how many devices have the bundle when a wave is over, earlier waves included.

    Args:
        strategy: of the deployment.
        wave: its number, from 0.
        devices: that the rollout is for.
        canaries: how many of them are canaries.
    """
    sizes = [_size(one, devices) for one in _waves(strategy)]
    if strategy.canary is not None:
        sizes.insert(0, canaries)
    return min(devices, max(sizes[: wave + 1]))


def batch(strategy: Strategy) -> tuple[int, float]:
    """Return how many devices may be reached at a time, and the seconds until the next time.

    In no stretch of 60 s are there more than `per_minute`: of batches that lie 60 s / k apart a
    half-open minute holds k at most, and k batches are not more than the rate.
    """
    if strategy.per_minute is None:
        return 1 << 30, 0.0
    size = math.ceil(strategy.per_minute / BATCHES_PER_MINUTE)
    return size, 60.0 / (strategy.per_minute // size)


def _waves(strategy: Strategy) -> tuple[Wave, ...]:
    """Return the waves after the canaries, the last one of all devices."""
    return strategy.waves if ALL in strategy.waves[-1:] else (*strategy.waves, ALL)


def _size(wave: Wave, devices: int) -> int:
    if wave.percent is None:
        return wave.count or 0
    return math.ceil(devices * wave.percent / 100 - 1e-9)
