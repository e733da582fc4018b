"""Which bundles devices wait for in vain. Pure.

A chunk that the broker has lost is silence, and one that it has wrong is rejected.
"""

from controller.fleet import Fleet
from protocols.bundle import BundleRef
from protocols.device import WRONG_BYTES, ReportedCascade

STALLED_S = 15.0
"""A device that fetches says how far it is about twice a second."""

REJECTED_S = 60.0
"""So long is a bundle with wrong bytes put out again, which is once: a device tries it again some
minutes after it has rejected it, and if it has to reject it again, it says so anew."""


def stalled_bundles(fleet: Fleet, now_s: float) -> tuple[BundleRef, ...]:
    """Return the bundles of which a device that is connected has fetched nothing for long.

    Among them are those that it has rejected for wrong bytes. One that says what it waits for (a
    charger, another day) does not miss anything.

    Args:
        fleet: what is known.
        now_s: Unix time in seconds.
    """
    found = {
        cascade.bundle.artifact.sha256: cascade.bundle
        for device in fleet.devices.values()
        if device.online and device.reported is not None
        for cascade in device.reported.cascades
        if _is_stalled(cascade, now_s - device.reported_s)
    }
    return tuple(found.values())


def _is_stalled(cascade: ReportedCascade, age_s: float) -> bool:
    if cascade.phase == "fetching":
        return age_s >= STALLED_S and not cascade.message
    is_wrong = cascade.phase == "rejected" and cascade.message.startswith(WRONG_BYTES)
    return is_wrong and STALLED_S <= age_s < STALLED_S + REJECTED_S
