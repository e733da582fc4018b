"""What the runner does with the supervisor's messages."""

import contextlib
import gc
import importlib.metadata
import os
import queue
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import ValidationError

from agent.affinity import confine, get_cpus
from agent.runner import memory, oip
from agent.runner.blackbox import BlackBox
from agent.runner.channel import Channel
from agent.runner.control import (
    TO_RUNNER,
    Apply,
    AskStats,
    Assign,
    CascadePlan,
    Drain,
    Drained,
    FromRunner,
    HandOver,
    Ready,
    Rejected,
    Stats,
    Take,
    ToRunner,
)
from agent.runner.http1 import Request, Response
from agent.runner.jobs import StageError
from agent.runner.prepare import prepare
from agent.runner.room import Room
from agent.runner.server import Server
from protocols.inference.runtime import load_runtime

if TYPE_CHECKING:
    from agent.runner.serving import Cascade

_LONGEST_SLEEP_S = 3600.0


class Runner:
    """One runner's life, from Assign to Drained.

    Four threads beside the connections' and the stages': the listener reads messages and does at
    once what can be, deciding by new plans too; the mover loads and unloads by what was decided
    last; the one that frees unloads what has to go while the mover waits for requests to end; the
    tidier unloads what has been idle.
    """

    def __init__(
        self, channel: Channel, listeners: list[socket.socket], box: BlackBox, room: Room
    ) -> None:
        self._channel, self._listeners, self._box, self._room = channel, listeners, box, room
        self._deciding = threading.Lock()
        self._cascades: dict[str, Cascade] = {}
        self._ordered: dict[str, tuple[CascadePlan, str]] = {}
        self._version = importlib.metadata.version("sluice")
        self._server = Server(self._answer, self._give_back)
        self._moves: queue.SimpleQueue[Assign | Apply] = queue.SimpleQueue()
        self._frees: queue.SimpleQueue[Apply] = queue.SimpleQueue()
        self._wake = threading.Event()
        self._drained = threading.Event()

    def run(self) -> None:
        """Serve until drained, or until the supervisor is gone."""
        for loop in (self._move, self._free, self._tidy, self._listen):
            threading.Thread(target=loop, name=loop.__name__, daemon=True).start()
        self._drained.wait()

    # --- threads

    def _listen(self) -> None:
        try:
            while (received := self._channel.receive()) is not None:
                with _logged():
                    self._hear(*received)
        finally:  # without it nobody would end this process
            self._drained.set()

    def _hear(self, payload: bytes, fds: list[int]) -> None:
        try:
            self._obey(TO_RUNNER.validate_json(payload), fds)
        except ValidationError:  # a newer supervisor's word
            for fd in fds:
                os.close(fd)

    def _obey(self, message: ToRunner, fds: list[int]) -> None:
        match message:
            case Assign():
                _keep_to(message.mask)
                self._moves.put(message)
            case Apply():
                _keep_to(message.mask)
                self._decide(message)
                self._frees.put(message)
                self._moves.put(message)
            case Take():
                for listener in self._listeners:
                    self._server.listen(listener)
            case AskStats():
                self._say(self._stats())
            case HandOver():
                for fd in fds:
                    self._server.serve(socket.socket(fileno=fd))
            case Drain():
                threading.Thread(target=self._drain, name="_drain", daemon=True).start()

    def _move(self) -> None:
        while True:
            message = self._moves.get()
            with _logged():
                match message:
                    case Assign():
                        self._assign(message)
                    case Apply():
                        self._apply(message)
            self._wake.set()

    def _free(self) -> None:
        """Unload what has to go: the mover may be waiting for the requests of another stage."""
        while True:
            apply = self._frees.get()
            for cascade in self._named(apply):
                with _logged():
                    cascade.free()

    def _tidy(self) -> None:
        """Unload idle stages when their time has come."""
        while True:
            now_s = time.monotonic()
            next_s = now_s + _LONGEST_SLEEP_S
            for cascade in self._cascades.values():
                with _logged():
                    next_s = min(next_s, cascade.tidy(now_s) or next_s)
            self._wake.wait(max(0.0, next_s - now_s))
            self._wake.clear()

    def _drain(self) -> None:
        for cascade in self._cascades.values():
            cascade.hurry()
        self._server.drain()
        self._say(Drained())
        self._drained.set()

    # --- what they do

    def _assign(self, assign: Assign) -> None:
        with contextlib.suppress(ImportError):  # each model says so itself
            load_runtime()  # now, so that it does not count as the first stage's memory
        plans = {plan.name: plan for plan in assign.plans}
        cascades: dict[str, Cascade] = {}
        for assignment in assign.assignments:
            name = assignment.bundle.name
            plan = plans.get(name, CascadePlan(name=name, stages=(), paused="it has no plan yet"))
            try:
                cascades[name] = prepare(
                    assignment, plan, self._box, self._room, self._say, self._wake.set
                )
            except StageError as error:
                self._say(Rejected(cascade=name, message=str(error)))
            except Exception as error:  # noqa: BLE001 - the other cascades must not suffer
                sys.stderr.write(traceback.format_exc())
                why = f"{type(error).__name__}: {error}"
                self._say(Rejected(cascade=name, message=f"cannot serve {name}: {why}"))
        with self._deciding:
            self._cascades = cascades
            for name in cascades.keys() & self._ordered.keys():
                cascades[name].set_plan(*self._ordered[name])
        memory.give_back()
        gc.freeze()  # what stands now stands for good: later collections need not look at it
        self._say(Ready())

    def _decide(self, apply: Apply) -> None:
        """Go by new plans from now on, whatever is being moved: what has to go is freed at once.

        A cascade that is still being prepared goes by them as soon as it is.
        """
        with self._deciding:
            for plan in apply.plans:
                self._ordered[plan.name] = plan, apply.cause
                if plan.name in self._cascades:
                    self._cascades[plan.name].set_plan(plan, apply.cause)

    def _apply(self, apply: Apply) -> None:
        """Move the stages by what has been decided: memory is freed before it is taken."""
        moved = self._named(apply)
        for cascade in moved:
            cascade.shrink()
        for cascade in moved:
            cascade.grow()

    def _named(self, apply: Apply) -> "list[Cascade]":
        return [self._cascades[p.name] for p in apply.plans if p.name in self._cascades]

    def _answer(self, request: Request) -> Response:
        return oip.handle(request, self._cascades, self._version)

    def _stats(self) -> Stats:
        return Stats(
            cascades=tuple(cascade.stats() for cascade in self._cascades.values()),
            rss_mib=memory.rss_bytes() / memory.MIB,
            cpu_s=time.process_time(),
        )

    def _give_back(self, fd: int) -> None:
        with contextlib.suppress(OSError):
            self._channel.send(HandOver(), (fd,))

    def _say(self, message: FromRunner) -> None:
        with contextlib.suppress(OSError):  # the listener sees the end of the channel too
            self._channel.send(message)


def _keep_to(mask: tuple[int, ...] | None) -> None:
    """Use the supervisor's CPUs: whoever gives it others means its children too.

    All threads move at once; the workers, pins included, are then set up anew for the mask.
    """
    if mask and mask != get_cpus():
        confine(mask)


@contextlib.contextmanager
def _logged() -> Iterator[None]:
    """Log what should not happen and go on: a thread that ended would be missed much later."""
    try:
        yield
    except Exception:  # noqa: BLE001 - whatever it is
        sys.stderr.write(traceback.format_exc())
