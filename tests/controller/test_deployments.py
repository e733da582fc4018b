import pytest

from controller.deployments import (
    abort_steps,
    check_current,
    create_deployment,
    deployment_steps,
    pinned,
    unpinned,
)
from controller.errors import ControllerError, FitError
from controller.fleet import Device, Fleet
from controller.steps import ClearArtifact, PutArtifact, PutDeployment
from protocols.chunks import with_lists
from protocols.desired import DesiredCascade, StagePin
from protocols.rollout import Strategy
from tests.controller.cascades import Piece, make_bundle, ref_of
from tests.controller.world import NOW_S, deployment, desired, device, fleet, inventory

V1, V2 = make_bundle(), make_bundle(version=2)
BUNDLES = {ref_of(b).artifact.sha256: b for b in (V1, V2)}


def running() -> Device:
    cascade = DesiredCascade(bundle=ref_of(V1), variants={"small": "int8", "large": "fp32"})
    return device(desired=desired(cascades=(cascade,)))


def test_a_new_deployment_rules_over_all_before() -> None:
    found = fleet(deployments=[deployment(ref_of(V1), 7)])

    made = create_deployment(
        found, ref_of(V2), V2, nonce="7f3a", now_s=NOW_S, selector={"room": "1"}, by="x" * 300
    )

    assert (made.id, made.order, made.created_ts) == ("digits-v2-7f3a", 8, NOW_S)
    assert (made.fleet, made.selector, len(made.by)) == ("test", {"room": "1"}, 128)


def test_a_canary_must_be_a_member() -> None:
    labels = {"ring": "canary"}
    found = fleet(
        device("pi-1", inventory=inventory("pi-1", labels=labels), standing="pending"),
        device("pi-2", inventory=inventory("pi-2")),
    )
    waves = Strategy(canary=labels)
    with pytest.raises(ControllerError, match="none of its 1 devices of fleet test is a canary"):
        create_deployment(found, ref_of(V1), V1, nonce="a", now_s=0.0, strategy=waves)


def test_a_long_name_still_makes_an_id() -> None:
    long = make_bundle((Piece("only", [("a", 1.0)]),), name="n" * 63)

    assert len(create_deployment(fleet(), ref_of(long), long, nonce="7f3a", now_s=0.0).id) <= 63


@pytest.mark.parametrize("insisted", [{"huge": "int8"}, {"large": "int4"}])
def test_variants_must_be_the_bundle_s(insisted: dict[str, str]) -> None:
    with pytest.raises(FitError, match="cannot"):
        create_deployment(fleet(), ref_of(V1), V1, nonce="a", now_s=0.0, variants=insisted)


def test_artifacts_go_out_first_and_the_manifest_is_the_last_of_them() -> None:
    made = deployment(ref_of(V1))

    steps = deployment_steps(made, V1)

    put = [step.ref for step in steps if isinstance(step, PutArtifact)]
    assert put == [*with_lists(V1.artifacts), made.bundle.artifact]
    assert put[-1] == made.bundle.artifact
    assert steps[-1] == PutDeployment(made)
    assert [step.describe().split(":")[0] for step in steps] == [
        "put digits@1 small int8, its chunk list",
        "put digits@1 small int8",
        "put digits@1 large fp32, its chunk list",
        "put digits@1 large fp32",
        "put digits@1 large int8, its chunk list",
        "put digits@1 large int8",
        "put digits@1 golden samples",
        "put digits@1 manifest",
        "publish deployment digits-v1-1 of digits@1",
    ]


def test_an_abort_clears_what_nobody_else_needs() -> None:
    shared = V2.with_(stages=(V1.stages[0], V2.stages[1]))
    bundles = {**BUNDLES, ref_of(shared).artifact.sha256: shared}
    first, second = deployment(ref_of(V1), 1), deployment(ref_of(shared), 2)
    found = fleet(deployments=[first, second])

    steps = abort_steps(found, second.id, bundles)

    assert steps[0] == PutDeployment(second.with_(aborted=True), "aborted")
    cleared = {step.ref for step in steps if isinstance(step, ClearArtifact)}
    assert cleared == {*with_lists(shared.artifacts), second.bundle.artifact} - set(
        with_lists(V1.artifacts)
    )
    assert V1.stages[0].variants[0].artifact not in cleared


def test_nothing_is_cleared_where_a_bundle_is_not_known() -> None:
    first, second = deployment(ref_of(V1), 1), deployment(ref_of(V2), 2)
    found = fleet(deployments=[first, second])

    only_second = {ref_of(V2).artifact.sha256: V2}
    assert len(abort_steps(found, second.id, only_second)) == 1
    assert len(abort_steps(found, second.id, {ref_of(V1).artifact.sha256: V1})) == 1


def test_there_must_be_something_to_abort() -> None:
    with pytest.raises(ControllerError, match="cannot abort x: no such deployment; there are none"):
        abort_steps(fleet(), "x", {})


def pins_of(found: Fleet, *pins: StagePin) -> tuple[StagePin, ...]:
    made = pinned(found, "pi", pins, by="me", now_s=NOW_S)
    assert (made.device, made.fleet, made.by, made.ts) == ("pi", "test", "me", NOW_S)
    return made.pins


def test_pins_add_to_what_is_pinned() -> None:
    found = fleet(running())
    loaded = StagePin(cascade="digits", stage="large", loaded=False)
    threads = StagePin(cascade="digits", stage="large", threads=2)
    both = StagePin(cascade="digits", stage="large", loaded=False, threads=2)
    assert pins_of(found, loaded) == (loaded,)

    found.devices["pi"] = device(desired=running().desired, pins=pinned(found, "pi", [loaded]))

    assert pins_of(found, threads) == (both,)
    small = StagePin(cascade="digits", stage="small", loaded=True)
    assert pins_of(found, small) == (loaded, small)


def test_unpinning_leaves_the_others() -> None:
    found = fleet(running())
    both = [StagePin(cascade="digits", stage=s, loaded=True) for s in ("small", "large")]
    found.devices["pi"] = device(desired=running().desired, pins=pinned(found, "pi", both))

    assert unpinned(found, "pi", "digits", "small").pins == (both[1],)
    assert unpinned(found, "pi", "digits").pins == ()
    assert unpinned(found, "pi").pins == ()
    with pytest.raises(ControllerError, match="cannot unpin other on pi: digits/small, digits/lar"):
        unpinned(found, "pi", "other")


@pytest.mark.parametrize(
    ("name", "pin", "said"),
    [
        ("ghost", StagePin(cascade="digits", stage="large"), "no such device; the fleet has pi"),
        ("pi", StagePin(cascade="faces", stage="x"), "it runs digits, no cascade 'faces'"),
        ("pi", StagePin(cascade="digits", stage="x"), "no stage 'x', only small, large"),
    ],
)
def test_pins_name_what_is_there(name: str, pin: StagePin, said: str) -> None:
    with pytest.raises(ControllerError, match=said):
        pinned(fleet(running()), name, [pin])


def test_what_others_have_signed_meanwhile_may_be_out_of_date() -> None:
    made = deployment(ref_of(V1), 7)
    other = make_bundle(name="other")
    check_current(made, fleet(deployments=[deployment(ref_of(V2), 6)]))
    check_current(made, fleet(deployments=[deployment(ref_of(other), 9)]))
    check_current(made, fleet(deployments=[deployment(ref_of(V2), 7, aborted=True)]))
    check_current(made, fleet(deployments=[made]))
    for there, why in (
        (deployment(ref_of(V2), 7), "it was superseded meanwhile, by digits-v2-7"),
        (made.with_(aborted=True), "it was aborted meanwhile"),
        (made.with_(paused=True), "it was changed there meanwhile"),
    ):
        with pytest.raises(ControllerError, match=f"^cannot publish digits-v1-7: .*{why}"):
            check_current(made, fleet(deployments=[there]))
    check_current(made.with_(aborted=True), fleet(deployments=[made.with_(paused=True)]))
