"""Which bundles devices wait for in vain: a chunk that the broker has lost is silence. Pure."""

from controller.fleet import Fleet
from protocols.bundle import BundleRef

STALLED_S = 15.0
"""A device that fetches says how far it is about twice a second."""


def stalled_bundles(fleet: Fleet, now_s: float) -> tuple[BundleRef, ...]:
    """Return the bundles of which a device that is connected has fetched nothing for long.

    One that says what it waits for (a charger, another day) does not miss anything.

    Args:
        fleet: what is known.
        now_s: Unix time in seconds.
    """
    found = {
        cascade.bundle.artifact.sha256: cascade.bundle
        for device in fleet.devices.values()
        if device.online and device.reported is not None and now_s - device.reported_s >= STALLED_S
        for cascade in device.reported.cascades
        if cascade.phase == "fetching" and not cascade.message
    }
    return tuple(found.values())
