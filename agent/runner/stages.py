"""A stage's model in memory: loaded, unloaded, replaced, and what it did."""

import functools
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Concatenate, Literal, ParamSpec, TypeVar

from agent.runner import memory
from agent.runner.blackbox import BlackBox
from agent.runner.control import StageChanged
from agent.runner.crew import Crew
from agent.runner.jobs import StageError
from agent.runner.room import RETRY_S, Berth, NoRoomError, Room
from agent.runner.worker import RECENT, Setting
from protocols.bundle import TensorSpec, Variant
from protocols.device import StageStats
from protocols.inference.runtime import Model, ModelError, open_model

Emit = Callable[[StageChanged], None]
Judge = Callable[[Crew], None]
"""Checks what a crew answers; raises a StageError if that is wrong."""

Proof = Callable[[Setting, float], Judge]
"""Gets what a check takes, within a share of the memory that is to be left; may raise too."""

P = ParamSpec("P")
T = TypeVar("T")
Change = Literal["loaded", "unloaded", "threads", "failed"]

_BUSY_S = 0.1
"""A stage that is in use is not looked at again before."""


def _alone(
    move: "Callable[Concatenate[StageSlot, P], T]",
) -> "Callable[Concatenate[StageSlot, P], T]":
    @functools.wraps(move)
    def moved(slot: "StageSlot", /, *args: P.args, **named: P.kwargs) -> T:
        with slot.moving:
            return move(slot, *args, **named)

    return moved


class StageSlot:
    """One stage of a running cascade: its crew of workers or none, and what it has done.

    `load`, `unload`, `give_way` and `retune` are called under the cascade's own lock and go one at
    a time with each other and with `unload_dismissed`; that one and `dismiss` are called by any
    thread, `enter` and `leave` by any request.
    """

    def __init__(
        self, cascade: str, name: str, variant: Variant, path: Path, box: BlackBox, room: Room
    ) -> None:
        self.name, self.variant = name, variant
        self.title = f"{cascade}/{name}"
        self.answers = 0
        self.used_s = time.monotonic()
        self.berth = Berth(self.title, variant.needs.load_mib, room)
        self.proof: Proof | None = None
        """How its next load is checked; None: it has answered its golden samples."""
        self.wrong = False
        """Whether it has answered them wrongly: it is not loaded again."""
        self._cascade, self._path, self._box = cascade, path, box
        self.emit: Emit = _nobody
        self._crew: Crew | None = None
        self._leaving: Crew | None = None
        self.moving = threading.RLock()
        self._changed = threading.Condition()
        self._retry_s = 0.0
        self._recent_ms: deque[float] = deque(maxlen=RECENT)
        self._runs = 0
        self._cpu_s = 0.0

    @property
    def loaded(self) -> bool:
        """Whether its model is in memory."""
        return self._crew is not None

    @property
    def dismissed(self) -> bool:
        """Whether its crew answers nobody any more and waits to be unloaded."""
        crew = self._crew
        return crew is not None and crew.dismissed

    def failing(self) -> bool:
        """Whether it is wrong, or the last load failed so recently that it is not tried again."""
        return self.wrong or time.monotonic() < max(self._retry_s, self.berth.due_s or 0.0)

    def differs(self, setting: Setting) -> bool:
        """Whether it is loaded and runs with another setting."""
        return self._crew is not None and self._crew.setting != setting

    def enter(self) -> Crew | None:
        """Return the crew and keep it until `leave`; None: not loaded."""
        with self._changed:
            if self._crew is not None:
                self._crew.users += 1
            return self._crew

    def leave(self, crew: Crew) -> None:
        """Say that a request is out of the crew."""
        with self._changed:
            self.used_s = time.monotonic()
            crew.users -= 1
            if not crew.users:
                self._changed.notify_all()

    @_alone
    def load(self, setting: Setting, cause: str, floor_percent: float) -> None:
        """Load the model and answer once, and its golden samples too if it never has; report.

        Raises:
            NoRoomError: it would leave less than that share of the memory.
            StageError: it does not load, its tensors are not the manifest's, or it answers wrongly.
        """
        began = time.perf_counter()
        judge = self._next_judge(setting, floor_percent)
        with memory.moving:
            self.berth.check(setting, floor_percent)
            before = memory.rss_bytes()
            crew = self._start(setting)
            after = memory.rss_bytes()
        loaded_mib = max(0, after - before) / memory.MIB
        self.berth.measured(loaded_mib, setting)
        if judge is not None:
            self._examine(crew, judge)
        self.used_s = time.monotonic()
        with self._changed:
            self._crew, self._leaving = crew, None
        self._report("loaded", setting.explained(cause), began, loaded_mib=loaded_mib)

    def dismiss(self, cause: str) -> None:
        """Answer nobody any more: the model may not stay. `unload` then returns its memory.

        Who waits for a crew that is being replaced fails at once, so that nobody waits for them.
        """
        with self._changed:
            if self._crew is not None:
                self._crew.dismiss(cause)
            leaving = self._leaving
            if leaving is not None:
                leaving.dismiss(cause)
        if leaving is not None:
            leaving.turn_away()

    @_alone
    def unload(self, cause: str) -> None:
        """Drop the model, return its memory, report how much came back.

        Only what is inside the interpreter is waited for. What waits for it fails, but not before
        the memory is back.
        """
        began = time.perf_counter()
        crew = self._put(None)
        if crew is None:
            return
        crew.dismiss(cause)
        try:
            self._drop(crew, cause, began)
        finally:
            crew.turn_away()

    @_alone
    def unload_dismissed(self, cause: str) -> None:
        """Unload it if it has been dismissed and has not come back since."""
        if self.dismissed:
            self.unload(cause)

    @_alone
    def give_way(self, cause: str) -> None:
        """Unload it once all requests that are in it have been answered."""
        began = time.perf_counter()
        crew = self._put(None)
        if crew is not None:
            self._let_out(crew)
            self._drop(crew, cause, began)

    @_alone
    def unload_if_unused(self, idle_s: float, now_s: float, cause: str) -> float | None:
        """Unload it if nobody has used it for a time; return when to look again, None: never."""
        with self._changed:
            crew = self._crew
            if crew is None:
                return None
            due_s = now_s + max(idle_s, _BUSY_S) if crew.users else self.used_s + idle_s
            if due_s > now_s:
                return due_s
            self._crew, self._leaving = None, crew
        self._drop(crew, f"unused for {idle_s:g} s; {cause}", time.perf_counter())
        return None

    @_alone
    def retune(self, setting: Setting, cause: str, floor_percent: float) -> None:
        """Run with another setting from now on: a new crew beside the old one, then swap.

        Raises:
            NoRoomError: two crews would leave less than that share of the memory.
            StageError: the new one does not load. In both cases the old one goes on.
        """
        began = time.perf_counter()
        if not self.differs(setting):
            self.berth.due_s = None
            return
        with memory.moving:
            self.berth.check(setting, floor_percent)
            fresh = self._start(setting)
        old = self._put(fresh)
        if old is not None:
            self._let_out(old)
            cause = setting.explained(cause, old.setting)
            with memory.moving:
                self._end(old)
                del old
                memory.give_back()
        self._report("threads", cause, began)

    def report_failure(self, error: StageError, cause: str) -> None:
        """Report that it could not be loaded."""
        self._report("failed", f"{error} ({cause})", time.perf_counter())

    def stats(self) -> StageStats:
        """Return what it did; for its CPU seconds see `Worker.cpu_s`."""
        with self._changed:
            crew = self._crew
            there = [one for one in (self._leaving, crew) if one is not None]
            recent = list(self._recent_ms)
            for one in there:
                recent += one.recent_ms
            runs = self._runs + sum(one.runs for one in there)
            cpu_s = self._cpu_s + sum(one.cpu_s() for one in there)
        p50, p95 = percentiles(recent[-RECENT:])
        return StageStats(
            name=self.name,
            variant=self.variant.name,
            loaded=crew is not None,
            layout=crew.setting.layout if crew else None,
            threads=crew.setting.threads if crew else None,
            cpus=crew.cpus if crew else None,
            loaded_mib=self.berth.loaded_mib,
            answers=self.answers,
            runs=runs,
            p50_ms=p50,
            p95_ms=p95,
            cpu_s=cpu_s,
        )

    def _start(self, setting: Setting) -> Crew:
        crew = Crew(self.title, self._cascade, self._open, setting, self._box)
        try:
            crew.start()
        except Exception as error:
            self._retry_s = time.monotonic() + RETRY_S
            why = error.why if isinstance(error, ModelError) else f"{type(error).__name__}: {error}"
            raise StageError(f"cannot load {self.title}: {why}") from error
        return crew

    def _next_judge(self, setting: Setting, floor_percent: float) -> Judge | None:
        """Return who checks the crew of the next load; None: it needs no check any more."""
        if self.proof is None:
            return None
        self.berth.check(setting, floor_percent)
        try:
            return self.proof(setting, floor_percent)
        except NoRoomError:
            self.berth.due_s = time.monotonic() + RETRY_S
            raise
        except StageError:
            self._retry_s = time.monotonic() + RETRY_S
            raise

    def _examine(self, crew: Crew, judge: Judge) -> None:
        """Check a crew before anybody uses it; a wrong one leaves, and none comes again.

        If the stage is dismissed meanwhile, its check ends as a crew that leaves does.
        """
        with self._changed:
            self._leaving = crew
        try:
            judge(crew)
        except Exception:
            self.wrong = not crew.dismissed
            with memory.moving:
                self._end(crew)
                memory.give_back()
            raise
        self.proof = None

    def _open(self, threads: int) -> Model:
        shape = self.variant.inputs[0].shape
        sample = shape[1:] if shape[:1] == (1,) else shape
        model = open_model(self._path, threads, sample)
        for kind, promised, found in (
            ("input", self.variant.inputs, model.inputs),
            ("output", self.variant.outputs, model.outputs),
        ):
            difference = differing(kind, promised, found)
            if difference:
                raise ModelError(self.title, difference)
        return model

    def _put(self, crew: Crew | None) -> Crew | None:
        """Let new requests use another crew (None: none); return the old one."""
        with self._changed:
            old, self._crew = self._crew, crew
            self._leaving = old
        return old

    def _let_out(self, crew: Crew) -> None:
        """Wait until nobody is in a crew; one that is dismissed empties at once."""
        with self._changed:
            if crew.dismissed:  # before it left its place: see `dismiss`
                crew.turn_away()
            self._changed.wait_for(lambda: not crew.users)

    def _drop(self, crew: Crew, cause: str, began: float) -> None:
        with memory.moving:
            before = memory.rss_bytes()
            self._end(crew)
            del crew
            memory.give_back()
            returned = max(0, before - memory.rss_bytes())
        self._report("unloaded", cause, began, returned_bytes=returned)

    def _end(self, crew: Crew) -> None:
        crew.stop()
        with self._changed:
            self._recent_ms.extend(crew.recent_ms)
            self._runs += crew.runs
            self._cpu_s += crew.cpu_s()
            self._leaving = None

    def _report(
        self,
        change: Change,
        cause: str,
        began: float,
        loaded_mib: float | None = None,
        returned_bytes: int | None = None,
    ) -> None:
        crew = self._crew
        self.emit(
            StageChanged(
                change=change,
                cascade=self._cascade,
                stage=self.name,
                variant=self.variant.name,
                cause=cause,
                threads=crew.setting.threads if crew else None,
                cpus=crew.cpus if crew else None,
                took_ms=(time.perf_counter() - began) * 1e3,
                rss_mib=memory.rss_bytes() / memory.MIB,
                returned_bytes=returned_bytes,
                loaded_mib=loaded_mib,
            )
        )


def _nobody(_change: StageChanged) -> None:
    """Say nothing: until a slot is given somebody who listens."""


def percentiles(recent_ms: Sequence[float]) -> tuple[float | None, float | None]:
    """Return the median and the 95th percentile (nearest rank); None of nothing."""
    if not recent_ms:
        return None, None
    ordered = sorted(recent_ms)
    last = len(ordered) - 1
    return ordered[round(0.5 * last)], ordered[round(0.95 * last)]


def differing(kind: str, promised: Sequence[TensorSpec], found: Sequence[TensorSpec]) -> str | None:
    """Say how a model's tensors differ from the manifest's (names aside); None: they do not."""
    if len(promised) != len(found):
        return f"the manifest says {len(promised)} {kind}s, the model has {len(found)}"
    for want, have in zip(promised, found, strict=True):
        if (want.shape, want.dtype, want.quantization) != (
            have.shape,
            have.dtype,
            have.quantization,
        ):
            return f"the manifest says {kind} {_described(want)}, the model has {_described(have)}"
    return None


def _described(spec: TensorSpec) -> str:
    scale = spec.quantization
    suffix = f" (scale {scale.scale:g}, zero point {scale.zero_point})" if scale else ""
    return f"[{','.join(map(str, spec.shape))}] {spec.dtype}{suffix}"
