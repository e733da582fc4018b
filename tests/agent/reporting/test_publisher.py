"""What the device says, with and without a broker; sensors that are lost; the inner_loop's edge."""

from base64 import b64decode
from dataclasses import dataclass, field

from agent.signatures import SignatureChecker
from agent.sensors.oom import OomCount
from agent.inner_loop import InnerLoop, leaves_room
from agent.reporting.publisher import Publisher, clock_synced, own_rss_mib
from agent.timer import Timer
from agent.reporting.events import LossWatch
from protocols.device import Event, Inventory, Reported, Rungs, Sample, Status, Telemetry
from protocols.envelope import BUNDLE, generate_key, public_key, sign
from protocols.schedule import DEFAULT_THRESHOLDS, Dwell, Schedule
from protocols.topics import Topics

STATUS = Status(device="pi", online=False, boot_id="boot", version="1")
INVENTORY = Inventory(device="pi", agent_version="1", machine="x86_64")


@dataclass
class Wire:
    """What was published."""

    sent: list[tuple[str, bytes, int, bool]] = field(default_factory=list)

    def __call__(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        self.sent.append((topic.rpartition("/")[2], payload, qos, retain))

    def kinds(self) -> list[str]:
        return [kind for kind, *_ in self.sent]


def speak() -> tuple[Wire, Publisher]:
    wire = Wire()
    return wire, Publisher(wire, Topics("home"), STATUS, clock=lambda: 5.0)


def test_without_a_broker_events_wait_and_the_last_report_counts() -> None:
    wire, publisher = speak()
    for number in range(300):
        publisher.event("started", f"event {number}")
    publisher.report(Reported(device="pi", boot_id="boot", generation=1))
    publisher.report(Reported(device="pi", boot_id="boot", generation=2))
    publisher.measure(Sample(time_s=0), Rungs(), (), None)
    publisher.say_offline()
    assert wire.sent == []
    publisher.connected(INVENTORY)
    assert wire.kinds() == ["status", "inventory", "reported", *["events"] * 256]
    assert Status.decode(wire.sent[0][1]) == STATUS.with_(online=True)
    assert Reported.decode(wire.sent[2][1]).generation == 2
    assert all(retain for kind, _, _, retain in wire.sent if kind != "events")
    events = [Event.decode(payload) for kind, payload, *_ in wire.sent if kind == "events"]
    assert [e.seq for e in events] == list(range(44, 300))


def test_the_same_report_is_said_once_and_telemetry_counts_up() -> None:
    wire, publisher = speak()
    publisher.connected(INVENTORY)
    wire.sent.clear()
    for generation in (1, 1, 2):
        publisher.report(Reported(device="pi", boot_id="boot", generation=generation))
    assert wire.kinds() == ["reported", "reported"]
    for _ in range(2):
        publisher.measure(Sample(time_s=0), Rungs(), (), 3.5)
    kind, payload, qos, retain = wire.sent[-1]
    telemetry = Telemetry.decode(payload)
    assert (kind, qos, retain) == ("telemetry", 0, False)
    assert (telemetry.seq, telemetry.boot_id, telemetry.runner_rss_mib) == (1, "boot", 3.5)
    assert telemetry.supervisor_rss_mib is not None
    assert telemetry.supervisor_rss_mib > 5
    publisher.say_offline()
    assert Status.decode(wire.sent[-1][1]) == STATUS
    publisher.disconnected()
    publisher.event("stopping", "later")
    assert wire.kinds()[-1] == "status"


def test_the_process_knows_itself() -> None:
    rss_mib = own_rss_mib()
    assert rss_mib is not None
    assert rss_mib > 5
    assert clock_synced() in {True, False, None}
    assert not OomCount().rose()


def test_a_sensor_that_is_lost_is_told_once() -> None:
    wire, publisher = speak()
    publisher.connected(INVENTORY)
    watch = LossWatch(publisher)
    wire.sent.clear()
    for value in (None, 50.0, None, None, 51.0, None):
        watch.look(Sample(time_s=0, temperature_c=value))
    assert [Event.decode(p).kind for _, p, *_ in wire.sent] == ["sensor-lost"] * 2
    assert "temperature_c" in Event.decode(wire.sent[0][1]).message


# --- the inner_loop


@dataclass
class Scripted:
    """Sensors that give one reading after the other, and then the last one for ever."""

    percents: list[float]
    taken: int = 0

    def sample(self, now_s: float) -> Sample:
        percent = self.percents[min(self.taken, len(self.percents) - 1)]
        self.taken += 1
        return Sample(
            time_s=now_s,
            memory_total_mib=1000,
            memory_available_mib=percent * 10,
            memory_available_percent=percent,
        )


SCHEDULE = Schedule(
    thresholds={"memory_available_percent": DEFAULT_THRESHOLDS["memory_available_percent"]},
    dwell=Dwell(hold_s=2, recover_s=3),
)


def inner_loop(*percents: float) -> tuple[InnerLoop, Scripted, list[float]]:
    sensors, clock = Scripted(list(percents)), [0.0]
    return InnerLoop(sensors, SCHEDULE, lambda: clock[0]), sensors, clock


def test_before_an_unload_memory_is_read_once_more() -> None:
    found, sensors, _ = inner_loop(90, 5, 90)
    assert found.sense(SCHEDULE, lambda *_: True) == ()
    assert found.rungs.residency == 0
    assert sensors.taken == 3
    found, sensors, _ = inner_loop(90, 5, 5)
    (change,) = found.sense(SCHEDULE, lambda *_: True)
    assert (change.before, change.after) == (0, 4)
    assert sensors.taken == 3


def test_a_recovery_asks_whether_it_fits_by_the_sample_at_hand() -> None:
    found, _, clock = inner_loop(90, 5, 5, 90)
    found.sense(SCHEDULE, lambda *_: True)
    asked: list[tuple[float | None, int]] = []

    def fits(sample: Sample, rung: int) -> bool:
        asked.append((sample.memory_available_mib, rung))
        return len(asked) > 1

    for clock[0] in (1.0, 2.0, 3.0, 4.0):
        found.sense(SCHEDULE, fits)
    assert asked == [(900, 3), (900, 3)]
    assert found.rungs.residency == 3


def test_what_is_left_must_not_ask_for_the_worse_rung_again() -> None:
    line = SCHEDULE.thresholds["memory_available_percent"]
    sample = Sample(time_s=0, memory_total_mib=1000, memory_available_mib=300)
    assert leaves_room(sample, 20, 0, line)  # 28 % left, R1 begins at 25 %
    assert not leaves_room(sample, 40, 0, line)
    assert leaves_room(sample, 149, 2, line)  # 15.1 % left, R3 begins at 13 %
    assert not leaves_room(sample, 150, 2, line)
    assert leaves_room(Sample(time_s=0), 1e6, 0, line)
    assert leaves_room(sample, 1e6, 0, None)


def test_a_timer_is_due_again_and_again_and_skips_what_it_missed() -> None:
    timer = Timer(1.0, 10.0)
    assert timer.is_due(10.0)
    assert not timer.is_due(10.9)
    assert timer.is_due(11.05)
    assert timer.at_s == 12.0
    assert timer.is_due(20.0)
    assert timer.at_s == 20.0
    assert not Timer(None, 0.0).is_due(1e9)


def test_the_notary_checks_in_a_process_of_its_own() -> None:
    key = generate_key()
    envelope = sign(STATUS, BUNDLE, [key])
    public = b64decode(public_key(key, "release").public)
    body, signature = b64decode(envelope.payload), b64decode(envelope.signatures[0].sig)
    message = b"DSSEv1 %d %s %d %s" % (len(BUNDLE), BUNDLE.encode(), len(body), body)
    signatures = SignatureChecker()
    assert signatures.holds(public, signature, message)
    assert not signatures.holds(public, signature, message + b"x")
    assert not signatures.holds(public, b"", message)
    signatures.rest()
    assert signatures.holds(public, signature, message)
    signatures.rest()
    signatures.rest()
