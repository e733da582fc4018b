"""How far channels can be cut within a loss: down in steps, and then work on the last good ones.

1. Down: each step halves the parameters, about, and is taught briefly. It goes on until the loss on
   validation data is far beyond what is allowed; little teaching makes every loss look worse than
   it is. Every step's network stays a candidate.
2. Then the long lessons, one candidate at a time: the smallest that may do comes first. Where it
   holds, the next smaller one is tried, and last a size between the two; where it does not, the
   next bigger, until one holds that is small enough for the goal. Where none does, a bigger one is
   brought to the goal by zeros instead (`sparse`), which may lose less at equal parameters.

Nothing here looks at test data. What to do next is a pure function of what was tried: `next_move`.
"""

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from controller.compress.errors import CompressError
from controller.compress.training.channels import Importance, Schedule, Spread, thin
from controller.compress.training.choice import Loss
from controller.compress.training.journal import Journal
from controller.compress.training.network import measured, right_answers
from controller.compress.training.sparse import Masks
from controller.compress.training.target import Size, Target
from controller.compress.training.teach import Lesson, teach

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from controller.compress.training.protocol import Task

_FALLEN_POINTS = 4.0
"""Beyond the loss that is allowed: what brief teaching loses so much more will not come back."""
_DOWN_SHARE = 0.45
"""Of the time that is allowed, at most, on the way down."""
_REST_SHARE = 0.85
"""Of it for all training; the rest is for converting and measuring."""
_NEAR = 0.75
"""Two sizes whose ratio is above this have nothing worth trying between them."""


@dataclass(frozen=True, slots=True)
class Descent:
    """How to search.

    Attributes:
        loss_points: accuracy on validation data that may be lost, in percentage points.
        goal: share of the parameters that may be non-zero in the end; the search goes below it
            where that costs nothing.
        steps: down, at most.
        brief: the lesson after each step down.
        long: the lesson of a candidate.
        rounds: long lessons at most.
        seconds: for all of it; None: as long as it takes.
        importance, spread: as `channels.Schedule`.
    """

    loss_points: float = 0.5
    goal: float = 0.12
    steps: int = 6
    brief: Lesson = field(default_factory=lambda: Lesson(epochs=3, rate=1e-3))
    long: Lesson = field(default_factory=lambda: Lesson(epochs=20, rate=2e-3))
    rounds: int = 5
    seconds: float | None = None
    importance: Importance = "taylor"
    spread: Spread = "alike"

    @property
    def shares(self) -> tuple[float, ...]:
        """Sizes on the way down, as shares of the parameters; the third is the goal."""
        factor = self.goal ** (1 / 3)
        return tuple(factor**step for step in range(1, self.steps + 1))


@dataclass(frozen=True, slots=True)
class Tried:
    """A size that was tried.

    Attributes:
        share: parameters that are left, as a share of the original's.
        nonzero: of them, that are not zero, as a share of the original's.
        is_long: whether it had the long lesson.
        loss: on validation data.
    """

    share: float
    nonzero: float
    is_long: bool
    loss: Loss

    @property
    def is_sparse(self) -> bool:
        """Whether it was brought to its size by zeros as well."""
        return self.nonzero < self.share

    @property
    def name(self) -> str:
        """For files and tables: the per cent of parameters that are left, `channels-12`."""
        size = f"channels-{_percent(self.share)}"
        return f"{size}-zeros-{_percent(self.nonzero)}" if self.is_sparse else size


@dataclass(frozen=True, slots=True)
class Move:
    """What to do next: cut to a share of the parameters, leave so many non-zero, teach long."""

    share: float
    nonzero: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """A network that was made.

    Attributes:
        tried: what it is, and what it loses.
        network: in evaluation mode.
        size: its cost; zeros do not count.
        accuracy_cut: on validation data before teaching.
        accuracy: after it.
        epochs: of its last lesson.
    """

    tried: Tried
    network: "torch.nn.Module"
    size: Size
    accuracy_cut: float
    accuracy: float
    epochs: int


def next_move(tried: Sequence[Tried], plan: Descent) -> Move | None:
    """Return which candidate gets the next long lesson; None: there is nothing left to try. Pure.

    Args:
        tried: all so far, in the order in which they were made.
        plan: how to search.
    """
    down = sorted((one.share for one in tried if not one.is_long), reverse=True)
    long = [one for one in tried if one.is_long]
    if not down or len(long) >= plan.rounds:
        return None
    dense = {one.share: one.loss.is_within(plan.loss_points) for one in long if not one.is_sparse}
    if not dense:
        share = _first(tried, plan)
        return Move(share, share)
    held = [share for share, is_within in dense.items() if is_within]
    failed = [share for share, is_within in dense.items() if not is_within]
    if held:
        return _smaller(min(held), down, failed)
    bigger = [share for share in down if share > max(failed)]
    if bigger and min(bigger) <= plan.goal * (1 + 1e-9):
        return Move(min(bigger), min(bigger))
    return _sparse(long, bigger, plan)


def _first(tried: Sequence[Tried], plan: Descent) -> float:
    """Return the smallest size that brief teaching keeps within, but no bigger than the goal."""
    shares = [one.share for one in tried]
    small = [share for share in shares if share <= plan.goal * (1 + 1e-9)] or [min(shares)]
    within = [one.share for one in tried if one.loss.is_within(plan.loss_points)]
    return min([max(small), *within])


def _smaller(held: float, down: Sequence[float], failed: Sequence[float]) -> Move | None:
    below = [share for share in down if share < held]
    if failed:
        between = math.sqrt(held * max(failed))
        is_worth_it = max(failed) < _NEAR**2 * held
        return Move(between, between) if is_worth_it and len(failed) == 1 else None
    return Move(max(below), max(below)) if below else None


def _sparse(long: Sequence[Tried], bigger: Sequence[float], plan: Descent) -> Move | None:
    """Return the next bigger network that zeros have not yet brought to the goal."""
    sparse = [one for one in long if one.is_sparse]
    if any(one.loss.is_within(plan.loss_points) for one in sparse):
        return None
    left = [share for share in bigger if share not in {one.share for one in sparse}]
    return Move(min(left), plan.goal) if left else None


def finalists(made: Sequence[Candidate], plan: Descent, most: int = 3) -> list[Candidate]:
    """Return the candidates that are worth a file, the smallest first. Pure.

    Some losses change with int8, and other samples tell more: so not the smallest alone that is
    within, but also the smallest that is surely so, and of those that keep the goal the one that
    loses least. Where that makes fewer than may be, the one that loses least of all.

    Args:
        made: at least one.
        plan: for goal and loss.
        most: how many at most.
    """
    latest = list({one.tried.name: one for one in made}.values())
    allowed = plan.loss_points
    wanted = [
        _smallest([one for one in latest if one.tried.loss.is_surely_within(allowed)]),
        _safest([one for one in latest if one.tried.nonzero <= plan.goal * (1 + 1e-9)]),
        _smallest([one for one in latest if one.tried.loss.is_within(allowed)]),
        _safest(latest),
    ]
    distinct = list({one.tried.name: one for one in wanted if one is not None}.values())[:most]
    return sorted(distinct, key=lambda one: (one.size.macs, one.tried.nonzero))


def _smallest(made: Sequence[Candidate]) -> Candidate | None:
    return min(made, key=lambda one: (one.tried.nonzero, one.size.macs), default=None)


def _safest(made: Sequence[Candidate]) -> Candidate | None:
    return min(made, key=lambda one: one.tried.loss.points, default=None)


def descend(
    task: "Task",
    plan: Descent,
    journal: Journal,
    say: Callable[[str, int, int], None] = lambda _title, _done, _total: None,
    tell: Callable[[str], None] = lambda _line: None,
) -> list[Candidate]:
    """Search, and return every candidate in the order in which it was made.

    Args:
        task: network, data and loss.
        plan: how.
        journal: what it has made already is not made again.
        say: told what is done, how much work is over and how much there is.
        tell: told what came of each candidate, in a line.

    Raises:
        CompressError: the network cannot be cut; training diverges.
    """
    search = _Search(task, plan, journal, say, tell)
    search.down()
    search.long_lessons()
    return search.made


class _Search:
    """The work itself: networks, time and messages."""

    def __init__(
        self,
        task: "Task",
        plan: Descent,
        journal: Journal,
        say: Callable[[str, int, int], None],
        tell: Callable[[str], None],
    ) -> None:
        self._task, self._plan, self._journal = task, plan, journal
        self._say, self._tell = say, tell
        self._begun_s = time.monotonic()
        self._original = measured(task.network, task.example, is_int8=True)
        self._right: NDArray[np.bool_] = right_answers(task.network, task.validation)
        self._macs_done, self._macs_to_do = 0, self._macs_at_most()
        self._seconds_a_mac: float | None = None
        self.made: list[Candidate] = []

    def down(self) -> None:
        """Go down, each step from the one before."""
        network, lesson = self._task.network, self._plan.brief
        for share in self._plan.shares:
            if self.made and not self._has_time(share, lesson.epochs, _DOWN_SHARE):
                self._tell("No time for smaller ones on the way down.")
                break
            try:
                made = self._make(network, Move(share, share), lesson, is_long=False)
            except CompressError as error:
                if not self.made:
                    raise
                self._tell(str(error))
                break
            network = made.network
            if not made.tried.loss.is_within(self._plan.loss_points + _FALLEN_POINTS):
                break

    def long_lessons(self) -> None:
        """Spend what is left on the candidates that are worth it."""
        long = self._plan.long
        self._macs_to_do = self._macs_done
        for number in range(self._plan.rounds):
            move = next_move([one.tried for one in self.made], self._plan)
            if move is None:
                break
            ahead = self._plan.rounds - number
            self._macs_to_do = self._macs_done + ahead * self._macs(move.share, long.epochs)
            epochs = self._affordable(move.share, long.epochs)
            if epochs < min(long.epochs, max(2, self._plan.brief.epochs)):
                self._tell("No time for more long lessons.")
                break
            start = self._start(move)
            self._make(start, move, replace(long, epochs=epochs), is_long=True)

    def _start(self, move: Move) -> "torch.nn.Module":
        """Return the network that a move begins with: the smallest that is no smaller."""
        dense = [one for one in self.made if not one.tried.is_sparse]
        able = [one for one in dense if one.tried.share >= move.share * (1 - 1e-9)]
        # Of two of one size the later one has learnt longer.
        return min(reversed(able), key=lambda one: one.tried.share).network

    def _make(
        self, start: "torch.nn.Module", move: Move, lesson: Lesson, *, is_long: bool
    ) -> Candidate:
        kind = "long" if is_long else "brief"
        key = f"{kind}-{move.share:.4f}-{move.nonzero:.4f}"
        made: Candidate | None = self._journal.get(key)
        if made is None:
            made = self._taught(start, move, lesson, is_long=is_long)
            self._journal.put(key, made)
        self.made.append(made)
        loss, what = made.tried.loss, made.tried.name
        self._tell(
            f"{what}, {made.epochs} epochs: validation {100 * made.accuracy:.2f}%, loss "
            f"{loss.points:.2f} points (standard error {loss.error_points:.2f})"
        )
        return made

    def _taught(
        self, start: "torch.nn.Module", move: Move, lesson: Lesson, *, is_long: bool
    ) -> Candidate:
        network = copy.deepcopy(start)
        title = f"{'Long lesson' if is_long else 'Down'}: {_percent(move.share)}% of parameters"
        self._say(f"{title}, cutting", *self._progress())
        self._cut(network, move.share)
        cut = right_answers(network, self._task.validation)
        begun_s, an_epoch = time.monotonic(), self._macs(move.share, 1)

        def on_epoch(_epoch: int, _epochs: int) -> None:
            self._macs_done += an_epoch
            self._say(f"{title}, teaching", *self._progress())

        zeros = move.nonzero < move.share
        kept = move.nonzero * self._original.parameters
        masks = Masks(network, self._task.example, kept) if zeros else _leave
        teach(network, self._task, lesson, on_epoch, after_step=masks)
        taken = lesson.epochs * an_epoch
        self._seconds_a_mac = (time.monotonic() - begun_s) / max(1, taken)
        now = right_answers(network, self._task.validation)
        spoiled = int((self._right & ~now).sum())
        loss = Loss(len(now), spoiled, int((~self._right & now).sum()))
        return Candidate(
            tried=Tried(move.share, move.nonzero, is_long, loss),
            network=network,
            size=measured(network, self._task.example, is_int8=True),
            accuracy_cut=float(cut.mean()),
            accuracy=float(now.mean()),
            epochs=lesson.epochs,
        )

    def _cut(self, network: "torch.nn.Module", share: float) -> None:
        limit = share * self._original.parameters
        if measured(network, self._task.example, is_int8=True).parameters <= limit:
            return
        schedule = Schedule(importance=self._plan.importance, spread=self._plan.spread)
        thin(network, self._task, Target("parameters", limit), schedule)

    def _macs(self, share: float, epochs: int) -> int:
        """Return the work of some epochs in answers of the original's cost, times 1000.

        Training costs three answers of the student and one of the teacher.
        """
        return round(1000 * epochs * (1 + 3 * share))

    def _macs_at_most(self) -> int:
        plan = self._plan
        down = sum(self._macs(share, plan.brief.epochs) for share in plan.shares)
        return down + plan.rounds * self._macs(plan.goal, plan.long.epochs)

    def _progress(self) -> tuple[int, int]:
        return self._macs_done, max(self._macs_done, self._macs_to_do)

    def _affordable(self, share: float, epochs: int) -> int:
        """Return how many epochs there is time for, at most as many as are wanted."""
        if self._plan.seconds is None or self._seconds_a_mac is None:
            return epochs
        left_s = self._plan.seconds * _REST_SHARE - (time.monotonic() - self._begun_s)
        return min(epochs, int(left_s / (self._macs(share, 1) * self._seconds_a_mac)))

    def _has_time(self, share: float, epochs: int, part: float) -> bool:
        if self._plan.seconds is None or self._seconds_a_mac is None:
            return True
        needed_s = self._macs(share, epochs) * self._seconds_a_mac
        return time.monotonic() - self._begun_s + needed_s <= part * self._plan.seconds


def _leave(_share: float) -> None:
    """Change no weights."""


def _percent(share: float) -> str:
    """Return a share as per cent with two digits: 49, 5.9, 0.71."""
    percent = 100 * share
    digits = max(0, 1 - math.floor(math.log10(percent)))
    return f"{percent:.{digits}f}".rstrip("0").rstrip(".") if digits else f"{percent:.0f}"
