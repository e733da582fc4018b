import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.fleet import GAP_S, Change, Device, Fleet, RungHistory
from protocols.desired import Desired
from protocols.device import Event, Reported
from protocols.errors import MessageError, SluiceError, TopicError, TrustError
from protocols.message import Message
from tests.controller.cascades import make_bundle, ref_of
from tests.controller.world import (
    CONTROLLER,
    KEYS,
    NOW_S,
    RELEASE,
    TOPICS,
    controller,
    deployment,
    desired,
    inventory,
    pins,
    status,
    telemetry,
)

REF = ref_of(make_bundle())


def empty() -> Fleet:
    return Fleet(TOPICS, KEYS)


def folded(*documents: tuple[str, bytes], now_s: float = NOW_S) -> Fleet:
    fleet = empty()
    for topic, payload in documents:
        fleet.fold(topic, payload, now_s)
    return fleet


def own(kind: str, document: Message, name: str = "pi") -> tuple[str, bytes]:
    return f"{TOPICS.root}/devices/{name}/{kind}", document.encode()


VALID: dict[str, bytes] = dict(
    [
        own("status", status()),
        own("inventory", inventory()),
        own("telemetry", telemetry()),
        own("reported", Reported(device="pi", boot_id="b1")),
        own(
            "events",
            Event(device="pi", boot_id="b1", seq=1, ts=1.0, kind="loaded", message="loaded"),
        ),
        (TOPICS.device("pi", "desired"), CONTROLLER.sign_desired(desired())),
        (TOPICS.device("pi", "pins"), RELEASE.sign_pins(pins())),
        (TOPICS.deployment("digits-v1-1"), RELEASE.sign_deployment(deployment(REF))),
        (TOPICS.controller("me"), controller().encode()),
    ]
)


def test_every_document_finds_its_place() -> None:
    fleet = folded(*VALID.items())

    device = fleet.devices["pi"]
    assert (device.status, device.inventory) == (status(), inventory())
    assert (device.telemetry, device.heard_s) == (telemetry(), NOW_S)
    assert device.desired == desired()
    assert device.pins == pins()
    assert device.online
    assert fleet.deployments == {"digits-v1-1": deployment(REF)}
    assert fleet.alive("serve") == ["me"]
    assert fleet.alive("deploy") == []


def test_the_same_document_again_changes_nothing() -> None:
    fleet = folded(*VALID.items())
    kept = {topic for topic in VALID if "events" not in topic and "reported" not in topic}

    assert all(fleet.fold(topic, VALID[topic], NOW_S + 1) is None for topic in kept)


def test_empty_payloads_delete_and_an_empty_device_goes() -> None:
    fleet = folded(*(found for found in VALID.items() if "telemetry" not in found[0]))

    for topic in VALID:
        fleet.fold(topic, b"", NOW_S)

    assert (fleet.devices, fleet.deployments, fleet.controllers) == ({}, {}, {})
    assert fleet.fold(TOPICS.device("nobody", "status"), b"", NOW_S) is None


def test_an_event_is_handed_on() -> None:
    topic = TOPICS.device("pi", "events")

    change = empty().fold(topic, VALID[topic], NOW_S)

    assert change == Change("event", "pi", Event.decode(VALID[topic]))


@pytest.mark.parametrize("topic", [t for t in VALID if "/devices/" in t])
def test_a_document_of_another_device_is_refused(topic: str) -> None:
    with pytest.raises(MessageError, match="in place of 'other'"):
        empty().fold(topic.replace("/pi/", "/other/"), VALID[topic], NOW_S)


def test_a_document_of_another_name_or_fleet_is_refused() -> None:
    with pytest.raises(MessageError, match="in place of 'other'"):
        empty().fold(TOPICS.deployment("other"), VALID[TOPICS.deployment("digits-v1-1")], NOW_S)
    with pytest.raises(MessageError, match="in place of 'other'"):
        empty().fold(TOPICS.controller("other"), controller().encode(), NOW_S)
    foreign = CONTROLLER.sign_desired(desired(fleet="foreign"))
    with pytest.raises(MessageError, match="fleet"):
        empty().fold(TOPICS.device("pi", "desired"), foreign, NOW_S)
    with pytest.raises(TopicError):
        empty().fold("sluice/v1/foreign/devices/pi/status", status().encode(), NOW_S)


def test_the_wrong_role_and_no_keys_at_all_are_not_trusted() -> None:
    by_release = RELEASE.__class__(CONTROLLER.public, b"1" * 32).sign_desired(desired())
    with pytest.raises(TrustError):
        empty().fold(TOPICS.device("pi", "desired"), by_release, NOW_S)
    with pytest.raises(TrustError, match=r"no trust\.json"):
        Fleet(TOPICS, None).fold(*own_desired(), NOW_S)


def own_desired(generation: int = 1) -> tuple[str, bytes]:
    return TOPICS.device("pi", "desired"), CONTROLLER.sign_desired(desired("pi", generation))


def test_the_echo_of_an_older_generation_changes_nothing_but_the_broker_s_word_does() -> None:
    fleet = folded(own_desired(7))

    fleet.fold(*own_desired(6), NOW_S)
    assert _generation(fleet) == 7
    fleet.fold(*own_desired(6), NOW_S, retained=True)
    assert _generation(fleet) == 6


def _generation(fleet: Fleet) -> int:
    document = fleet.devices["pi"].desired
    assert isinstance(document, Desired)
    return document.generation


def test_late_and_repeated_telemetry_is_dropped() -> None:
    fleet = folded(own("telemetry", telemetry(seq=5, residency=1)))

    assert fleet.fold(*own("telemetry", telemetry(seq=4)), NOW_S) is None
    assert fleet.fold(*own("telemetry", telemetry(seq=5)), NOW_S) is None
    assert fleet.fold(*own("telemetry", telemetry(seq=1, boot_id="b2")), NOW_S) is not None


def test_rung_history_counts_from_the_crossing() -> None:
    history = RungHistory()
    for now_s, rung in ((100.0, 0), (110.0, 2), (120.0, 3), (130.0, 2)):
        history = history.heard(rung, now_s, anew=False)

    assert history.at_least_s(2, 140.0) == 30.0
    assert history.at_least_s(3, 140.0) == 0.0
    assert history.at_most_s(2, 140.0) == 10.0
    assert history.at_most_s(0, 140.0) == 0.0
    assert RungHistory().at_most_s(0, 140.0) == 0.0


def test_a_silence_or_a_new_run_begins_the_history_anew() -> None:
    fleet = empty()
    fleet.fold(*own("telemetry", telemetry(seq=1, residency=2)), 0.0)
    fleet.fold(*own("telemetry", telemetry(seq=2, residency=2)), 50.0)
    assert fleet.devices["pi"].residency.at_least_s(2, 60.0) == 60.0

    fleet.fold(*own("telemetry", telemetry(seq=3, residency=2)), 51.0 + GAP_S)
    assert fleet.devices["pi"].residency.at_least_s(2, 60.0 + GAP_S) == 9.0
    fleet.fold(*own("telemetry", telemetry(seq=1, residency=2, boot_id="b2")), 61.0 + GAP_S)
    assert fleet.devices["pi"].residency.at_least_s(2, 61.0 + GAP_S) == 0.0


@given(st.lists(st.tuples(st.floats(0.1, 50), st.integers(0, 4)), min_size=1, max_size=30))
def test_rung_history_agrees_with_a_record_of_everything(readings: list[tuple[float, int]]) -> None:
    history, record, now_s = RungHistory(), [], 0.0
    for wait_s, rung in readings:
        now_s += wait_s
        history = history.heard(rung, now_s, anew=False)
        record.append((now_s, rung))

    for k in range(1, 5):
        for above in (True, False):
            held = 0.0
            for when_s, rung in reversed(record):
                if (rung >= k) != above:
                    break
                held = now_s - when_s
            got = history.at_least_s(k, now_s) if above else history.at_most_s(k - 1, now_s)
            assert got == pytest.approx(held)


def test_a_snapshot_stays_as_it_was() -> None:
    fleet = folded(own("status", status()))
    snapshot = fleet.copy()

    fleet.fold(*own("status", status("other"), "other"), NOW_S)

    assert set(snapshot.devices) == {"pi"}
    assert snapshot.selected() == [Device("pi", status=status())]


def test_without_documents_only_telemetry_is_left() -> None:
    fleet = folded(*VALID.items(), own("status", status("quiet"), "quiet"))

    left = fleet.without_documents()

    assert set(left.devices) == {"pi"}
    assert left.devices["pi"].telemetry == telemetry()
    assert left.devices["pi"].desired is None
    assert (left.deployments, left.controllers) == ({}, {})


def test_selection_by_name_and_label() -> None:
    fleet = folded(
        own("inventory", inventory("a", labels={"room": "1", "os": "x"}), "a"),
        own("inventory", inventory("b", labels={"room": "2", "os": "x"}), "b"),
        own("status", status("c"), "c"),
    )

    def names(*args: object) -> list[str]:
        return [device.name for device in fleet.selected(*args)]  # type: ignore[arg-type]

    assert names() == ["a", "b", "c"]
    assert names((), {"os": "x"}) == ["a", "b"]
    assert names(("a", "c"), {"os": "x"}) == ["a"]
    assert names(("nobody",)) == []


@settings(max_examples=300, deadline=None)
@given(topic=st.sampled_from(sorted(VALID)), data=st.data())
def test_malformed_payloads_raise_our_errors_and_change_nothing(
    topic: str, data: st.DataObject
) -> None:
    valid = VALID[topic]
    start = data.draw(st.integers(0, len(valid)))
    mutated = valid[:start] + data.draw(st.binary(max_size=8)) + valid[start + 1 :]
    payload = data.draw(st.sampled_from([mutated, data.draw(st.binary(min_size=1))]))
    fleet = folded(*VALID.items())
    before = fleet.copy()

    try:
        fleet.fold(topic, payload, NOW_S)
    except SluiceError:
        assert fleet == before
