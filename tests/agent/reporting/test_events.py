"""What is told of stages and cascades, and how often."""

from agent.reporting.events import Announcer, LossWatch, Repeats
from agent.runner.control import StageChanged
from protocols.bundle import ArtifactRef, BundleRef
from protocols.desired import DesiredCascade
from protocols.device import Event, Sample
from tests.agent.reporting.test_publisher import INVENTORY, Wire, speak


def listening() -> tuple[Wire, Announcer]:
    wire, publisher = speak()
    publisher.connected(INVENTORY)
    wire.sent.clear()
    return wire, Announcer(publisher)


def told(wire: Wire) -> list[str]:
    return [Event.decode(payload).message for _, payload, *_ in wire.sent]


def loaded(cause: str = "a request needs it") -> StageChanged:
    return StageChanged(
        change="loaded",
        cascade="digits",
        stage="large",
        variant="int8",
        cause=cause,
        threads=1,
        rss_mib=40.0,
    )


def cascade(version: int) -> DesiredCascade:
    artifact = ArtifactRef(sha256=f"{version:064x}", size_bytes=1)
    return DesiredCascade(
        bundle=BundleRef(name="digits", version=version, artifact=artifact),
        variants={"only": "int8"},
    )


def test_what_happens_again_and_again_is_told_now_and_then() -> None:
    repeats = Repeats()
    assert repeats.count(("loaded", "large"), 0.0) == 0
    assert [repeats.count(("loaded", "large"), at_s) for at_s in (1.0, 2.0, 29.0)] == [None] * 3
    assert repeats.count(("unloaded", "large"), 29.0) == 0
    assert repeats.count(("loaded", "large"), 30.0) == 3
    assert repeats.count(("loaded", "large"), 31.0) is None
    assert repeats.count(("loaded", "large"), 90.0) == 1


def test_the_event_says_how_often_it_went_untold() -> None:
    wire, announcer = listening()
    for at_s in (0.0, 1.0, 2.0, 40.0):
        announcer.stage(loaded(), None, at_s)
    announcer.stage(loaded("assigned"), None, 41.0)
    first, again, other = told(wire)
    assert "more since" not in first
    assert "2 times more" in again
    assert other.endswith("assigned")


def test_threads_that_stay_as_they_are_make_no_event() -> None:
    wire, announcer = listening()
    change = loaded("battery 38 % <= 40 %").with_(change="threads", threads=2)
    announcer.stage(change, 2, 0.0)
    assert told(wire) == []
    announcer.stage(change, 4, 0.0)
    assert "4 -> 2 threads" in told(wire)[0]


def test_a_cascade_that_comes_changes_and_goes() -> None:
    wire, announcer = listening()
    announcer.served((cascade(1),), frozenset({cascade(1).bundle.artifact.sha256}))
    announcer.served((cascade(2),), frozenset())
    announcer.served((), frozenset())
    came, changed, went = told(wire)
    assert came.startswith("digits 1")
    assert "instead of digits 1" in changed
    assert went == "digits 2 (only=int8) does not serve any more"


def test_a_sensor_that_is_lost_is_told_once() -> None:
    wire, publisher = speak()
    publisher.connected(INVENTORY)
    watch = LossWatch(publisher)
    wire.sent.clear()
    for value in (None, 50.0, None, None, 51.0, None):
        watch.look(Sample(time_s=0, temperature_c=value))
    assert [Event.decode(p).kind for _, p, *_ in wire.sent] == ["sensor-lost"] * 2
    assert "temperature_c" in Event.decode(wire.sent[0][1]).message


def test_a_board_that_tells_its_voltage_alone_can_lose_it() -> None:
    wire, publisher = speak()
    publisher.connected(INVENTORY)
    watch = LossWatch(publisher)
    wire.sent.clear()
    for low in (None, False, True, None, None):
        watch.look(Sample(time_s=0, low_voltage=low))
    (event,) = [Event.decode(payload) for _, payload, *_ in wire.sent]
    assert event.message.startswith("low_voltage cannot be read any more")
