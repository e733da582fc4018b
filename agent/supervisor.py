"""The supervisor: one inbox, one thread that decides; everything else only puts messages in."""

import fcntl
import gc
import logging
import queue
import signal
import time
import uuid
from io import TextIOWrapper

from agent.child import RunnerProcess
from agent.config import Config
from agent.errors import StartError
from agent.fetch import Fetcher
from agent.fit import budget_mib
from agent.inbox import (
    Connected,
    Disconnected,
    FetchDone,
    FetchFailed,
    FetchProgress,
    Inbox,
    Message,
    Received,
    RunnerExited,
    RunnerSaid,
    Stop,
)
from agent.intake import Intake
from agent.inventory import agent_version, take_inventory
from agent.ledger import LedgerFile
from agent.listen import Listener, listen_tcp, listen_unix
from agent.notary import Notary
from agent.reflex import Reflex
from agent.roster import Roster
from agent.runner.control import Stats
from agent.sensors import Sensors, read_hardware
from agent.shelf import BundleShelf
from agent.store import Store
from agent.swap import Counted, Outcome, Serving, Swap
from agent.telemetry import Voice
from agent.timer import Timer
from agent.watch import LossWatch
from agent.watchdog import Watchdog
from agent.wording import rung_moved
from protocols.device import Reported, Status
from protocols.errors import SluiceError
from protocols.link import Link, Will
from protocols.topics import Topics

log = logging.getLogger("sluice.agent")

_REST_EVERY_S = 15.0
_STATS_WITHIN_S = 1.0
_STOP_WITHIN_S = 10.0


class Supervisor:
    """The agent. It is whole once it is made; `run` lets it live until a signal ends it.

    Raises:
        StartError: something that it needs is missing, wrong or in use.
    """

    def __init__(self, config: Config) -> None:
        keys, broker = config.key_set(), config.session()
        self._config, self._lock = config, _claim(config)
        self.inbox: Inbox = queue.SimpleQueue()
        self._listeners = _listen(config)
        self._topics = Topics(config.fleet)
        self._boot_id = uuid.uuid4().hex
        hardware = read_hardware(config.sensors.sysroot)
        endpoints = tuple(listener.url for listener in self._listeners)
        self._inventory = take_inventory(config, hardware, endpoints)
        self._desired_topic = self._topics.device(config.id, "desired")
        self._status_topic = self._topics.device(config.id, "status")
        status = Status(
            device=config.id, online=False, boot_id=self._boot_id, version=agent_version()
        )
        self._link = Link(
            broker,
            f"sluice-{config.fleet}-{config.id}",
            lambda topic, payload, _retained: self.inbox.put(Received(topic, payload)),
            on_connected=lambda: self.inbox.put(Connected()),
            on_disconnected=lambda reason: self.inbox.put(Disconnected(reason)),
            will=Will(self._status_topic, status.encode()),
        )
        self._link.subscribe(self._desired_topic, self._status_topic)
        self._voice = Voice(self._link.publish, self._topics, status)
        self._watchdog, self._notary = Watchdog(), Notary()
        self._swap = Swap(self._spawn, time.monotonic)
        store = Store(config.state_dir)
        self._fetcher = Fetcher(
            broker,
            self._topics,
            config.id,
            store,
            self.inbox.put,
            jitter_s=config.fetch.jitter_s,
            give_up_s=config.fetch.give_up_s,
        )
        ledger = LedgerFile(config.state_dir / "ledger.json")
        self._intake = Intake(config.id, keys, self._notary.holds, ledger, self._voice)
        sensors = Sensors(config.sensors.sysroot, self._swap.pids)
        self._reflex = Reflex(sensors, self._intake.schedule)
        self._losses = LossWatch(self._voice)
        self._roster = Roster(
            intake=self._intake,
            ledger=ledger,
            shelf=BundleShelf(store, keys, self._notary.holds),
            store=store,
            fetcher=self._fetcher,
            swap=self._swap,
            reflex=self._reflex,
            voice=self._voice,
            cpus=hardware.cpus,
            budget_mib=budget_mib(hardware.memory_mib, hardware.memory_limit_mib),
        )
        self._ledger = ledger
        self._stats: Stats | None = None
        self._measure_by_s = float("inf")
        self._said_offline = self._connected = self._stopping = False
        now = time.monotonic()
        self._sense = Timer(config.sensors.interval_s, now)
        self._measure = Timer(config.telemetry.interval_s, now)
        self._rest = Timer(_REST_EVERY_S, now)
        self._ping = Timer(self._watchdog.interval_s, now)

    def run(self) -> int:
        """Live until SIGTERM or SIGINT; return the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda got, _: self.inbox.put(Stop(signal.Signals(got).name)))
        self._start()
        while not self._stopping:
            due_s = min(t.at_s for t in (self._sense, self._measure, self._rest, self._ping))
            wait_s = max(0.0, min(due_s, self._measure_by_s) - time.monotonic())
            try:
                message = self.inbox.get(timeout=wait_s)
            except queue.Empty:
                pass
            else:
                self.handle(message)
            self._tick()
        self._stop()
        return 0

    def handle(self, message: Message) -> None:
        """Act on one message. Nothing that it holds can end the agent."""
        try:
            self._dispatch(message)
        except SluiceError as error:
            log.warning("%s", error)
        except Exception:
            log.exception("cannot handle a %s", type(message).__name__)

    def _dispatch(self, message: Message) -> None:
        match message:
            case Received(topic, payload) if topic == self._desired_topic:
                if self._intake.take(payload):
                    self._roster.renewed()
            case Received(topic, payload) if topic == self._status_topic and payload:
                self._saw_status(Status.decode(payload))
            case Connected():
                log.info("connected to %s", self._config.session().url)
                self._connected = True
                self._voice.connected(self._inventory)
            case Disconnected(reason):
                log.warning("no broker: %s", reason)
                self._connected = False
                self._voice.disconnected()
            case FetchDone():
                self._roster.fetched(message)
            case FetchFailed():
                log.warning("%s", message.message)
                self._roster.missed(message)
            case RunnerSaid():
                self._runner_did(self._swap.heard(message))
            case RunnerExited():
                self._runner_did(self._swap.exited(message))
            case Stop(name):
                log.info("stopping: %s", name)
                self._stopping = True
            case FetchProgress() | Received():
                pass
        self._report()
