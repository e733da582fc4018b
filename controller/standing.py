"""How a device stands in its fleet: is it one that may be planned for? Pure.

A fleet without a roster is open: every device that the broker lets in is planned for. Once the
first device was added, only those on the roster are.
"""

from typing import Literal

from protocols.desired import Desired
from protocols.device import Inventory
from protocols.enrolment import Enrolment
from protocols.roster import RosterEntry

Standing = Literal["open", "accepted", "added", "pending", "stranger", "revoked"]
"""`open`: there is no roster. `added`: on it, and not seen yet. `pending`: seen, and not on it.
`stranger`: of a name on it, but not the device that the name was given to."""

PLANNED: frozenset[Standing] = frozenset({"open", "accepted"})


def standing_of(
    entry: RosterEntry | None,
    inventory: Inventory | None,
    desired: Desired | None,
    *,
    closed: bool,
) -> Standing:
    """Return how a device stands.

    Args:
        entry: of the device, None where it has none.
        inventory: what it says of itself.
        desired: what it was told.
        closed: whether the fleet has a roster.
    """
    if entry is None:
        return "pending" if closed else "open"
    if entry.state == "revoked":
        return "revoked"
    if inventory is None:
        return "added"
    return "stranger" if why_stranger(entry, inventory, desired) is not None else "accepted"


def why_stranger(entry: RosterEntry, inventory: Inventory, desired: Desired | None) -> str | None:
    """Return why a device is not the one that the roster means by its name; None: it is."""
    said, name = inventory.enrolment, entry.device
    if entry.enrolment is None:
        return None
    if said is None:
        return f"{name} has not come by its enrolment file"
    if said.file not in {entry.enrolment, entry.replaces}:
        return f"{name} has come by another enrolment file than its latest one"
    bound = _bound(entry, desired, said)
    if bound is not None and said.machine != bound:
        return f"another machine than the first one uses the enrolment file of {name}"
    return None


def enrolment_to_bind(entry: RosterEntry | None, inventory: Inventory | None) -> Enrolment | None:
    """Return the machine that a device's desired document is for; None: any of its name."""
    if entry is None or entry.enrolment is None or inventory is None:
        return None
    return inventory.enrolment


def _bound(entry: RosterEntry, desired: Desired | None, said: Enrolment) -> str | None:
    """Return the machine that a file belongs to: as a person has accepted it, else the first.

    Which one was the first stands in the desired document, which is written as soon as it is seen.
    """
    if entry.machine is not None and said.file == entry.enrolment:
        return entry.machine
    told = desired.enrolment if desired is not None else None
    return told.machine if told is not None and told.file == said.file else None
