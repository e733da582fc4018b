"""The supervisor: one inbox, one thread that decides; everything else only puts messages in."""

import gc
import logging
import queue
import signal
import time
from collections.abc import Callable

from agent.cascades.desired import DesiredDocument
from agent.cascades.reconciler import Reconciler
from agent.cascades.tunable import by_artifact, chains, tunable
from agent.config import Config
from agent.inbox import (
    Connected,
    Disconnected,
    FetchDone,
    FetchFailed,
    FetchProgress,
    FetchWaits,
    Inbox,
    Message,
    Received,
    RunnerExited,
    RunnerSaid,
    Stop,
    TunerExited,
    TunerSaid,
)
from agent.inner_loop import InnerLoop
from agent.processes.child import RunnerProcess
from agent.processes.runners import Counted, Outcome, Serving
from agent.processes.sockets import Listener, listen
from agent.processes.swap import Swap
from agent.reporting.energy import EnergyBook
from agent.reporting.events import LossWatch
from agent.reporting.inventory import take_inventory
from agent.reporting.session import Session
from agent.reporting.watts import BusyPower
from agent.reporting.wording import rung_moved
from agent.sensors import Hardware, Sensors, read_hardware
from agent.sensors.core_speed import measure_speeds
from agent.sensors.cores import read_cpus
from agent.sensors.mask import MaskWatch
from agent.sensors.tree import Tree
from agent.signatures import SignatureChecker
from agent.storage.allowance import Limits
from agent.storage.artifacts import ArtifactStore
from agent.storage.bundles import BundleStore
from agent.storage.core_speeds import CoreSpeedFile
from agent.storage.download import Terms
from agent.storage.fetch import Fetcher
from agent.storage.files import claim
from agent.storage.ledger import LedgerFile
from agent.storage.profiles import ProfileFile
from agent.storage.ration import Ration
from agent.timer import Timer
from agent.trust import Trust
from agent.tuner.request import TuneRequest
from agent.tuner.tuning import Subjects, Tuning
from agent.watchdog import Watchdog
from protocols.device import Inventory, Reported
from protocols.errors import SluiceError
from protocols.memory import budget_mib

log = logging.getLogger("sluice.agent")

_REST_EVERY_S = 15.0
_AGAIN_EVERY_S = 60.0
"""What failed for want of something, and that nobody tells of, is looked at anew."""
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
        speeds = CoreSpeedFile(config.state_dir / "cores.json", measure_speeds)
        hardware = read_hardware(config.sensors.sysroot, speeds.find_or_measure)
        self._cpus = MaskWatch(config.sensors.sysroot, speeds.find)
        endpoints = tuple(listener.url for listener in self._listeners)
        inventory = take_inventory(config, hardware, endpoints)
        self._tuning = _tuning(config, inventory, self.inbox)
        inventory = inventory.with_(profiles=self._tuning.profiles)
        self._session = Session(config, inventory, self.inbox)
        self._publisher = self._session.publisher
        self._watchdog, self._signatures = Watchdog(), SignatureChecker()
        self._swap = Swap(self._spawn, time.monotonic)
        self._ledger = LedgerFile(config.state_dir / "ledger.json")
        holds = self._signatures.holds
        self._trust = Trust(config.state_dir / "keys.json", keys, holds, self._publisher)
        self._session.follow_keys(self._trust.now.keys.version)
        self._document = DesiredDocument(
            config.id,
            self._trust.now,
            holds,
            self._ledger,
            self._publisher,
            enrolment=inventory.enrolment,
        )
        self._sensors = Sensors(
            config.sensors.sysroot,
            self._pids,
            added=config.sensors.providers,
            metered=config.broker.metered,
        )
        self._inner_loop = InnerLoop(
            self._sensors, self._document.schedule, config.sensors.interval_s
        )
        self._losses = LossWatch(self._publisher)
        power = BusyPower(len(read_cpus(Tree(config.sensors.sysroot))))
        self._energy = EnergyBook(power, config.tune.watts_per_cpu)
        self._fetcher, self._reconciler = self._make_reconciler(config, hardware)
        self._config = config
        self._counted: Counted | None = None
        self._measure_by_s = _NEVER_S
        self._stopping = False
        now_s = self._looked_s = self._sensed_s = time.monotonic()
        self._sense = Timer(config.sensors.interval_s, now_s)
        self._measure = Timer(config.telemetry.interval_s, now_s)
        self._rest = Timer(_REST_EVERY_S, now_s)
        self._again = Timer(_AGAIN_EVERY_S, now_s + _AGAIN_EVERY_S)
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
        self._publisher.say_offline()
        self._fetcher.stop()
        self._tuning.stop()
        self._sensors.close()
        self._drain()
        self._swap.kill()
        self._session.leave()
        self._signatures.rest()
        for listener in self._listeners:
            listener.close()
        self._claim.close()

    def _dispatch(self, message: Message) -> None:  # noqa: C901, PLR0912 - one line a message
        match message:
            case Received(topic, payload) if topic == self._session.desired_topic:
                if self._document.take(payload):
                    self._reconciler.renewed()
            case Received(topic, payload) if topic == self._session.keys_topic:
                self._trust_others(changed=self._trust.take(payload))
            case Received(topic, payload) if topic == self._session.status_topic:
                self._session.saw_status(payload)
            case Connected():
                self._session.connected()
            case Disconnected(reason):
                self._session.disconnected(reason)
            case FetchDone():
                self._reconciler.fetched(message)
            case FetchFailed():
                log.warning("%s", message.message)
                self._reconciler.missed(message)
            case RunnerSaid():
                self._runner_did(self._swap.heard(message))
            case RunnerExited():
                self._runner_did(self._swap.exited(message))
            case TunerSaid() | TunerExited():
                self._tuner_did(message)
            case Stop(name):
                self._stopping = True
                self._publisher.event("stopping", f"the agent stops: {name}")
            case FetchWaits():
                self._reconciler.waits(message)
            case FetchProgress():
                self._reconciler.progressed(message)
            case Received():
                pass
        self._report()

    def _start(self) -> None:
        what = self._session.introduction
        said = filter(None, (what, self._ledger.damage, self._trust.damage))
        self._publisher.event("started", "; ".join(said))
        self._safely(lambda: self._reconciler.ensure("the agent started"), "the start")
        self._report()
        self._session.start()
        self._watchdog.ready(what)
        gc.collect()
        gc.freeze()

    def _next_message(self) -> Message | None:
        """Wait for a message until the next timer is due."""
        timers = (self._sense, self._measure, self._rest, self._again, self._ping)
        announced_s = min(self._measure_by_s, self._swap.wake_s(), self._hold_over_s())
        due_s = min(announced_s, *(timer.at_s for timer in timers))
        try:
            return self.inbox.get(timeout=max(0.0, due_s - time.monotonic()))
        except queue.Empty:
            return None

    def _tick(self) -> None:
        """Do what is due."""
        now_s = time.monotonic()
        self._safely(lambda: self._runner_did(self._swap.tick()), "the runners")
        if self._sense.is_due(now_s) or now_s >= self._hold_over_s():
            self._sensed_s = now_s
            self._safely(self._look, "a look at the sensors")
        if self._measure.is_due(now_s):
            self._measure_by_s = now_s + (_STATS_WITHIN_S if self._swap.ask_stats() else 0)
        if now_s >= self._measure_by_s:
            self._safely(self._publish_measurements, "telemetry")
        if self._rest.is_due(now_s):
            self._signatures.rest()
        if self._again.is_due(now_s):
            self._safely(self._try_again, "another look")
        if self._ping.is_due(now_s) and now_s - self._looked_s < _HEALTHY_S:
            self._watchdog.ping()

    def _look(self) -> None:
        """Read the sensors and let the governor decide."""
        self._look_at_cpus()
        before = self._inner_loop.rungs
        changes = self._inner_loop.sense(self._document.schedule, self._reconciler.fits)
        for change in changes:
            self._publisher.event("rung", rung_moved(change))
        self._losses.look(self._inner_loop.sample)
        self._energy.look(self._inner_loop.sample)
        if self._inner_loop.sample.battery_percent is not None:
            self._session.found_battery()
        for complaint in self._sensors.complaints():
            self._publisher.event("sensor-lost", complaint)
        self._reconciler.powered()
        self._reconciler.look()
        if changes or self._inner_loop.rungs != before:
            self._reconciler.ensure("; ".join(change.cause for change in changes) or "spacing")
        self._session.insist()
        self._report()
        self._looked_s = time.monotonic()
        rungs = self._inner_loop.rungs
        self._tuning.look(self._inner_loop.sample, rungs, self._subjects, self._looked_s)

    def _hold_over_s(self) -> float:
        """When to look before it is time, since a rung would be entered then; once for each."""
        due_s = self._inner_loop.due_s
        return due_s if due_s > self._sensed_s else _NEVER_S

    def _look_at_cpus(self) -> None:
        """Act at once on other CPUs; the fleet hears of them when they have lasted."""
        if change := self._cpus.look():
            log.info("%s", change)
            self._tuning.use(self._cpus.cores.classes)
            self._reconciler.use(self._cpus.cpus, self._cpus.mask, change)

    def _try_again(self) -> None:
        """Do what was not possible when it was asked for."""
        self._ledger.settle()
        self._tuning.reload()
        self._session.learned(self._tuning.profiles)
        self._session.uses(self._cpus.cores)
        self._trust_others(changed=self._trust.retry())
        if self._document.retry():
            self._reconciler.renewed()
        else:
            self._reconciler.again()

    def _trust_others(self, *, changed: bool) -> None:
        """Go on with other keys: what they vouch for is taken, and what serves goes on."""
        if not changed:
            return
        now = self._trust.now
        self._session.follow_keys(now.keys.version)
        self._document.renew(now)
        self._reconciler.trust(now)
        if self._document.retry():
            self._reconciler.renewed()

    def _runner_did(self, outcomes: tuple[Outcome, ...]) -> None:
        for outcome in outcomes:
            if isinstance(outcome, Serving):
                self._counted = None
                self._energy.begin()
            elif isinstance(outcome, Counted):
                self._counted = outcome
                self._compare(outcome)
                if self._measure_by_s < _NEVER_S:
                    self._publish_measurements()
        if self._swap.serving is None:
            self._counted = None  # what was counted has gone with it, and the next one begins anew
        self._reconciler.happened(outcomes)
        if outcomes:
            self._report()

    def _compare(self, counted: Counted) -> None:
        """Tell the tuner what requests cost and how long they take."""
        stats = counted.stats.cascades
        stages = by_artifact(self._reconciler.serving(), stats)
        self._tuning.counted(stats, stages, self._inner_loop.rungs, time.monotonic())

    def _tuner_did(self, message: TunerSaid | TunerExited) -> None:
        now_s, before = time.monotonic(), self._tuning.profiles
        if isinstance(message, TunerExited):
            self._tuning.exited(message, now_s)
        elif words := self._tuning.said(message, now_s):
            self._publisher.event("tuned", words)
        if self._tuning.profiles != before:
            self._session.learned(self._tuning.profiles)

    def _subjects(self) -> Subjects:
        """What the tuner may measure: the models of what serves."""
        serving = self._reconciler.serving()
        return tunable(serving, self._reconciler.folder), chains(serving)

    def _pids(self) -> tuple[int, ...]:
        """Our own processes: what they use is no foreign load."""
        return (*self._swap.pids(), *self._tuning.pids())

    def _publish_measurements(self) -> None:
        self._measure_by_s = _NEVER_S
        stats = self._counted.stats if self._counted else None
        cascades = self._energy.count(stats.cascades, time.monotonic()) if stats else ()
        self._publisher.measure(
            self._inner_loop.sample,
            self._inner_loop.rungs,
            self._reconciler.with_deaths(cascades),
            round(stats.rss_mib, 2) if stats else None,
        )

    def _report(self) -> None:
        self._publisher.report(
            Reported(
                device=self._config.id,
                boot_id=self._session.boot_id,
                generation=self.generation,
                cascades=self._reconciler.reported(),
                rungs=self._inner_loop.rungs,
                refusal=self._document.refusal,
                keys_version=self._trust.now.keys.version,
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
        return RunnerProcess(descriptors, self.inbox.put, self._config.sensors.sysroot)

    def _make_reconciler(self, config: Config, hardware: Hardware) -> tuple[Fetcher, Reconciler]:
        store = ArtifactStore(config.state_dir)
        fetcher = Fetcher(
            config.session(),
            self._session.topics,
            config.id,
            store,
            self.inbox.put,
            Terms(
                Ration(config.state_dir / "downloads.json"),
                config.fetch.give_up_s,
                config.fetch.ca_file,
            ),
            jitter_s=config.fetch.jitter_s,
            own=Limits(config.fetch.kib_per_s, config.fetch.mib_per_day),
        )
        bundles = BundleStore(
            store,
            self._trust.now,
            self._signatures.holds,
            self._ledger.has_served,
        )
        reconciler = Reconciler(
            document=self._document,
            ledger=self._ledger,
            bundles=bundles,
            store=store,
            fetcher=fetcher,
            swap=self._swap,
            inner_loop=self._inner_loop,
            publisher=self._publisher,
            cpus=self._cpus.cpus,
            mask=self._cpus.mask,
            budget_mib=budget_mib(hardware.memory_mib, hardware.memory_limit_mib),
        )
        return fetcher, reconciler


def _tuning(config: Config, inventory: Inventory, inbox: Inbox) -> Tuning:
    cpus = tuple(sorted(cpu for group in inventory.cores for cpu in group.cpus))
    runtime, kernel = inventory.runtime or "none", inventory.kernel
    blank = TuneRequest(
        models=(),
        cores=inventory.cores,
        runtime=runtime,
        kernel=kernel,
        watts_per_cpu=config.tune.watts_per_cpu,
        sysroot=str(config.sensors.sysroot),
        providers=config.sensors.providers,
    )
    profiles = ProfileFile(config.state_dir / "profiles.json", runtime, kernel, cpus)
    idle_s = config.tune.idle_s if config.tune.auto and inventory.runtime else None
    return Tuning(profiles, blank, idle_s, inbox.put)
