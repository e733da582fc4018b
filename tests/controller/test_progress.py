from dataclasses import replace

import pytest

from controller.fleet import Device
from controller.progress import DeviceProgress, Phase, outcome, progress
from protocols.bundle import BundleRef
from protocols.desired import Deployment, DesiredCascade
from protocols.device import CascadePhase, Refusal, Reported, ReportedCascade
from protocols.schedule import Dwell, Schedule
from tests.controller.cascades import Piece, make_bundle, ref_of
from tests.controller.world import deployment, desired, device, fleet, inventory, status

BUNDLE = make_bundle()
REF = ref_of(BUNDLE)
OLD = ref_of(make_bundle(version=7))
D = deployment(REF)


def told(found: Device, generation: int = 1) -> Device:
    cascade = DesiredCascade(bundle=REF, variants={"small": "int8", "large": "fp32"})
    return replace(found, desired=desired(found.name, generation, cascades=(cascade,)))


def reporting(
    phase: CascadePhase,
    *,
    running: BundleRef | None = None,
    generation: int = 1,
    refusal: Refusal | None = None,
    online: bool = True,
) -> Device:
    cascade = ReportedCascade(
        bundle=REF,
        phase=phase,
        running=running,
        fetched_bytes=10,
        total_bytes=20,
        message="cannot" if phase in {"refused", "rejected", "quarantined"} else "",
    )
    return replace(
        told(device(status=status(online=online))),
        reported=Reported(
            device="pi", boot_id="b", generation=generation, cascades=(cascade,), refusal=refusal
        ),
    )


def only(
    *devices: Device, of: Deployment = D, others: tuple[Deployment, ...] = ()
) -> DeviceProgress:
    (found,) = progress(of, fleet(*devices, deployments=[of, *others]), BUNDLE)
    return found


@pytest.mark.parametrize(
    ("found", "phase"),
    [
        (device(), "pending"),
        (device(status=status(online=False)), "offline"),
        (told(device()), "planned"),
        (told(device(status=status(online=False))), "offline"),
        (reporting("fetching"), "fetching"),
        (reporting("fetching", online=False), "offline"),
        (reporting("verified"), "verified"),
        (reporting("starting", running=OLD), "starting"),
        (reporting("running", running=REF), "running"),
        (reporting("running", running=REF, online=False), "running"),
        (reporting("running", running=OLD), "starting"),
        (reporting("running", running=REF, generation=0), "planned"),
        (reporting("refused", running=OLD), "refused"),
        (reporting("rejected"), "rejected"),
        (reporting("quarantined"), "quarantined"),
        (reporting("rejected", online=False), "rejected"),
    ],
)
def test_phases(found: Device, phase: Phase) -> None:
    assert only(found).phase == phase


def test_bytes_and_messages_are_the_device_s() -> None:
    assert only(reporting("fetching")) == DeviceProgress("pi", "fetching", 10, 20)
    assert only(reporting("rejected")).message == "cannot"


def test_a_document_that_the_device_does_not_trust_is_refused() -> None:
    refusal = Refusal(message="cannot trust")
    assert only(reporting("running", generation=0, refusal=refusal)) == DeviceProgress(
        "pi", "refused", message="cannot trust"
    )
    old = Refusal(generation=9, message="of another one")
    assert only(reporting("running", running=REF, generation=1, refusal=old)).phase == "running"


def test_what_cannot_fit_is_seen_without_a_controller() -> None:
    tiny = device(inventory=inventory(memory_mib=128.0))

    found = only(tiny)

    assert found.phase == "cannot-fit"
    assert "needs 64 MiB" in found.message
    assert progress(D, fleet(tiny))[0].phase == "pending"


def test_what_runs_in_another_form_than_asked_is_not_there_yet() -> None:
    running = reporting("running", running=REF)

    assert only(running, of=D.with_(variants={"large": "fp32"})).phase == "running"
    assert only(running, of=D.with_(variants={"large": "int8"})).phase == "pending"


def test_aborted_and_superseded() -> None:
    running = reporting("running", running=REF)
    later = deployment(ref_of(make_bundle(version=2)), 2)
    elsewhere = deployment(ref_of(make_bundle(version=2)), 2, devices=("other",))
    other_cascade = deployment(ref_of(make_bundle((Piece("x", [("a", 1.0)]),), name="y")), 2)

    assert only(running, of=D.with_(aborted=True)).phase == "aborted"
    assert only(running, others=(later,)).phase == "superseded"
    assert only(running, others=(later.with_(aborted=True),)).phase == "running"
    assert only(running, others=(elsewhere, other_cascade)).phase == "running"


def test_the_broker_s_word_on_the_deployment_goes_before_ours() -> None:
    found = fleet(reporting("running", running=REF), deployments=[D.with_(aborted=True)])

    assert progress(D, found)[0].phase == "aborted"


def test_named_devices_that_nobody_has_seen_are_offline() -> None:
    named = deployment(REF, devices=("ghost", "pi"))

    found = progress(named, fleet(device(), deployments=[named]))

    assert [(d.device, d.phase, d.message) for d in found] == [
        ("ghost", "offline", "never seen; is the name right?"),
        ("pi", "pending", ""),
    ]


@pytest.mark.parametrize(
    ("phases", "settled", "code"),
    [
        ([], True, 4),
        (["running", "running"], True, 0),
        (["running", "fetching"], False, 4),
        (["running", "offline"], True, 4),
        (["running", "cannot-fit"], True, 2),
        (["cannot-fit", "starting"], False, 2),
        (["cannot-fit", "rejected"], True, 3),
        (["offline", "refused"], True, 3),
        (["running", "quarantined"], True, 3),
        (["aborted"], True, 3),
        (["superseded", "running"], True, 3),
    ],
)
def test_outcomes(phases: list[Phase], settled: bool, code: int) -> None:  # noqa: FBT001
    found = outcome([DeviceProgress(f"d{n}", phase) for n, phase in enumerate(phases)])

    assert (found.settled, found.exit_code) == (settled, code)


def test_an_outcome_counts() -> None:
    found = outcome([DeviceProgress("a", "running"), DeviceProgress("b", "running")])

    assert found.message == "2 running"


def test_another_schedule_for_the_same_bundle_is_not_there_before_the_device_has_it() -> None:
    quick = Schedule(dwell=Dwell(hold_s=1.0))
    again = D.with_(schedule=quick)
    running = reporting("running", running=REF)
    assert only(running, of=again).phase == "pending"
    assert running.desired is not None
    has_it = replace(running, desired=running.desired.with_(schedule=quick))
    assert only(has_it, of=again).phase == "running"
    # A later deployment of another cascade may bring lines of its own: these then rule here.
    elsewhere = ref_of(make_bundle(name="other"))
    other = deployment(elsewhere, order=again.order + 1, schedule=Schedule())
    assert only(running, of=again, others=(other,)).phase == "running"
