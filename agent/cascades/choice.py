"""Desired against what is here: what to fetch, what should serve. Pure.

Level-triggered: `choose` is asked again after every change, and says the same for the same facts.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from agent.cascades.fit import artifacts_of, check_fit, check_names, needed_mib
from agent.cascades.verdicts import Verdict
from agent.errors import AgentError, UnfitError
from agent.storage.ledger import Ledger
from protocols.bundle import ArtifactRef, Bundle
from protocols.desired import Desired, DesiredCascade
from protocols.device import CascadePhase
from protocols.envelope import Envelope
from protocols.errors import MessageError, TrustError


class Bundles(Protocol):
    """Artifacts on this device, and the bundles among them."""

    def has(self, ref: ArtifactRef) -> bool:
        """Whether an artifact is here and sound."""

    def bundle(self, wanted: DesiredCascade) -> Bundle:
        """Return a verified bundle whose envelope is here, or raise TrustError, MessageError."""

    def check_room(self, refs: tuple[ArtifactRef, ...], what: str) -> None:
        """Raise StoreError if the disk has no room for what is missing of these."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the choice depends on, besides the desired document and the store."""

    ledger: Ledger
    budget_mib: float | None
    """Memory that models may have on this device; None: not known."""
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    """By the identity of a cascade, or by the digest of an artifact that does not verify."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One cascade of the desired document: how far it is, and what should serve meanwhile."""

    wanted: DesiredCascade
    phase: CascadePhase
    serve: DesiredCascade | None = None
    bundle: Bundle | None = None
    missing: tuple[ArtifactRef, ...] = ()
    message: str = ""


def choose(desired: Desired, bundles: Bundles, facts: Facts) -> tuple[Choice, ...]:
    """Say for every cascade how far it is and what should serve; earlier ones get memory first."""
    left, choices = facts.budget_mib, []
    for wanted in desired.cascades:
        choice = _choose(desired, wanted, bundles, facts, left)
        choices.append(choice)
        if left is not None and choice.serve is not None:
            bundle = bundles.bundle(choice.serve)
            left -= needed_mib(desired, choice.serve, bundle, 0)
    return tuple(choices)


def kept_artifacts(cascades: Iterable[DesiredCascade], bundles: Bundles) -> frozenset[str]:
    """Return the digests of everything that is here and that some cascades need.

    Raises:
        StoreError, ChildError: a bundle could not be read or checked, so that nothing is known of
            what it needs.
    """
    refs = needed_artifacts(cascades, bundles)
    return frozenset(sha for ref in refs for sha in (ref.sha256, ref.chunks) if sha is not None)


def needed_artifacts(
    cascades: Iterable[DesiredCascade], bundles: Bundles
) -> tuple[ArtifactRef, ...]:
    """Return every artifact that some cascades need, those whose manifests are here.

    Raises:
        StoreError, ChildError: as `kept_artifacts`.
    """
    needed: dict[ArtifactRef, None] = {}
    for cascade in cascades:
        if bundles.has(cascade.bundle.artifact):
            needed[cascade.bundle.artifact] = None
            try:
                bundle = bundles.bundle(cascade)
                check_names(cascade, bundle)
            except (TrustError, MessageError, UnfitError):
                continue  # nothing of it will run
            needed |= dict.fromkeys(artifacts_of(cascade, bundle))
    return tuple(needed)


def _choose(
    desired: Desired, wanted: DesiredCascade, bundles: Bundles, facts: Facts, left: float | None
) -> Choice:
    choice = _try(desired, wanted, bundles, facts, left)
    if choice.phase == "verified":
        return choice
    name = wanted.bundle.name
    for good in facts.ledger.good.get(name, ()):
        if good.identity == wanted.identity:
            continue
        older = _try(desired, good, bundles, facts, left)
        if older.phase == "verified":
            return Choice(wanted, choice.phase, good, choice.bundle, choice.missing, choice.message)
    return choice


def _try(
    desired: Desired, wanted: DesiredCascade, bundles: Bundles, facts: Facts, left: float | None
) -> Choice:
    """Say how far one version of a cascade is, by itself."""
    if (verdict := _standing_verdict(wanted, facts)) is not None:
        return Choice(wanted, verdict.phase, message=verdict.message)
    if not bundles.has(wanted.bundle.artifact):
        return Choice(wanted, "fetching", missing=(wanted.bundle.artifact,))
    try:
        bundle = bundles.bundle(wanted)
        check_names(wanted, bundle)
        check_fit(desired, wanted, bundle, left)
        missing = tuple(ref for ref in artifacts_of(wanted, bundle) if not bundles.has(ref))
        bundles.check_room(missing, f"{bundle.name} {bundle.version}")
    except (TrustError, MessageError, AgentError) as error:
        return Choice(wanted, "refused", message=str(error))
    for ref in missing:
        if (verdict := facts.verdicts.get(ref.sha256)) is not None:
            return Choice(wanted, verdict.phase, bundle=bundle, message=verdict.message)
    if missing:
        return Choice(wanted, "fetching", bundle=bundle, missing=missing)
    return Choice(wanted, "verified", wanted, bundle)


def _standing_verdict(wanted: DesiredCascade, facts: Facts) -> Verdict | None:
    sha = wanted.bundle.artifact.sha256
    if (why := facts.ledger.quarantined.get(sha)) is not None:
        return Verdict("quarantined", why)
    size_bytes = wanted.bundle.artifact.size_bytes
    if size_bytes > Envelope.MAX_BYTES:
        name = wanted.bundle.name
        return Verdict("refused", f"cannot run {name}: {size_bytes} bytes are no bundle's manifest")
    return facts.verdicts.get(wanted.identity) or facts.verdicts.get(sha)
