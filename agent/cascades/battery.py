"""Whether a new bundle may be loaded on the battery that is left. Pure.

Loading a bundle and answering its golden samples costs as much as many answers. On a battery that
is nearly empty the one that serves goes on instead, until the device is plugged in or charged.
"""

from collections.abc import Sequence
from dataclasses import replace

from agent.cascades.choice import Choice, Facts
from agent.cascades.reported import Running
from protocols.desired import DesiredCascade
from protocols.device import WAITS, Sample
from protocols.schedule import Power


def low(sample: Sample, power: Power, before: str) -> str:
    """Say why new bundles wait; empty: they do not.

    A charge that has never been told is no reason to wait; one that was low and is told no more
    holds. A plug that is not known is taken to be out, as the governor takes it.

    Args:
        sample: the last reading.
        power: the levels.
        before: what was said at the sample before: what waits goes on from a higher charge on.
    """
    percent = sample.battery_percent
    if sample.battery_plugged is True:
        return ""
    if percent is None:
        return before
    if percent >= (power.resume_percent if before else power.apply_percent):
        return ""
    return before or (
        f"{WAITS}battery {percent:.0f} %, unplugged; applies from {power.resume_percent:g} % or "
        "when plugged"
    )


def held(choices: Sequence[Choice], running: Running, facts: Facts, why: str) -> tuple[Choice, ...]:
    """Return the choices while new bundles wait: what serves goes on in their place.

    No bundle waits where nothing would serve meanwhile; where it has served here before, so that
    the device goes back to it; where the one that serves is condemned; or once it is being loaded.
    Another form of the bundle that serves does not wait either: it is what memory has room for.

    Args:
        choices: as they would be with enough charge.
        running: what serves, and what is being loaded.
        facts: what they depend on.
        why: see `low`; empty: nothing waits.
    """
    if not why:
        return tuple(choices)
    found = tuple(_held(choice, running, facts, why) for choice in choices)
    return found if any(choice.serve for choice in found) else tuple(choices)


def _held(choice: Choice, running: Running, facts: Facts, why: str) -> Choice:
    wanted = choice.wanted
    if choice.serve is None or choice.serve.identity != wanted.identity:
        return choice
    if wanted.bundle in {one.bundle for one in (*running.serving, *running.starting)}:
        return choice
    now = running.version_of(wanted.bundle.name)
    goes_back = facts.ledger.has_served(wanted.bundle.artifact.sha256)
    if goes_back or (now is not None and _is_condemned(now, facts)):
        return choice
    return replace(choice, serve=now, message=why)


def _is_condemned(cascade: DesiredCascade, facts: Facts) -> bool:
    sha256 = cascade.bundle.artifact.sha256
    return sha256 in facts.ledger.quarantined or cascade.identity in facts.verdicts
