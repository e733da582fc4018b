"""One writer a device: who of the controllers that are alive writes its desired document. Pure.

Rendezvous hashing (Thaler and Ravishankar, 1998): each controller's score for a device is a hash of
both names and the highest wins. When a controller comes or goes, only its own devices change hands.
"""

import hashlib
from collections.abc import Iterable

from protocols.desired import ControllerStatus


def electorate(controllers: Iterable[ControllerStatus]) -> tuple[str, ...]:
    """Return who may write: the `serve` controllers that are alive, with none the `deploy` ones."""
    alive = [c for c in controllers if c.online]
    serving = [c.controller for c in alive if c.mode == "serve"]
    return tuple(sorted(serving or [c.controller for c in alive]))


def owner(electorate: Iterable[str], device: str) -> str | None:
    """Return who of these writes a device's desired document; None: there is nobody."""
    return max(electorate, key=lambda name: (_score(name, device), name), default=None)


def _score(controller: str, device: str) -> bytes:
    return hashlib.blake2b(f"{controller}/{device}".encode(), digest_size=8).digest()
