from fnmatch import fnmatchcase

from controller.fleet import Fleet
from controller.sync import MARKER_TIMEOUT_S, QUIET_S, Sync, filters, marker_topic
from protocols.topics import DEVICE_KINDS
from tests.controller.world import NOW_S, TOPICS


def sync() -> Sync:
    return Sync(Fleet(TOPICS, None), "marker", 100.0)


def test_all_have_come_when_the_marker_is_back_and_it_is_quiet() -> None:
    found = sync()
    found.hear("marker", 100.1, retained=False)
    found.hear("late", 100.2, retained=True)

    assert not found.is_done(100.2 + QUIET_S / 2)
    assert found.is_done(100.2 + QUIET_S * 1.1)


def test_live_messages_hold_nothing_up() -> None:
    found = sync()
    found.hear("marker", 100.1, retained=False)
    found.hear("telemetry", 100.15, retained=False)

    assert found.is_done(100.15)


def test_without_the_marker_it_takes_longer() -> None:
    found = sync()

    assert not found.is_done(100.0 + MARKER_TIMEOUT_S - 0.1)
    assert found.is_done(100.0 + MARKER_TIMEOUT_S)


def test_the_filters_take_every_document_in_and_no_artifact() -> None:
    found = filters(TOPICS)

    def taken(topic: str) -> bool:
        return any(fnmatchcase(topic, one.replace("+", "*")) for one in found)

    assert all(taken(TOPICS.device("pi", kind)) for kind in DEVICE_KINDS)
    assert taken(TOPICS.deployment("x"))
    assert taken(TOPICS.controller("x"))
    assert not taken(TOPICS.chunk("0" * 64, 0))
    assert not any("#" in one for one in found)


def test_a_marker_is_a_document_of_nobody() -> None:
    fleet = Fleet(TOPICS, None)

    assert fleet.fold(marker_topic(TOPICS), b"", NOW_S) is None
