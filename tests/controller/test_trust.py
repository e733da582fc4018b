"""The next key set, what must be signed anew before it, and the home that follows it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from controller.errors import HomeError
from controller.fleet import Device, Fleet
from controller.planner import PlannerPolicy, is_expiring, plan
from controller.resign import distrusted, resign
from controller.signing import Signer, load_signer, make_key, retire_keys
from controller.steps import NotPlanned, PutDesired
from controller.trust import chain, check_next, keep_keys, successor
from protocols.desired import DesiredCascade, Pins, StagePin
from protocols.envelope import (
    DEPLOYMENT,
    KEYS,
    PINS,
    Envelope,
    KeySet,
    Role,
    generate_key,
    public_key,
    sign,
    verify,
)
from protocols.errors import TrustError
from protocols.trust import verify_rotation
from tests.controller import world
from tests.controller.cascades import make_bundle, ref_of
from tests.controller.conftest import FLEET, new_home

NEW_KEY = generate_key()
NEW = Signer(public_key(NEW_KEY, "release"), NEW_KEY)
AFTER = successor(world.KEYS, add=(NEW.public,), remove=(world.RELEASE.public,))
BUNDLE = make_bundle()
REF = ref_of(BUNDLE)
DEPLOYED = world.deployment(REF)
TOPIC = world.TOPICS.deployment(DEPLOYED.id)
PLAN_BUNDLES = {REF.artifact.sha256: BUNDLE}


def adding(*signers: Signer) -> Callable[[Role, Envelope], Envelope]:
    """Return who signs with these alone."""

    def add(role: Role, envelope: Envelope) -> Envelope:
        for signer in signers:
            if signer.public.role == role:
                envelope = signer.add_to(envelope)
        return envelope

    return add


def test_the_next_key_set_remembers_who_went() -> None:
    assert AFTER.version == world.KEYS.version + 1
    assert AFTER.of("release") == (NEW.public,)
    assert AFTER.former == (world.RELEASE.public,)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"threshold": {"release": 2}}, "2 signatures of the release role"),
        ({"remove": (world.CONTROLLER.public,)}, "it has 0 keys"),
        ({"add": (world.RELEASE.public,)}, "they are so already"),
    ],
)
def test_what_nobody_could_sign_with_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(HomeError, match=f"^cannot change the keys: .*{said}"):
        successor(world.KEYS, **change)  # type: ignore[arg-type]


def test_documents_are_signed_anew_and_good_under_both() -> None:
    documents = {
        TOPIC: world.RELEASE.sign_deployment(DEPLOYED),
        world.TOPICS.device("pi", "pins"): world.RELEASE.sign_pins(world.pins()),
        world.TOPICS.device("pi", "desired"): world.CONTROLLER.sign_desired(world.desired()),
        world.TOPICS.deployment("forged"): NEW.sign_deployment(DEPLOYED),
        world.TOPICS.device("pi", "status"): b"{}",
    }
    kept = resign(documents, world.KEYS, AFTER, adding(NEW))
    assert [step.topic for step in kept.steps] == [TOPIC, world.TOPICS.device("pi", "pins")]
    assert kept.lost == ()
    for keys in (world.KEYS, AFTER):
        assert verify(kept.steps[0].envelope, DEPLOYMENT, keys) == DEPLOYED.encode()
    nobody = resign(documents, world.KEYS, AFTER, adding())
    assert nobody.steps == ()
    assert nobody.lost == (TOPIC, world.TOPICS.device("pi", "pins"))


def test_keys_long_gone_do_not_crowd_new_ones_out() -> None:
    gone = [generate_key() for _ in range(15)]
    full = sign(DEPLOYED, DEPLOYMENT, [world.RELEASE_KEY, *gone]).encode()
    kept = resign({TOPIC: full}, world.KEYS, AFTER, adding(NEW))
    assert kept.lost == ()
    (step,) = kept.steps
    signers = [one.keyid for one in Envelope.decode(step.envelope).signatures]
    assert signers == [world.RELEASE.key_id, NEW.key_id]
    for keys in (world.KEYS, AFTER):
        assert verify(step.envelope, DEPLOYMENT, keys) == DEPLOYED.encode()


def test_a_version_is_made_once() -> None:
    envelope = sign(AFTER, KEYS, [world.RELEASE_KEY, NEW_KEY]).encode()
    fleet = Fleet(world.TOPICS, world.KEYS)
    check_next(fleet, AFTER, envelope)
    fleet.key_sets[AFTER.version] = envelope
    check_next(fleet, AFTER, envelope)
    fleet.key_sets[AFTER.version] = b"another"
    with pytest.raises(TrustError, match=r"^cannot publish key set 1: the fleet has version 1 alr"):
        check_next(fleet, AFTER, envelope)
    with pytest.raises(TrustError, match="this home follows it now"):
        check_next(Fleet(world.TOPICS, AFTER), AFTER, envelope)


def test_bundles_that_lose_their_word_are_named() -> None:
    old, both = (
        world.RELEASE.sign_bundle(BUNDLE),
        NEW.add_to(Envelope.decode(world.RELEASE.sign_bundle(BUNDLE))).encode(),
    )
    assert distrusted([("a@1", old), ("a@2", both)], world.KEYS, AFTER) == ("a@1",)


def test_a_home_follows_and_never_goes_back(tmp_path: Path) -> None:
    home = new_home(tmp_path)
    before = home.trust()
    path, public = make_key(home, "release")
    assert path.stat().st_mode & 0o777 == 0o600
    after = successor(before, add=(public,), remove=before.of("release"))
    both = before.with_(keys=(*before.keys, public))
    envelope = load_signer(home, "release", both).sign_keys(after)
    new = verify_rotation(envelope, before)
    keep_keys(home, new, envelope)
    assert home.trust() == after
    assert chain(home) == {1: envelope}
    keep_keys(home, before, b"an older one")
    assert home.trust() == after
    with pytest.raises(HomeError, match=r"^cannot keep key set 1: .*another one of that version"):
        keep_keys(home, new, b"another")
    keep_keys(home, new, envelope)
    assert chain(home)[1] == envelope
    assert retire_keys(home, after) == [home.keys_dir / "release.key"]
    assert load_signer(home, "release").public == public
    assert retire_keys(home, after) == []


def test_a_threshold_asks_for_as_many_keys(tmp_path: Path) -> None:
    home = new_home(tmp_path)
    _, public = make_key(home, "release")
    keys = successor(home.trust(), add=(public,), threshold={"release": 2})
    home.trust_file.write_bytes(keys.encode())
    pins = Pins(fleet=FLEET, device="pi")
    envelope = load_signer(home, "release").sign_pins(pins)
    assert verify(envelope, PINS, keys) == pins.encode()
    (home.keys_dir / f"release-{public.key_id}.key").rename(tmp_path / "elsewhere.key")
    alone = load_signer(home, "release")
    with pytest.raises(HomeError, match="2 release keys must sign, here are 1"):
        alone.sign_pins(pins)
    partly = alone.sign_deployment(DEPLOYED.with_(fleet=FLEET), partly=True)
    with pytest.raises(TrustError, match="1 of 2"):
        verify(partly, DEPLOYMENT, keys)


def running(**more: object) -> Device:
    """Return a device that runs what is deployed."""
    variants = {stage.name: stage.variants[0].name for stage in BUNDLE.stages}
    cascade = DesiredCascade(bundle=REF, variants=variants)
    document = world.desired(cascades=(cascade,)).with_(**more)
    return world.device(desired=document)


def test_what_runs_is_not_stopped_for_a_key_that_went() -> None:
    fleet = world.fleet(running())
    fleet.keys = AFTER
    with pytest.raises(TrustError):
        fleet.fold(TOPIC, world.RELEASE.sign_deployment(DEPLOYED), world.NOW_S)
    assert fleet.deployments == {}
    steps = plan(fleet, PLAN_BUNDLES, world.NOW_S, world.ME)
    assert [type(step) for step in steps] == [NotPlanned]
    assert DEPLOYED.id in steps[0].describe()
    fleet.fold(TOPIC, NEW.sign_deployment(DEPLOYED), world.NOW_S)
    assert fleet.void == {}
    assert not any(
        isinstance(step, NotPlanned) for step in plan(fleet, PLAN_BUNDLES, world.NOW_S, world.ME)
    )


def test_what_a_stranger_deploys_holds_nothing_up() -> None:
    fleet = world.fleet(running())
    with pytest.raises(TrustError):
        fleet.fold(TOPIC, NEW.sign_deployment(DEPLOYED), world.NOW_S)
    with pytest.raises(TrustError):
        fleet.fold(TOPIC, sign(DEPLOYED, DEPLOYMENT, [world.CONTROLLER_KEY]).encode(), world.NOW_S)
    assert (fleet.deployments, fleet.void) == ({}, {})


def test_an_aborted_deployment_stays_so() -> None:
    fleet = world.fleet()
    fleet.fold(TOPIC, world.RELEASE.sign_deployment(DEPLOYED), world.NOW_S)
    fleet.fold(TOPIC, world.RELEASE.sign_deployment(DEPLOYED.with_(aborted=True)), world.NOW_S)
    fleet = fleet.without_documents()
    with pytest.raises(TrustError, match="was aborted, and stays so"):
        fleet.fold(TOPIC, world.RELEASE.sign_deployment(DEPLOYED), world.NOW_S)


PATIENT = PlannerPolicy()


def desired_of(device: Device, policy: PlannerPolicy = PATIENT) -> PutDesired | None:
    """Return the document that the planner writes."""
    fleet = world.fleet(device, deployments=(DEPLOYED,))
    steps = plan(fleet, PLAN_BUNDLES, world.NOW_S, world.ME, policy)
    return next((step for step in steps if isinstance(step, PutDesired)), None)


PIN = StagePin(cascade=BUNDLE.name, stage=BUNDLE.stages[0].name, threads=1)


@pytest.mark.parametrize("there", [Pins(fleet=FLEET, device="pi", ts=50.0), None])
def test_older_pins_that_are_played_back_and_deleted_ones_change_nothing(
    there: Pins | None,
) -> None:
    pinned = running(pins=(PIN,), pins_ts=100.0)
    step = desired_of(world.device(desired=pinned.desired, pins=there))
    assert step is None or step.desired.pins == (PIN,)
    later = Pins(fleet=FLEET, device="pi", ts=101.0)
    taken = desired_of(world.device(desired=pinned.desired, pins=later))
    assert taken is not None
    assert (taken.desired.pins, taken.desired.pins_ts) == ((), 101.0)


def test_a_document_is_written_anew_at_half_of_its_life() -> None:
    policy = PlannerPolicy(expire_after_s=7200.0)
    first = desired_of(world.device(), policy)
    assert first is not None
    assert first.desired.expires_ts == world.NOW_S + 7200
    device = world.device(desired=first.desired)
    assert desired_of(device, policy) is None
    for ago_s, due in ((3599.0, False), (3601.0, True), (9000.0, True)):
        document = first.desired.with_(
            ts=world.NOW_S - ago_s, expires_ts=world.NOW_S - ago_s + 7200
        )
        aged = world.device(desired=document)
        assert is_expiring(aged, world.NOW_S, policy) is due
        again = desired_of(aged, policy)
        assert (again is not None) is due
        if again is not None:
            assert again.desired.generation == first.desired.generation + 1
            assert again.desired.reason == "when it expires has changed"
    without = desired_of(device)
    assert without is not None
    assert without.desired.expires_ts is None


def test_a_key_set_is_of_its_own_type() -> None:
    envelope = sign(AFTER, KEYS, [world.RELEASE_KEY, NEW_KEY]).encode()
    assert isinstance(verify_rotation(envelope, world.KEYS), KeySet)
    with pytest.raises(TrustError, match="the envelope holds"):
        verify(envelope, DEPLOYMENT, world.KEYS)
