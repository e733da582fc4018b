from dataclasses import replace

import pytest

from controller.fleet import Device, Fleet
from controller.repair import REJECTED_S, STALLED_S, stalled_bundles
from controller.session import REPAIR_EVERY_S
from protocols.chunks import CHUNK_BYTES, Digests, chunk_list, listed_ref
from protocols.device import Reported, ReportedCascade
from protocols.errors import ArtifactError
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


def test_wrong_bytes_are_put_out_again_once_each_time_that_they_are_rejected() -> None:
    def known(message: str) -> Fleet:
        cascade = ReportedCascade(bundle=REF, phase="rejected", message=message)
        reported = Reported(device="pi", boot_id="b", cascades=(cascade,))
        return fleet(device(reported=reported, reported_s=NOW_S))

    wrong = known(_rejection())
    assert stalled_bundles(wrong, NOW_S + STALLED_S - 1) == ()
    assert stalled_bundles(wrong, NOW_S + STALLED_S) == (REF,)
    assert stalled_bundles(wrong, NOW_S + STALLED_S + REJECTED_S) == ()
    assert REJECTED_S <= REPAIR_EVERY_S, "not twice"
    other = known("cannot run digits@1: golden sample 3 is answered wrongly")
    assert stalled_bundles(other, NOW_S + STALLED_S) == ()


def _rejection() -> str:
    """Return what is said of a chunk with other bytes."""
    content = bytes(CHUNK_BYTES + 1)
    with pytest.raises(ArtifactError) as caught:
        Digests(listed_ref(content), chunk_list(content)).check(1, b"2")
    return str(caught.value)


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
