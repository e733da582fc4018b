"""What the device says, with and without a broker."""

from dataclasses import dataclass, field

from agent.reporting.publisher import Publisher, clock_synced, own_rss_mib
from agent.sensors.oom import OomCount
from protocols.device import Event, Inventory, Reported, Rungs, Sample, Status, Telemetry
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
