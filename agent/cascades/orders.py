"""What is to be fetched for the cascades, and what of it must wait. Pure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from agent.cascades.choice import Choice
from agent.storage.allowance import Order, obstacle
from protocols.bundle import ArtifactRef
from protocols.device import Sample
from protocols.schedule import Downloads


@dataclass(frozen=True, slots=True)
class Orders:
    """What to fetch now, and what not."""

    now: tuple[Order, ...] = ()
    held: frozenset[str] = frozenset()
    """Digests of what must wait."""
    reason: str = ""
    """What it waits for; empty: nothing does."""


def orders_of(
    choices: Iterable[Choice],
    fetched_bytes: Callable[[ArtifactRef], int],
    downloads: Downloads,
    sample: Sample,
) -> Orders:
    """Return what is missing for some cascades, each artifact once.

    Args:
        choices: how far the cascades are.
        fetched_bytes: how much of an artifact is here.
        downloads: what the device may fetch.
        sample: the device now.
    """
    found: dict[str, Order] = {}
    for choice in choices:
        wanted = choice.wanted
        for ref in choice.missing:
            manifest = wanted.bundle.artifact
            order = Order(ref, wanted.sources, small=ref == manifest, bundle=manifest.sha256)
            found.setdefault(ref.sha256, order)
    left_bytes = sum(one.ref.size_bytes - fetched_bytes(one.ref) for one in found.values())
    reason = obstacle(left_bytes, downloads, sample)
    now = tuple(one for one in found.values() if one.small or not reason)
    held = found.keys() - {one.ref.sha256 for one in now}
    return Orders(now, frozenset(held), reason if held else "")


def explained(choice: Choice, waiting: Callable[[str], str]) -> Choice:
    """Return a choice that says what it waits for, where one of its artifacts does.

    Args:
        choice: what was chosen.
        waiting: what an artifact waits for, by its digest; empty: nothing.
    """
    if choice.message:
        return choice
    reason = next((words for ref in choice.missing if (words := waiting(ref.sha256))), "")
    return replace(choice, message=reason)
