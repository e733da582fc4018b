"""What is accepted, what is fetched, what should serve; and what the reported document says."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.cascades.acceptance import accept
from agent.cascades.choice import (
    Choice,
    Facts,
    choose,
    kept_artifacts,
)
from agent.cascades.fit import check_fit, check_names, is_roomy
from agent.cascades.reported import Running, phase_of, reported_cascade
from agent.cascades.verdicts import Verdict
from agent.errors import ChildError, RefusalError, StoreError, UnfitError
from agent.storage.ledger import Ledger
from protocols.bundle import ArtifactRef, Bundle
from protocols.desired import Desired, DesiredCascade, StagePin
from protocols.device import Sample
from protocols.envelope import (
    DESIRED,
    KeySet,
    ed25519_holds,
    generate_key,
    public_key,
    sign,
)
from protocols.errors import MessageError, TrustError
from protocols.memory import budget_mib, rung_mib
from protocols.schedule import ResidencyRung, Schedule
from tests.agent.bundles import make_bundle, wanted

RELEASE, CONTROLLER = generate_key(), generate_key()
KEYS = KeySet(
    fleet="home", keys=(public_key(RELEASE, "release"), public_key(CONTROLLER, "controller"))
)
ONE, TWO = make_bundle(version=1), make_bundle(version=2)


def desire(*cascades: DesiredCascade, generation: int = 1, device: str = "pi") -> Desired:
    return Desired(
        fleet="home",
        device=device,
        generation=generation,
        cascades=cascades,
        schedule=Schedule(),
    )


def signed(desired: Desired, key: bytes = CONTROLLER) -> bytes:
    return sign(desired, DESIRED, [key]).encode()


@dataclass
class Bundles:
    """Everything is here, except what is `missing`."""

    bundles: dict[str, Bundle] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    untrusted: set[str] = field(default_factory=set)
    full: bool = False
    broken: bool = False

    def has(self, ref: ArtifactRef) -> bool:
        return ref.sha256 not in self.missing

    def bundle(self, cascade: DesiredCascade) -> Bundle:
        sha = cascade.bundle.artifact.sha256
        if self.broken:
            raise ChildError("cannot check a signature: no memory")
        if sha in self.untrusted:
            raise TrustError("cannot trust bundle: nobody signed it")
        return self.bundles[sha]

    def check_room(self, refs: tuple[ArtifactRef, ...], what: str) -> None:
        if refs and self.full:
            raise StoreError(f"cannot store {what}: full")

    def put(self, bundle: Bundle) -> DesiredCascade:
        cascade = wanted(bundle)
        self.bundles[cascade.bundle.artifact.sha256] = bundle
        return cascade


def facts(
    *good: DesiredCascade,
    budget: float | None = None,
    verdicts: dict[str, Verdict] | None = None,
    quarantined: dict[str, str] | None = None,
) -> Facts:
    ledger = Ledger(quarantined=quarantined or {})
    for cascade in good:
        ledger = ledger.with_good((cascade,), frozenset({"digits", "other"}))
    return Facts(ledger, budget, verdicts or {})


# --- accept


def test_a_newer_document_is_accepted_and_the_same_one_is_no_news() -> None:
    first = signed(desire(generation=7))
    found = accept(first, KEYS, "pi", Ledger(), ed25519_holds, None)
    assert found is not None
    assert found.generation == 7
    ledger = Ledger(generation=7, desired=first.decode())
    assert accept(first, KEYS, "pi", ledger, ed25519_holds, None) == found
    assert accept(signed(desire(generation=8)), KEYS, "pi", ledger, ed25519_holds, None)


@pytest.mark.parametrize(
    ("payload", "error", "text"),
    [
        (b"", MessageError, "cannot read envelope"),
        (signed(desire(), RELEASE), TrustError, "controller key"),
        (signed(desire(), generate_key()), TrustError, "0 of 1 needed signatures"),
        (signed(desire(device="other")), RefusalError, "it is for device 'other'"),
        (signed(desire(generation=3)), RefusalError, "generation 7 was accepted before"),
        (
            signed(desire(generation=7, device="pi").with_(reason="x")),
            RefusalError,
            "generation 7 was accepted before with other content",
        ),
        (signed(desire(wanted(ONE), wanted(TWO), generation=9)), RefusalError, "digits twice"),
    ],
)
def test_what_is_refused(payload: bytes, error: type[Exception], text: str) -> None:
    ledger = Ledger(generation=7, desired=signed(desire(generation=7)).decode())
    with pytest.raises(error, match=text):
        accept(payload, KEYS, "pi", ledger, ed25519_holds, None)


@given(st.binary(max_size=300))
def test_garbage_is_refused_before_any_signature_is_checked(payload: bytes) -> None:
    def never(*_: bytes) -> bool:
        raise AssertionError("asked for a signature")

    with pytest.raises((MessageError, TrustError)):
        accept(payload, KEYS, "pi", Ledger(), never, None)


# --- choose


def only(bundles: Bundles, cascade: DesiredCascade, found: Facts | None = None) -> Choice:
    (choice,) = choose(desire(cascade), bundles, found or facts())
    return choice


def test_what_is_whole_is_verified_and_serves() -> None:
    bundles = Bundles()
    cascade = bundles.put(ONE)
    choice = only(bundles, cascade)
    assert (choice.phase, choice.serve, choice.missing) == ("verified", cascade, ())


def test_the_bundle_comes_first_then_what_it_names_for_these_variants() -> None:
    bundles = Bundles()
    cascade = bundles.put(ONE).with_(variants={"small": "int8", "large": "fp32"})
    bundles.missing = {cascade.bundle.artifact.sha256}
    assert only(bundles, cascade).missing == (cascade.bundle.artifact,)
    small, large = ONE.stages
    needed = (small.variants[1].artifact, large.variants[0].artifact, ONE.golden.artifact)
    bundles.missing = {ref.sha256 for ref in ONE.artifacts}
    assert only(bundles, cascade).missing == needed
    dropped = cascade.with_(dropped=("large",))
    assert only(bundles, dropped).missing == (needed[0], needed[2])


def test_while_something_comes_or_cannot_run_the_last_good_one_serves() -> None:
    bundles = Bundles()
    old, new = bundles.put(ONE), bundles.put(TWO)
    sha = new.bundle.artifact.sha256
    bundles.missing = {sha}
    assert only(bundles, new, facts(old)).serve == old
    bundles.missing = set()
    why = Verdict("rejected", "cannot serve")
    for found in (
        facts(old, quarantined={sha: "killed"}),
        facts(old, new, quarantined={sha: "killed"}),
        facts(old, verdicts={new.identity: why}),
        facts(old, verdicts={sha: why}),
    ):
        choice = only(bundles, new, found)
        assert choice.phase in {"quarantined", "rejected"}
        assert choice.message
        assert choice.serve == old
    assert only(bundles, new, facts(quarantined={sha: "killed"})).serve is None
    bundles.untrusted = {sha}
    choice = only(bundles, new, facts(old))
    assert (choice.phase, choice.serve) == ("refused", old)


def test_an_artifact_that_does_not_verify_is_not_asked_for_again() -> None:
    bundles = Bundles()
    cascade = bundles.put(ONE)
    bad = ONE.golden.artifact.sha256
    bundles.missing = {bad}
    verdict = Verdict("rejected", "cannot accept artifact")
    choice = only(bundles, cascade, facts(verdicts={bad: verdict}))
    assert (choice.phase, choice.missing, choice.message) == ("rejected", (), verdict.message)


def test_a_full_disk_and_a_huge_manifest_are_refused() -> None:
    bundles = Bundles(full=True)
    cascade = bundles.put(ONE)
    bundles.missing = {ONE.golden.artifact.sha256}
    assert only(bundles, cascade).message == "cannot store digits 1: full"
    artifact = cascade.bundle.artifact.with_(size_bytes=1 << 30)
    choice = only(bundles, cascade.with_(bundle=cascade.bundle.with_(artifact=artifact)))
    assert choice.phase == "refused"


def test_cascades_share_the_memory_and_the_first_ones_have_it() -> None:
    bundles = Bundles()
    one, other = bundles.put(ONE), bundles.put(make_bundle(name="other"))
    choices = choose(desire(one, other), bundles, facts(budget=25.0))
    assert [c.phase for c in choices] == ["verified", "refused"]
    assert "need 20 MiB, this device has 5 MiB" in choices[1].message
    assert "--variant " in choices[1].message


def test_choosing_twice_says_the_same() -> None:
    bundles = Bundles()
    found = facts(bundles.put(ONE), budget=100.0)
    desired = desire(bundles.put(TWO))
    assert choose(desired, bundles, found) == choose(desired, bundles, found)


def test_what_is_kept_is_what_its_variants_need() -> None:
    bundles = Bundles()
    cascade = bundles.put(ONE)
    kept = kept_artifacts([cascade], bundles)
    assert cascade.bundle.artifact.sha256 in kept
    assert len(kept) == 4
    bundles.missing = {cascade.bundle.artifact.sha256}
    assert kept_artifacts([cascade], bundles) == frozenset()
    bundles.missing, bundles.untrusted = set(), {cascade.bundle.artifact.sha256}
    assert len(kept_artifacts([cascade], bundles)) == 1
    bundles.broken = True
    with pytest.raises(ChildError):  # else all that it needs would be deleted
        kept_artifacts([cascade], bundles)


# --- fit


def test_names_must_be_the_bundle_s() -> None:
    cascade = wanted(ONE)
    check_names(cascade, ONE)
    for wrong, text in (
        (cascade.with_(bundle=cascade.bundle.with_(version=2)), "is the bundle of digits 1"),
        (cascade.with_(variants={"small": "fp32"}), "stage large has no variant None"),
        (cascade.with_(variants={**cascade.variants, "huge": "fp32"}), "no stage 'huge'"),
        (cascade.with_(dropped=("huge",)), "no stage 'huge'"),
    ):
        with pytest.raises(UnfitError, match=text):
            check_names(wrong, ONE)


def test_needs_must_go_into_the_budget() -> None:
    bundle = make_bundle(needs_mib={"small": 4.0, "large": 208.0})
    desired = desire()
    check_fit(desired, wanted(bundle), bundle, None)
    check_fit(desired, wanted(bundle), bundle, 212.0)
    with pytest.raises(
        UnfitError,
        match="cannot run digits: the stages that must be resident need 212 MiB, this device has "
        "140 MiB for them; try --variant large=int8",
    ):
        check_fit(desired, wanted(bundle), bundle, 140.9)
    check_fit(desired, wanted(bundle, large="int8"), bundle, 140.0)
    check_fit(desired, wanted(bundle, "large"), bundle, 140.0)
    with pytest.raises(UnfitError, match="no smaller variant"):
        check_fit(desired, wanted(bundle, small="int8", large="int8"), bundle, 10.0)
    away = StagePin(cascade="digits", stage="large", loaded=False)
    check_fit(desired.with_(pins=(away,)), wanted(bundle), bundle, 140.0)


def test_the_budget_is_what_the_machine_and_the_cgroup_leave() -> None:
    assert budget_mib(None, None) is None
    assert budget_mib(1000, None) == pytest.approx(900 - 85)
    assert budget_mib(1000, 300) == pytest.approx(300 - 85)
    assert budget_mib(None, 300) == pytest.approx(300 - 85)


def test_two_runners_need_room() -> None:
    unknown = Sample(time_s=0)
    assert is_roomy(unknown, 1e6)
    sample = Sample(time_s=0, memory_total_mib=1000, memory_available_mib=200)
    assert is_roomy(sample, 70)
    assert not is_roomy(sample, 80)


def test_what_a_rung_may_load() -> None:
    sizes = {"a": 1.0, "b": 10.0}
    everything = ResidencyRung(resident=("a",), on_demand=("b", "elsewhere"))
    one = ResidencyRung(resident=(), on_demand=("a", "b"), one_at_a_time=True)
    assert rung_mib(everything, sizes, ()) == 11
    assert rung_mib(everything, sizes, ("b",)) == 1
    assert rung_mib(one, sizes, ()) == 10
    assert rung_mib(one, sizes, ("a",)) == 0


# --- report


def test_phases_say_how_far_a_cascade_is() -> None:
    cascade, other = wanted(ONE), wanted(TWO)
    choice = Choice(cascade, "verified", cascade, ONE)
    assert phase_of(choice, Running()) == "verified"
    assert phase_of(choice, Running((other,), (cascade,))) == "starting"
    assert phase_of(choice, Running((cascade,), (other,))) == "running"
    assert phase_of(Choice(cascade, "fetching"), Running((cascade,))) == "fetching"


def test_a_report_counts_bytes_and_names_what_serves() -> None:
    cascade, serving = wanted(TWO), wanted(ONE)
    choice = Choice(cascade, "rejected", serving, TWO, message="cannot serve")
    found = reported_cascade(choice, Running((serving,)), lambda _: 1, lambda _: ())
    assert found.bundle.version == 2
    assert found.running == serving.bundle
    assert (found.fetched_bytes, found.total_bytes) == (4, 4000)
    assert found.message == "cannot serve"
