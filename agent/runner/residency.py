"""Which stages of a cascade are in memory: as its plan says, or because a request needs them."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence

from agent.runner.cascade import Rules
from agent.runner.control import StageTarget
from agent.runner.crew import Crew
from agent.runner.jobs import StageError
from agent.runner.room import RETRY_S, NoRoomError
from agent.runner.stages import StageSlot
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

    def decide(self, rules: Rules) -> None:
        """Go by other rules from now on; what waits for a stage that has to go fails at once.

        It waits for nothing, not even for a move that is under way. `free`, `shrink` and `grow`,
        which must follow, do the moving.
        """
        self.rules = rules
        for slot, target in self._present(rules):
            if target.residence == "out":
                slot.dismiss(rules.cause)

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

    def free(self) -> None:
        """Unload the stages that have to go, while other stages of the cascade may be moving.

        A move of such a stage itself is waited for: it lets nobody wait, see `decide`.
        """
        for slot in reversed(self.slots):
            if slot is not None and slot.dismissed:
                slot.unload_dismissed(self.rules.cause)

    def shrink(self) -> None:
        """Unload what the plan keeps out, and all but one where only one may stay.

        The later stages leave first: they are the larger ones. What `free` has begun to unload is
        in nobody's memory afterwards.
        """
        with self._moving:
            rules, kept, leaving = self.rules, False, list[StageSlot]()
            for slot, target in self._present(rules):
                stays = slot.loaded and not slot.dismissed and target.residence != "out"
                if stays and not (rules.plan.one_at_a_time and kept):
                    kept = True
                else:
                    leaving.append(slot)
            for slot in reversed(leaving):
                slot.unload(rules.cause)

    def grow(self) -> None:
        """Give loaded stages their threads, and load what should be resident."""
        with self._moving:
            rules = self.rules
            for slot, target in self._present(rules):
                if self.rules is not rules:
                    return  # decided anew meanwhile: another move follows
                with contextlib.suppress(StageError), _reported(slot, rules):
                    self._suit(slot, target, rules)

    def tidy(self, now_s: float) -> float | None:
        """Unload stages that have been idle too long, move those that there was no room for.

        Returns:
            when to look again; None: never.
        """
        with self._moving:
            rules = self.rules
            due = [self._tidied(slot, t, rules, now_s) for slot, t in self._present(rules)]
            return min((due_s for due_s in due if due_s is not None), default=None)

    def _tidied(
        self, slot: StageSlot, target: StageTarget, rules: Rules, now_s: float
    ) -> float | None:
        idle_s, leaves_s = rules.plan.idle_unload_s, None
        if target.residence == "on_demand" and idle_s is not None:
            leaves_s = slot.unload_if_unused(idle_s, now_s, rules.cause)
        again_s = self._tried_again(slot, target, rules, now_s)
        return min((due_s for due_s in (leaves_s, again_s) if due_s is not None), default=None)

    def _tried_again(
        self, slot: StageSlot, target: StageTarget, rules: Rules, now_s: float
    ) -> float | None:
        """Load or retune a stage if that is due: one on demand only where it is loaded."""
        awaited = target.residence == "resident" or (
            target.residence == "on_demand" and slot.loaded
        )
        due_s = slot.berth.due_s if awaited else None
        if due_s is None or due_s > now_s:
            return due_s
        with contextlib.suppress(StageError), _reported(slot, rules, again=True):
            self._suit(slot, target, rules)
        return None if slot.berth.due_s is None else now_s + RETRY_S

    def _summon(self, at: int, slot: StageSlot) -> Crew:
        """Load a stage because a request needs it."""
        with self._moving:
            crew = slot.enter()
            if crew is not None:
                return crew
            rules = self._allowing(at, slot)
            try:
                with _reported(slot, rules):
                    self._make_room(slot, Setting.of(rules.targets[at]), rules)
                rules = self._allowing(at, slot)  # the others may have taken their time
                with _reported(slot, rules):
                    cause = f"a request needs it; {rules.cause}"
                    floor_percent = rules.plan.memory_floor_percent
                    slot.load(Setting.of(rules.targets[at]), cause, floor_percent)
            finally:
                self._wake()
            crew = slot.enter()
        if crew is None:
            raise StageError(f"cannot use {slot.title}: it has been unloaded")
        return crew

    def _allowing(self, at: int, slot: StageSlot) -> Rules:
        """Return the rules of now, which let a stage be loaded.

        Raises:
            StageError: they do not.
        """
        rules = self.rules
        if at not in self.usable(rules):
            raise StageError(f"cannot use {slot.title}: {rules.cause}")
        return rules

    def _make_room(self, newcomer: StageSlot, setting: Setting, rules: Rules) -> None:
        """Let the others leave where only one may be in memory, unless that would not be enough."""
        if not rules.plan.one_at_a_time:
            return
        others = [slot for slot, _target in self._present(rules) if slot.loaded]
        returning_mib = sum(slot.berth.loaded_mib or 0.0 for slot in others)
        newcomer.berth.check(setting, rules.plan.memory_floor_percent, returning_mib)
        for slot in others:
            slot.give_way(f"makes room for {newcomer.name}; {rules.cause}")

    def _suit(self, slot: StageSlot, target: StageTarget, rules: Rules) -> None:
        """Bring a stage to where its target is, as far as that takes memory."""
        setting, floor_percent = Setting.of(target), rules.plan.memory_floor_percent
        if slot.loaded:
            self._retune(slot, target, setting, rules)
        elif target.residence == "resident" and not (slot.wrong or self._is_crowded(rules)):
            slot.load(setting, rules.cause, floor_percent)

    def _is_crowded(self, rules: Rules) -> bool:
        return rules.plan.one_at_a_time and any(s.loaded for s, _t in self._present(rules))

    def _retune(self, slot: StageSlot, target: StageTarget, setting: Setting, rules: Rules) -> None:
        """Change threads; where only one stage may be in memory, two crews may not either.

        Where there is no room for two crews, a stage on demand leaves, if there would be room for
        it to come back at the next request.
        """
        floor_percent = rules.plan.memory_floor_percent
        leaves = rules.plan.one_at_a_time and slot.differs(setting)
        if not leaves:
            try:
                slot.retune(setting, rules.cause, floor_percent)
            except NoRoomError:
                if target.residence != "on_demand":
                    raise
                slot.berth.check(setting, floor_percent, slot.berth.loaded_mib or 0.0)
                leaves = True
        if leaves:
            slot.give_way(f"comes back with {setting.threads} threads; {rules.cause}")

    def _present(self, rules: Rules) -> list[tuple[StageSlot, StageTarget]]:
        """Return the stages that are not dropped, with what the plan says of them."""
        pairs = zip(self.slots, rules.targets, strict=True)
        return [(slot, target) for slot, target in pairs if slot is not None]


@contextlib.contextmanager
def _reported(slot: StageSlot, rules: Rules, *, again: bool = False) -> Iterator[None]:
    """Report a load that fails; `again`: that there is still no room has been said."""
    try:
        yield
    except StageError as error:
        if not (again and isinstance(error, NoRoomError)):
            slot.report_failure(error, rules.cause)
        raise
