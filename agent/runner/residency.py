"""Which stages of a cascade are in memory: as its plan says, or because a request needs them."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence

from agent.runner.cascade import Rules
from agent.runner.control import StageTarget
from agent.runner.crew import Crew
from agent.runner.stages import StageError, StageSlot
from agent.runner.worker import Setting


class Residency:
    """The stages of one cascade, coming and going one at a time.

    Args:
        slots: by stage, in order; None: the stage is dropped on this device.
        rules: those of the first plan.
        wake: called when a stage has come that may have to leave by itself later.
    """

    def __init__(
        self, slots: Sequence[StageSlot | None], rules: Rules, wake: Callable[[], None]
    ) -> None:
        self.slots = tuple(slots)
        self.rules = rules
        self._wake = wake
        self._moving = threading.RLock()

    def usable(self, rules: Rules) -> set[int]:
        """Return the stages that may answer under some rules, loaded or not, by index."""
        pairs = enumerate(zip(self.slots, rules.targets, strict=True))
        return {
            index
            for index, (slot, target) in pairs
            if slot is not None
            and target.residence != "out"
            and (slot.loaded or not slot.failing())
        }

    @contextlib.contextmanager
    def using(self, at: int) -> Iterator[Crew]:
        """Keep a stage in memory for a while; it is loaded if it is not there.

        Raises:
            StageError: it may not be loaded now, or does not load.
        """
        slot = self.slots[at]
        if slot is None:
            raise StageError("cannot use a stage that is dropped on this device")
        crew = slot.enter() or self._summon(at, slot)
        try:
            yield crew
        finally:
            slot.leave(crew)

    def shrink(self) -> None:
        """Unload what the plan keeps out, and all but one where only one may stay."""
        with self._moving:
            rules, kept = self.rules, False
            for slot, target in self._present():
                if not slot.loaded:
                    continue
                if target.residence == "out" or (rules.plan.one_at_a_time and kept):
                    slot.unload(rules.cause)
                else:
                    kept = True

    def grow(self) -> None:
        """Give loaded stages their threads, and load what should be resident."""
        with self._moving:
            rules = self.rules
            for slot, target in self._present():
                try:
                    if slot.loaded:
                        self._retune(slot, target, rules)
                    elif target.residence == "resident" and self._has_room(rules):
                        slot.load(Setting.of(target), rules.cause)
                except StageError as error:
                    slot.report_failure(error, rules.cause)

    def tidy(self, now_s: float) -> float | None:
        """Unload stages that have been idle too long; return when to look again."""
        with self._moving:
            rules, due = self.rules, list[float | None]()
            idle_s = rules.plan.idle_unload_s
            if idle_s is None:
                return None
            for slot, target in self._present():
                if target.residence == "on_demand":
                    due.append(slot.unload_if_unused(idle_s, now_s, rules.cause))
            return min((due_s for due_s in due if due_s is not None), default=None)

    def _summon(self, at: int, slot: StageSlot) -> Crew:
        """Load a stage because a request needs it."""
        with self._moving:
            crew = slot.enter()
            if crew is not None:
                return crew
            rules = self.rules
            if at not in self.usable(rules):
                raise StageError(f"cannot use {slot.title}: {rules.cause}")
            self._make_room(slot, rules)
            try:
                slot.load(Setting.of(rules.targets[at]), f"a request needs it; {rules.cause}")
            except StageError as error:
                slot.report_failure(error, rules.cause)
                raise
            crew = slot.enter()
        self._wake()
        if crew is None:
            raise StageError(f"cannot use {slot.title}: it has been unloaded")
        return crew

    def _make_room(self, newcomer: StageSlot, rules: Rules) -> None:
        if rules.plan.one_at_a_time:
            for slot, _target in self._present():
                slot.unload(f"makes room for {newcomer.name}; {rules.cause}")

    def _has_room(self, rules: Rules) -> bool:
        return not rules.plan.one_at_a_time or not any(s.loaded for s, _t in self._present())

    def _retune(self, slot: StageSlot, target: StageTarget, rules: Rules) -> None:
        """Change threads; where only one stage may be in memory, two crews may not either."""
        setting = Setting.of(target)
        if rules.plan.one_at_a_time and slot.differs(setting):
            slot.unload(f"comes back with {setting.threads} threads; {rules.cause}")
        else:
            slot.retune(setting, rules.cause)

    def _present(self) -> list[tuple[StageSlot, StageTarget]]:
        """Return the stages that are not dropped, with what the plan says of them."""
        pairs = zip(self.slots, self.rules.targets, strict=True)
        return [(slot, target) for slot, target in pairs if slot is not None]
