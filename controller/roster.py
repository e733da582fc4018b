"""Who belongs to the fleet: a person's next word on a device. Pure."""

from collections.abc import Iterable

from controller.errors import EnrolmentError
from controller.fleet import Device, Fleet
from protocols.roster import Credential, RosterEntry


def members(fleet: Fleet) -> list[Device]:
    """Return the devices that are planned for, by name."""
    return [device for _, device in sorted(fleet.devices.items()) if device.member]


def pending(fleet: Fleet) -> list[str]:
    """Return the devices that wait for a person's yes, by name."""
    return [n for n, d in sorted(fleet.devices.items()) if d.standing == "pending"]


def unfinished(fleet: Fleet) -> list[str]:
    """Return the devices whose credential is being exchanged, by name."""
    return sorted(name for name, entry in fleet.roster.items() if entry.replaces is not None)


def add(
    fleet: Fleet, name: str, digest: str, credential: Credential, *, by: str, now_s: float
) -> RosterEntry:
    """Return the entry of a device that is to come by an enrolment file.

    Raises:
        EnrolmentError: it is on the roster already.
    """
    entry = fleet.roster.get(name)
    if entry is not None and entry.state != "revoked":
        raise EnrolmentError(
            f"cannot add {name}: it is on the roster; `ctl device rotate {name}` makes it a new "
            "enrolment file"
        )
    return _next(
        fleet, name, state="added", enrolment=digest, credential=credential, by=by, ts=now_s
    )


def accept(fleet: Fleet, names: Iterable[str], *, by: str, now_s: float) -> list[RosterEntry]:
    """Return the entries of devices as they are now: their files and their machines.

    Raises:
        EnrolmentError: one is not known, or was revoked.
    """
    return [_accepted(fleet, name, by, now_s) for name in names]


def _accepted(fleet: Fleet, name: str, by: str, now_s: float) -> RosterEntry:
    device, entry = fleet.devices.get(name), fleet.roster.get(name)
    if device is None or device.inventory is None:
        raise EnrolmentError(
            f"cannot accept {name}: it has not been seen; `ctl device add {name}` lets it come"
        )
    if entry is not None and entry.state == "revoked":
        raise EnrolmentError(
            f"cannot accept {name}: it was revoked; `ctl device add {name}` gives it a new "
            "credential"
        )
    said = device.inventory.enrolment
    known = said is not None and entry is not None and said.file == entry.enrolment
    return _next(
        fleet,
        name,
        state="accepted",
        enrolment=said.file if said is not None else None,
        machine=said.machine if said is not None else None,
        credential=entry.credential if entry is not None else None,
        replaces=entry.replaces if entry is not None and known else None,
        by=by,
        ts=now_s,
    )


def revoke(fleet: Fleet, name: str, *, by: str, now_s: float) -> RosterEntry:
    """Return the entry of a device that is never to be planned for again.

    Raises:
        EnrolmentError: nothing is known of it.
    """
    entry = fleet.roster.get(name)
    if entry is None and name not in fleet.devices:
        raise EnrolmentError(f"cannot revoke {name}: no such device; {_known(fleet)}")
    return _next(
        fleet,
        name,
        state="revoked",
        enrolment=entry.enrolment if entry is not None else None,
        credential=entry.credential if entry is not None else None,
        by=by,
        ts=now_s,
    )


def rotate(
    fleet: Fleet, name: str, digest: str, credential: Credential, *, by: str, now_s: float
) -> RosterEntry:
    """Return the entry of a device that gets a new file; the one it has is good until then.

    Raises:
        EnrolmentError: it is not on the roster, or its last rotation is not finished.
    """
    entry = _entry(fleet, name, "rotate")
    if entry.replaces is not None and seen(fleet.devices.get(name)) == entry.enrolment:
        raise EnrolmentError(
            f"cannot rotate {name}: it has taken its new enrolment file, and the credential before "
            f"still holds; finish that first: ctl device rotate {name} --finish"
        )
    return _next(
        fleet,
        name,
        state=entry.state,
        enrolment=digest,
        credential=credential,
        # Of a file that was never used nothing is kept: the device still has the one before it.
        replaces=entry.replaces or entry.enrolment,
        by=by,
        ts=now_s,
    )


def rotated(fleet: Fleet, name: str, *, by: str, now_s: float) -> RosterEntry | None:
    """Return the entry of a device that has come by its new file; None: it has not yet.

    Raises:
        EnrolmentError: it is not being rotated.
    """
    entry = _entry(fleet, name, "finish rotating")
    if entry.replaces is None:
        raise EnrolmentError(f"cannot finish rotating {name}: no new enrolment file was made")
    if seen(fleet.devices.get(name)) != entry.enrolment:
        return None
    return entry.with_(generation=entry.generation + 1, replaces=None, by=by[:128], ts=now_s)


def seen(device: Device | None) -> str | None:
    """Return the digest of the enrolment file that a device has last said it came by."""
    inventory = device.inventory if device is not None else None
    return inventory.enrolment.file if inventory is not None and inventory.enrolment else None


def unseen(fleet: Fleet) -> list[Device]:
    """Return the devices that are on the roster and have not been seen, by name."""
    return [
        Device(name, standing="revoked" if entry.state == "revoked" else "added")
        for name, entry in sorted(fleet.roster.items())
        if name not in fleet.devices
    ]


def _entry(fleet: Fleet, name: str, verb: str) -> RosterEntry:
    entry = fleet.roster.get(name)
    if entry is None:
        raise EnrolmentError(f"cannot {verb} {name}: it is not on the roster; {_known(fleet)}")
    if entry.state == "revoked":
        raise EnrolmentError(f"cannot {verb} {name}: it was revoked; ctl device add {name}")
    return entry


def _known(fleet: Fleet) -> str:
    return f"there are {', '.join(sorted({*fleet.roster, *fleet.devices})[:10]) or 'none'}"


def _next(fleet: Fleet, name: str, *, by: str, **fields: object) -> RosterEntry:
    before = fleet.roster.get(name)
    generation = before.generation + 1 if before is not None else 1
    return RosterEntry.model_validate(
        {
            "fleet": fleet.topics.fleet,
            "device": name,
            "generation": generation,
            "by": by[:128],
            **fields,
        }
    )
