"""Which bundles devices wait for in vain: a chunk that the broker has lost is silence. Pure."""

from controller.election import electorate, owner
from controller.fleet import Fleet
from protocols.bundle import BundleRef

STALLED_S = 15.0
"""A device that fetches says how far it is about twice a second."""


def stalled_bundles(fleet: Fleet, me: str, now_s: float) -> tuple[BundleRef, ...]:
    """Return the bundles that a device of ours, connected, has fetched nothing of for long.

    Args:
        fleet: what is known.
        me: this controller's name.
        now_s: Unix time in seconds.
    """
    voters = electorate(fleet.controllers.values())
    found = {
        cascade.bundle.artifact.sha256: cascade.bundle
        for name, device in fleet.devices.items()
        if device.online and device.reported is not None and now_s - device.reported_s >= STALLED_S
        for cascade in device.reported.cascades
        if cascade.phase == "fetching" and owner(voters, name) == me
    }
    return tuple(found.values())
