"""Topics are built and taken apart in one place; no name can reach outside of its level."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import TopicError
from protocols.topics import DEVICE_KINDS, DeviceKind, TopicName, Topics, check_name

HOME = Topics("home")
SHA = "0123456789abcdef" * 4

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", fullmatch=True)
hostile = pytest.mark.parametrize(
    "name",
    [
        "",
        "a/b",
        "/",
        "..",
        ".hidden",
        "-rf",
        "_x",
        "+",
        "a+",
        "#",
        "a#",
        "$SYS",
        "a\x00b",
        "a\nb",
        "a\n",
        "a b",
        "küche",
        "١٢",
        "x" * 64,
    ],
)


@given(fleet=names, device=names, kind=st.sampled_from(DEVICE_KINDS))
def test_device_topics_round_trip(fleet: str, device: str, kind: DeviceKind) -> None:
    topics = Topics(fleet)
    assert topics.parse(topics.device(device, kind)) == TopicName(kind, device)


@given(name=names)
def test_deployment_and_controller_topics_round_trip(name: str) -> None:
    assert HOME.parse(HOME.deployment(name)) == TopicName("deployment", name)
    assert HOME.parse(HOME.controller(name)) == TopicName("controller", name)


@given(version=st.integers(0, 999_999_999), entry=names)
def test_key_and_audit_topics_round_trip(version: int, entry: str) -> None:
    assert HOME.parse(HOME.keys(version)) == TopicName("keys", str(version))
    assert HOME.parse(HOME.audit(entry)) == TopicName("audit", entry)


@given(sha256=st.from_regex(r"[0-9a-f]{64}", fullmatch=True), number=st.integers(0, 1 << 20))
def test_chunk_topics_round_trip(sha256: str, number: int) -> None:
    assert HOME.parse(HOME.chunk(sha256, number)) == TopicName("artifact", sha256, number)


def test_the_topics_are_the_documented_ones() -> None:
    assert HOME.device("pi-1", "desired") == "sluice/v1/home/devices/pi-1/desired"
    assert HOME.device("+", "status") == "sluice/v1/home/devices/+/status"
    assert HOME.deployment("digits-3") == "sluice/v1/home/deployments/digits-3"
    assert HOME.controller("office") == "sluice/v1/home/controllers/office/status"
    assert HOME.chunk(SHA, 7) == f"sluice/v1/home/artifacts/{SHA}/7"
    assert HOME.keys(3) == "sluice/v1/home/keys/3"
    assert HOME.audit("1764000000500-1a2b3c4d") == "sluice/v1/home/audit/1764000000500-1a2b3c4d"


@hostile
def test_a_name_that_could_leave_its_level_is_none(name: str) -> None:
    with pytest.raises(TopicError, match=r"^cannot use fleet "):
        Topics(name)
    with pytest.raises(TopicError, match=r"^cannot use device "):
        check_name(name, "device")
    for topic in (
        HOME.device(name, "status"),
        HOME.deployment(name),
        HOME.controller(name),
        HOME.audit(name),
    ):
        with pytest.raises(TopicError, match=r"^cannot use topic "):
            HOME.parse(topic)


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "sluice/v1/home",
        "sluice/v1/home/",
        "devices/pi/status",
        "other/sluice/v1/home/devices/pi/status",
        "sluice/v1/home/sluice/v1/home/devices/pi/status",
        "sluice/v1/other/devices/pi/status",
        "sluice/v2/home/devices/pi/status",
        "sluice/v1/home/devices/pi",
        "sluice/v1/home/devices/pi/secrets",
        "sluice/v1/home/devices/pi/status/more",
        "sluice/v1/home/controllers/office",
        f"sluice/v1/home/artifacts/{SHA}",
        f"sluice/v1/home/artifacts/{SHA}/-1",
        f"sluice/v1/home/artifacts/{SHA}/x",
        f"sluice/v1/home/artifacts/{SHA}/{'9' * 5000}",
        f"sluice/v1/home/artifacts/{SHA}/²",
        f"sluice/v1/home/artifacts/{SHA.upper()}/0",
        f"sluice/v1/home/artifacts/{SHA[1:]}/0",
        "$SYS/broker/uptime",
    ],
)
def test_a_topic_that_is_not_of_the_fleet_is_refused(topic: str) -> None:
    with pytest.raises(TopicError, match=r"^cannot use topic .* not one of fleet 'home'"):
        HOME.parse(topic)


@given(topic=st.text())
def test_any_text_is_a_topic_of_ours_or_a_topic_error(topic: str) -> None:
    with pytest.raises(TopicError):
        HOME.parse(topic)
