from dataclasses import replace

from controller.fleet import Device
from controller.repair import STALLED_S, stalled_bundles
from protocols.device import Reported, ReportedCascade
from tests.controller.cascades import make_bundle, ref_of
from tests.controller.world import NOW_S, device, fleet, status

REF = ref_of(make_bundle())


def fetching(since_s: float = NOW_S) -> Device:
    cascade = ReportedCascade(bundle=REF, phase="fetching")
    return device(
        reported=Reported(device="pi", boot_id="b", cascades=(cascade,)), reported_s=since_s
    )


def test_a_fetch_that_stands_still_is_stalled() -> None:
    found = fleet(fetching())

    assert stalled_bundles(found, NOW_S + STALLED_S - 1) == ()
    assert stalled_bundles(found, NOW_S + STALLED_S) == (REF,)


def test_a_device_that_says_what_it_waits_for_misses_nothing() -> None:
    waiting = ReportedCascade(bundle=REF, phase="fetching", message="waits: the link is metered")
    reported = Reported(device="pi", boot_id="b", cascades=(waiting,))
    found = fleet(device(reported=reported, reported_s=NOW_S))

    assert stalled_bundles(found, NOW_S + 1000) == ()


def test_a_device_that_is_away_or_done_waits_for_nothing() -> None:
    away = replace(fetching(), status=status(online=False))
    done = replace(
        fetching(),
        reported=Reported(
            device="pi",
            boot_id="b",
            cascades=(ReportedCascade(bundle=REF, phase="running", running=REF),),
        ),
    )

    for one in (away, done, device()):
        assert stalled_bundles(fleet(one), NOW_S + 1000) == ()
