"""The supervisor: one inbox, one thread that decides; everything else only puts messages in."""

import gc
import logging
import queue
import signal
import time
from collections.abc import Callable

from agent.child import RunnerProcess
from agent.config import Config
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
from agent.inventory import take_inventory
from agent.ledger import LedgerFile
from agent.listen import Listener, claim, listen
from agent.notary import Notary
from agent.outcomes import Counted, Outcome, Serving
from agent.presence import Presence
from agent.reflex import Reflex
from agent.roster import Roster
from agent.sensors import Hardware, Sensors, read_hardware
from agent.shelf import BundleShelf
from agent.store import Store
from agent.swap import Swap
from agent.timer import Timer
from agent.watch import LossWatch
from agent.watchdog import Watchdog
from agent.wording import rung_moved
from protocols.device import Reported
from protocols.errors import SluiceError

log = logging.getLogger("sluice.agent")

_REST_EVERY_S = 15.0
_STATS_WITHIN_S = 1.0
_STOP_WITHIN_S = 10.0
_HEALTHY_S = 30.0
"""The work loop is healthy if a look at the sensors has come to its end within this time."""
_NEVER_S = float("inf")


class Supervisor:
    """The agent. `run` lets it live until a signal ends it.

    Raises:
        StartError: something that it needs is missing, wrong or in use.
    """

    def __init__(self, config: Config) -> None:
        keys = config.key_set()
        self._claim = claim(config.state_dir)
        self._listeners: tuple[Listener, ...] = listen(config)
        self.inbox: Inbox = queue.SimpleQueue()
        hardware = read_hardware(config.sensors.sysroot)
        endpoints = tuple(listener.url for listener in self._listeners)
        inventory = take_inventory(config, hardware, endpoints)
        self._presence = Presence(config, inventory, self.inbox)
        self._voice = self._presence.voice
        self._watchdog, self._notary = Watchdog(), Notary()
        self._swap = Swap(self._spawn, time.monotonic)
        self._ledger = LedgerFile(config.state_dir / "ledger.json")
        self._intake = Intake(config.id, keys, self._notary.holds, self._ledger, self._voice)
        sensors = Sensors(config.sensors.sysroot, self._swap.pids)
        self._reflex = Reflex(sensors, self._intake.schedule)
        self._losses = LossWatch(self._voice)
        self._fetcher, self._roster = self._make_roster(config, hardware)
        self._config = config
        self._counted: Counted | None = None
        self._measure_by_s = _NEVER_S
        self._stopping = False
        now_s = self._looked_s = time.monotonic()
        self._sense = Timer(config.sensors.interval_s, now_s)
        self._measure = Timer(config.telemetry.interval_s, now_s)
        self._rest = Timer(_REST_EVERY_S, now_s)
        self._ping = Timer(self._watchdog.interval_s, now_s)

    @property
    def generation(self) -> int:
        """The last generation that was accepted."""
        return self._ledger.now.generation

    def run(self) -> int:
        """Live until SIGTERM or SIGINT; return the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda got, _: self.inbox.put(Stop(signal.Signals(got).name)))
        self._start()
        while not self._stopping:
            message = self._next_message()
            if message is not None:
                self.handle(message)
            self._tick()
        self.stop()
        return 0

    def handle(self, message: Message) -> None:
        """Act on one message. Nothing that it holds can end the agent."""
        self._safely(lambda: self._dispatch(message), type(message).__name__)

    def stop(self) -> None:
        """Say goodbye, let requests that are under way be answered, and leave nothing behind."""
        self._watchdog.stopping()
        self._voice.say_offline()
        self._fetcher.stop()
        self._drain()
        self._swap.kill()
        self._presence.leave()
        self._notary.rest()
        for listener in self._listeners:
            listener.close()
        self._claim.close()

    def _dispatch(self, message: Message) -> None:  # noqa: C901 - one line for every message
        match message:
            case Received(topic, payload) if topic == self._presence.desired_topic:
                if self._intake.take(payload):
                    self._roster.renewed()
            case Received(topic, payload) if topic == self._presence.status_topic:
                self._presence.saw_status(payload)
            case Connected():
                self._presence.connected()
            case Disconnected(reason):
                self._presence.disconnected(reason)
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
                self._stopping = True
                self._voice.event("stopping", f"the agent stops: {name}")
            case FetchProgress() | Received():
                pass
        self._report()

    def _start(self) -> None:
        what = self._presence.introduction
        self._voice.event("started", what)
        self._safely(lambda: self._roster.ensure("the agent started"), "the start")
        self._report()
        self._presence.start()
        self._watchdog.ready(what)
        gc.collect()
        gc.freeze()

    def _next_message(self) -> Message | None:
        """Wait for a message until the next timer is due."""
        timers = (self._sense, self._measure, self._rest, self._ping)
        due_s = min(self._measure_by_s, self._swap.wake_s(), *(timer.at_s for timer in timers))
        try:
            return self.inbox.get(timeout=max(0.0, due_s - time.monotonic()))
        except queue.Empty:
            return None

    def _tick(self) -> None:
        """Do what is due."""
        now_s = time.monotonic()
        self._safely(lambda: self._runner_did(self._swap.tick()), "the runners")
        if self._sense.is_due(now_s):
            self._safely(self._look, "a look at the sensors")
        if self._measure.is_due(now_s):
            self._measure_by_s = now_s + (_STATS_WITHIN_S if self._swap.ask_stats() else 0)
        if now_s >= self._measure_by_s:
            self._safely(self._publish_measurements, "telemetry")
        if self._rest.is_due(now_s):
            self._notary.rest()
        if self._ping.is_due(now_s) and now_s - self._looked_s < _HEALTHY_S:
            self._watchdog.ping()

    def _look(self) -> None:
        """Read the sensors and let the governor decide."""
        before = self._reflex.rungs
        changes = self._reflex.sense(self._intake.schedule, self._roster.fits)
        for change in changes:
            self._voice.event("rung", rung_moved(change))
        self._losses.look(self._reflex.sample)
        if changes or self._reflex.rungs != before:
            self._roster.ensure("; ".join(change.cause for change in changes) or "spacing")
        self._presence.insist()
        self._report()
        self._looked_s = time.monotonic()

    def _runner_did(self, outcomes: tuple[Outcome, ...]) -> None:
        for outcome in outcomes:
            if isinstance(outcome, Serving):
                self._counted = None
            elif isinstance(outcome, Counted):
                self._counted = outcome
                if self._measure_by_s < _NEVER_S:
                    self._publish_measurements()
        self._roster.happened(outcomes)
        if outcomes:
            self._report()

    def _publish_measurements(self) -> None:
        self._measure_by_s = _NEVER_S
        stats = self._counted.stats if self._counted else None
        self._voice.measure(
            self._reflex.sample,
            self._reflex.rungs,
            stats.cascades if stats else (),
            round(stats.rss_mib, 2) if stats else None,
        )

    def _report(self) -> None:
        self._voice.report(
            Reported(
                device=self._config.id,
                boot_id=self._presence.boot_id,
                generation=self.generation,
                cascades=self._roster.reported(),
                rungs=self._reflex.rungs,
                refusal=self._intake.refusal,
            )
        )

    def _drain(self) -> None:
        """Wait until the runners have left; a second signal ends the wait."""
        deadline_s = time.monotonic() + _STOP_WITHIN_S
        while self._swap.drain() and (left_s := deadline_s - time.monotonic()) > 0:
            try:
                message = self.inbox.get(timeout=left_s)
            except queue.Empty:
                return
            if isinstance(message, RunnerSaid):
                self._swap.heard(message)
            elif isinstance(message, RunnerExited):
                self._swap.exited(message)
            elif isinstance(message, Stop):
                return

    @staticmethod
    def _safely(act: Callable[[], None], what: str) -> None:
        try:
            act()
        except SluiceError as error:
            log.warning("%s", error)
        except Exception:
            log.exception("cannot finish with %s", what)

    def _spawn(self) -> RunnerProcess:
        descriptors = [listener.socket.fileno() for listener in self._listeners]
        return RunnerProcess(descriptors, self.inbox.put)

    def _make_roster(self, config: Config, hardware: Hardware) -> tuple[Fetcher, Roster]:
        store = Store(config.state_dir)
        fetcher = Fetcher(
            config.session(),
            self._presence.topics,
            config.id,
            store,
            self.inbox.put,
            jitter_s=config.fetch.jitter_s,
            give_up_s=config.fetch.give_up_s,
        )
        roster = Roster(
            intake=self._intake,
            ledger=self._ledger,
            shelf=BundleShelf(store, self._intake.keys, self._notary.holds),
            store=store,
            fetcher=fetcher,
            swap=self._swap,
            reflex=self._reflex,
            voice=self._voice,
            cpus=hardware.cpus,
            budget_mib=budget_mib(hardware.memory_mib, hardware.memory_limit_mib),
        )
        return fetcher, roster
