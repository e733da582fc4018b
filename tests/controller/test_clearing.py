"""What the broker need not keep, and what it must."""

from dataclasses import replace

import pytest

from controller.clearing import unneeded_artifacts
from controller.fleet import Device, Fleet
from protocols.bundle import BundleRef
from protocols.chunks import with_lists
from protocols.desired import Deployment
from protocols.device import Reported, ReportedCascade
from protocols.rollout import Rollout, Strategy
from tests.controller.cascades import make_bundle, ref_of
from tests.controller.world import FLEET, deployment, device, fleet, inventory, status

V1, V2 = make_bundle(version=1), make_bundle(version=2).with_(golden=make_bundle(version=1).golden)
R1, R2 = ref_of(V1), ref_of(V2)
BUNDLES = {R1.artifact.sha256: V1, R2.artifact.sha256: V2}
SHARED = V1.golden.artifact
ALONE_IN_V1 = {ref for ref in with_lists(V1.artifacts) if ref != SHARED}


def running(name: str, ref: BundleRef, **more: object) -> Device:
    cascade = ReportedCascade(bundle=ref, phase="running", running=ref)
    reported = Reported(device=name, boot_id="b1", cascades=(cascade,))
    return device(name, reported=reported, **more)


def found(*devices: Device, deployments: tuple[Deployment, ...]) -> set[object]:
    return set(unneeded_artifacts(fleet(*devices, deployments=deployments), BUNDLES))


FIRST, SECOND = deployment(R1, 1), deployment(R2, 2)


def test_what_a_later_deployment_has_replaced_everywhere_is_unneeded() -> None:
    assert found(running("a", R2), running("b", R2), deployments=(FIRST, SECOND)) == ALONE_IN_V1


def test_a_manifest_and_what_is_shared_stay() -> None:
    unneeded = found(running("a", R2), deployments=(FIRST, SECOND))
    assert R1.artifact not in unneeded
    assert SHARED not in unneeded


def test_a_device_that_is_not_there_yet_keeps_all() -> None:
    assert not found(running("a", R2), running("b", R1), deployments=(FIRST, SECOND))
    assert not found(running("a", R2), device("b"), deployments=(FIRST, SECOND))


def test_one_that_is_away_keeps_nothing() -> None:
    away = replace(running("b", R1), status=status("b", online=False))
    assert found(running("a", R2), away, deployments=(FIRST, SECOND)) == ALONE_IN_V1


@pytest.mark.parametrize(
    ("earlier", "later", "covered"),
    [
        ({}, {"devices": ("a",)}, False),
        ({}, {"selector": {"room": "hall"}}, False),
        ({"devices": ("a",)}, {}, True),
        ({"devices": ("a",)}, {"devices": ("a", "b")}, True),
        ({"devices": ("a", "b")}, {"devices": ("a",)}, False),
        ({"selector": {"room": "hall"}}, {}, True),
        ({"selector": {"room": "hall", "floor": "1"}}, {"selector": {"room": "hall"}}, True),
        ({"selector": {"room": "hall"}}, {"selector": {"room": "cellar"}}, False),
        ({"selector": {"room": "hall"}}, {"devices": ("a",), "selector": {}}, False),
    ],
)
def test_only_what_covers_every_device_that_may_come_replaces(
    earlier: dict[str, object],
    later: dict[str, object],
    covered: bool,  # noqa: FBT001 - of a table
) -> None:
    there = running("a", R2, inventory=inventory("a", labels={"room": "hall", "floor": "1"}))
    deployments = (deployment(R1, 1, **earlier), deployment(R2, 2, **later))
    assert bool(found(there, deployments=deployments)) == covered


def test_a_rollout_that_has_not_ended_keeps_what_it_may_return_to() -> None:
    later = deployment(R2, 2, strategy=Strategy())
    rollout = Rollout(fleet=FLEET, deployment=later.id, revision=1, admitted=1.0)
    known: Fleet = fleet(running("a", R2), deployments=(FIRST, later))
    known.rollouts[later.id] = rollout
    assert not unneeded_artifacts(known, BUNDLES)
    known.rollouts[later.id] = rollout.with_(phase="completed")
    assert set(unneeded_artifacts(known, BUNDLES)) == ALONE_IN_V1


def test_nothing_is_unneeded_while_a_bundle_is_not_known() -> None:
    known = fleet(running("a", R2), deployments=(FIRST, SECOND))
    assert not unneeded_artifacts(known, {R2.artifact.sha256: V2})


def test_what_was_aborted_replaces_nothing() -> None:
    aborted = SECOND.with_(aborted=True)
    assert not found(running("a", R2), deployments=(FIRST, aborted))
