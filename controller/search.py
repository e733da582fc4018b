"""The cascade of least expected cost from a pool of models, for every eps. Pure.

Choosing among many cascades and proving what was chosen on the same samples would promise too much.
So the samples are two: on the first ones every cascade is weighed and one is chosen for each eps,
on the others that one alone is certified, as `ctl cascade build` does it with them.

The loss is counted against the reference, the most accurate model. A cascade that ends with it
loses at most its certificate's eps. One that ends with another model L loses at most the eps of its
certificate, which is against L, and what L itself loses: at most the probability that L is wrong
and the reference is right. That has an exact upper bound for every model of the pool at once
(Clopper and Pearson, "The Use of Confidence or Fiducial Limits Illustrated in the Case of the
Binomial", 1934; delta divided by the number of models). The certificates of the rows hold together
with 95%, the bounds with 95%, all of it with 90%.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from controller.calibrate import (
    DELTA,
    EPS_LADDER,
    GRID,
    NEVER,
    Calibration,
    GateRecord,
    binomial_tail,
    calibrate,
    most_harms,
    samples_needed,
)
from controller.errors import BuildError
from protocols.bundle import Metric

METRICS: tuple[Metric, ...] = get_args(Metric)
MAX_STAGES = 4
MAX_MODELS = 16
_BISECTIONS = 60
_SAME = 1e-9
_WORTH_A_STAGE = 0.05
"""A cascade of more stages must cost so much less: they take memory, and costs are estimates."""

_NONE, _ONE = "no early exit seems safe enough", "one stage is no cascade"


@dataclass(frozen=True, slots=True)
class Member:
    """One model of a pool, and what it did on some samples.

    Attributes:
        name: of the model.
        cost: of one answer; any unit, the same for all.
        right: [n], whether it is right.
        confidence: by metric, [n].
    """

    name: str
    cost: float
    right: NDArray[np.bool_]
    confidence: Mapping[Metric, NDArray[np.floating[Any]]]

    def gate(self, metric: Metric) -> GateRecord:
        """Return what it does as a gated stage."""
        return GateRecord(self.confidence[metric], self.right)


@dataclass(frozen=True, slots=True)
class Single:
    """A model on its own, on the samples of the certificate.

    Attributes:
        accuracy: of it.
        loss: accuracy that the reference has more.
        bound: upper bound of its loss against the reference; all bounds hold together with 95%.
    """

    name: str
    cost: float
    accuracy: float
    loss: float
    bound: float


@dataclass(frozen=True, slots=True)
class Found:
    """A cascade, certified.

    Attributes:
        stages: models, in order; `metrics` of the gates, all but the last.
        eps: of its certificate, against its last stage; `bound` is the last stage's own.
        calibration: what `ctl cascade build` finds on the same samples.
        step: of its ladders.
        cost: expected for one answer.
        accuracy: on the samples of the certificate.
        loss: accuracy that the reference has more there.
    """

    stages: tuple[str, ...]
    metrics: tuple[Metric, ...]
    eps: float
    bound: float
    calibration: Calibration
    step: int
    cost: float
    accuracy: float
    loss: float


@dataclass(frozen=True, slots=True)
class Row:
    """What is best at one eps.

    Attributes:
        eps: accuracy that may be lost against the reference.
        cascade: the one that was chosen; None: none was, or it is not certified (`why`).
        single: the cheapest model whose bound is at most eps.
        why: there is no cascade.
    """

    eps: float
    cascade: Found | None
    single: Single
    why: str | None = None

    @property
    def cascade_wins(self) -> bool:
        """Whether the cascade costs less than every single model that is as safe."""
        return self.cascade is not None and self.cascade.cost < self.single.cost


@dataclass(frozen=True, slots=True)
class Search:
    """What was found in a pool."""

    reference: str
    singles: tuple[Single, ...]
    rows: tuple[Row, ...]
    weighed: int
    """Cascades that were looked at."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A cascade that is weighed, with what it is expected to cost."""

    stages: tuple[int, ...]
    metrics: tuple[Metric, ...]
    eps: float
    cost: float


def search(
    choose: Sequence[Member],
    prove: Sequence[Member],
    eps: Sequence[float] = EPS_LADDER,
    most_stages: int = MAX_STAGES,
    *,
    add_up: bool = False,
) -> Search:
    """Find the best cascade for every eps.

    Args:
        choose: the pool on the samples that cascades are chosen with.
        prove: the same models on the samples that the chosen ones are certified with.
        eps: accuracies that may be lost; steps of `EPS_LADDER`.
        most_stages: of a cascade.
        add_up: a cascade costs what all its stages cost, whoever answers (bytes).

    Raises:
        BuildError: the pool is too small or too large, or the samples are too few.
    """
    _check(choose, prove, eps)
    order = sorted(range(len(choose)), key=lambda i: (choose[i].cost, choose[i].right.mean()))
    choose, prove = [choose[i] for i in order], [prove[i] for i in order]
    best = max(range(len(choose)), key=lambda i: (choose[i].right.mean(), -choose[i].cost))
    weigher = _Weigher(choose, best, len(prove[0].right), add_up=add_up)
    singles = _singles(prove, best)
    rows = []
    for one in eps:
        alone = min((s for s in singles if s.bound <= one), key=lambda s: s.cost)
        candidate = weigher.cheapest(one, most_stages)
        if candidate is None:
            rows.append(Row(one, None, alone, _NONE if most_stages > 1 else _ONE))
        else:
            rows.append(_row(one, candidate, prove, singles, alone, add_up=add_up))
    return Search(choose[best].name, singles, tuple(rows), weigher.weighed)


def upper_bound(harms: int, n: int, delta: float) -> float:
    """Return the largest probability that so few harms among n samples do not reject at delta."""
    low, high = harms / n, 1.0
    if harms >= n:
        return 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if middle <= 0 or binomial_tail(harms, n, middle) > delta:
            low = middle
        else:
            high = middle
    return high


class _Weigher:
    """Looks for the cheapest cascade on the samples for choosing."""

    def __init__(self, members: Sequence[Member], best: int, proved: int, *, add_up: bool) -> None:
        self._members, self._best, self._proved, self._add_up = members, best, proved, add_up
        self._n = len(members[0].right)
        self._thresholds: dict[tuple[int, Metric, int, float, int], float] = {}
        self._last_bounds = [self._bound(index) for index in range(len(members))]
        self.weighed = 0

    def cheapest(self, eps: float, most_stages: int) -> _Candidate | None:
        """Return the cascade of two stages or more that seems cheapest at an eps."""
        found: _Candidate | None = None
        for size in range(2, min(most_stages, len(self._members)) + 1):
            for stages in itertools.combinations(range(len(self._members)), size):
                if self._least(stages) >= _to_beat(found, size):
                    continue
                for candidate in self._weigh(stages, eps):
                    if candidate.cost < _to_beat(found, size):
                        found = candidate
        return found

    def _least(self, stages: tuple[int, ...]) -> float:
        """Return what a cascade costs at the very least: every answer passes the first stage."""
        costs = [self._members[index].cost for index in stages]
        return sum(costs) if self._add_up else costs[0]

    def _weigh(self, stages: tuple[int, ...], eps: float) -> Iterator[_Candidate]:
        gates = len(stages) - 1
        own = self._own_eps(stages[-1], eps, gates)
        if own is None:
            return
        for metrics in itertools.product(METRICS, repeat=gates):
            self.weighed += 1
            thresholds = [
                self._threshold(stage, metric, stages[-1], own, gates)
                for stage, metric in zip(stages, metrics, strict=False)
            ]
            if NEVER not in thresholds and self._asks_last(stages, metrics, thresholds):
                yield _Candidate(stages, metrics, own, self._cost(stages, metrics, thresholds))

    def _own_eps(self, last: int, eps: float, gates: int) -> float | None:
        """Return the step of the ladder that a certificate against `last` may take; None: none."""
        delta = DELTA / len(EPS_LADDER) / gates
        room = eps - self._last_bounds[last] + _SAME
        fit = [e for e in EPS_LADDER if e <= room]
        fit = [e for e in fit if self._proved >= samples_needed(e / gates, delta)]
        return max(fit, default=None)

    def _bound(self, index: int) -> float:
        """Expect the bound that the other samples will give a model."""
        if index == self._best:
            return 0.0
        harms = int((self._members[self._best].right & ~self._members[index].right).sum())
        scaled = min(self._proved, math.ceil(harms * self._proved / self._n))
        return upper_bound(scaled, self._proved, _bounds_delta(len(self._members)))

    def _threshold(self, stage: int, metric: Metric, last: int, eps: float, gates: int) -> float:
        """Expect the threshold that the other samples will certify."""
        key = (stage, metric, last, eps, gates)
        if key not in self._thresholds:
            delta = DELTA / len(EPS_LADDER) / gates
            allowed = most_harms(self._proved, eps / gates, delta) * self._n // self._proved
            one = self._members[stage]
            harmful = ~one.right & self._members[last].right
            at_risk = np.sort(np.asarray(one.confidence[metric], np.float64)[harmful])
            harms = len(at_risk) - np.searchsorted(at_risk, GRID, side="left")
            passed = int(np.searchsorted(harms, allowed, side="right"))
            self._thresholds[key] = float(GRID[passed - 1]) if passed else NEVER
        return self._thresholds[key]

    def _asks_last(
        self, stages: tuple[int, ...], metrics: Sequence[Metric], thresholds: Sequence[float]
    ) -> bool:
        """Whether any answer gets to the last stage; a model that is never asked is no stage."""
        return bool(self._stays(stages, metrics, thresholds)[-1].any())

    def _cost(
        self, stages: tuple[int, ...], metrics: Sequence[Metric], thresholds: Sequence[float]
    ) -> float:
        costs = [self._members[index].cost for index in stages]
        if self._add_up:
            return sum(costs)
        shares = [1.0, *(float(s.mean()) for s in self._stays(stages, metrics, thresholds))]
        return sum(cost * share for cost, share in zip(costs, shares, strict=True))

    def _stays(
        self, stages: tuple[int, ...], metrics: Sequence[Metric], thresholds: Sequence[float]
    ) -> list[NDArray[np.bool_]]:
        """Return for each gate which samples have not left by then, [n]."""
        stays, found = np.ones(self._n, np.bool_), []
        for stage, metric, threshold in zip(stages, metrics, thresholds, strict=False):
            stays = stays & (self._members[stage].confidence[metric] < threshold)
            found.append(stays)
        return found


def _to_beat(found: _Candidate | None, stages: int) -> float:
    """Return the cost that a cascade of so many stages must be below to take another's place."""
    if found is None:
        return math.inf
    return found.cost * (1 - _WORTH_A_STAGE) if stages > len(found.stages) else found.cost - _SAME


def _row(
    eps: float,
    candidate: _Candidate,
    prove: Sequence[Member],
    singles: Sequence[Single],
    alone: Single,
    *,
    add_up: bool,
) -> Row:
    found = _certified(candidate, prove, singles, add_up=add_up)
    if found.eps + found.bound > eps + _SAME:
        why = (
            f"{' > '.join(found.stages)} was chosen, but {found.stages[-1]} alone may lose "
            f"{found.bound:.2%}"
        )
        return Row(eps, None, alone, why)
    if all(ladder[found.step].threshold >= NEVER for ladder in found.calibration.gates.values()):
        return Row(
            eps, None, alone, f"{' > '.join(found.stages)} was chosen; no threshold is certified"
        )
    return Row(eps, found, alone)


def _certified(
    candidate: _Candidate, prove: Sequence[Member], singles: Sequence[Single], *, add_up: bool
) -> Found:
    members = [prove[index] for index in candidate.stages]
    *early, last = members
    calibration = calibrate(
        {one.name: one.gate(metric) for one, metric in zip(early, candidate.metrics, strict=True)},
        last.name,
        last.right,
    )
    step = next(i for i, e in enumerate(calibration.eps) if math.isclose(e, candidate.eps))
    accuracy = calibration.accuracy[step]
    reference = next(single for single in singles if single.bound == 0)  # no other has none
    return Found(
        stages=tuple(one.name for one in members),
        metrics=candidate.metrics,
        eps=candidate.eps,
        bound=next(s.bound for s in singles if s.name == last.name),
        calibration=calibration,
        step=step,
        cost=expected_cost([one.cost for one in members], calibration, step, add_up=add_up),
        accuracy=accuracy,
        loss=reference.accuracy - accuracy,
    )


def expected_cost(
    costs: Sequence[float], calibration: Calibration, step: int, *, add_up: bool = False
) -> float:
    """Return the sum of the stages' costs, each by the share of answers that gets so far."""
    if add_up:
        return sum(costs)
    shares = [1.0, *(ladder[step].escalated for ladder in calibration.gates.values())]
    return sum(cost * share for cost, share in zip(costs, shares, strict=True))


def _singles(prove: Sequence[Member], best: int) -> tuple[Single, ...]:
    reference = prove[best]
    delta, found = _bounds_delta(len(prove)), []
    for index, one in enumerate(prove):
        harms = int((reference.right & ~one.right).sum())
        found.append(
            Single(
                name=one.name,
                cost=one.cost,
                accuracy=float(one.right.mean()),
                loss=float(reference.right.mean() - one.right.mean()),
                bound=0.0 if index == best else upper_bound(harms, len(one.right), delta),
            )
        )
    return tuple(found)


def _bounds_delta(models: int) -> float:
    return DELTA / max(1, models - 1)


def check_size(models: int) -> None:
    """Check how many models a pool has.

    Raises:
        BuildError: too few or too many.
    """
    if not 2 <= models <= MAX_MODELS:  # noqa: PLR2004 - a cascade has two stages
        raise BuildError(
            f"cannot search {models} models: want 2 to {MAX_MODELS}; leave out what you would not "
            "deploy"
        )


def _check(choose: Sequence[Member], prove: Sequence[Member], eps: Sequence[float]) -> None:
    check_size(len(choose))
    unknown = [one for one in eps if not any(math.isclose(one, step) for step in EPS_LADDER)]
    if unknown or not eps:
        steps = ", ".join(f"{step:.1%}" for step in EPS_LADDER)
        raise BuildError(f"cannot search at eps {unknown or 'none'}: certified are {steps}")
    least, given = math.ceil(1 / max(eps)), len(choose[0].right)
    if given < least:
        raise BuildError(
            f"cannot choose at eps {max(eps):.1%} with {given} samples: among fewer than {least} "
            "not one harm is expected; give more (500 are a good number)"
        )
    delta, n = DELTA / len(EPS_LADDER), len(prove[0].right)
    needed = samples_needed(max(eps), delta)
    if n < needed:
        raise BuildError(
            f"cannot certify eps {max(eps):.1%} with {n} samples: it takes at least {needed}; "
            "give more (1,500 are a good number: a third chooses, two thirds prove)"
        )


def on(member: Member, indices: NDArray[np.int64]) -> Member:
    """Return what a model did on some of the samples."""
    confidence = {metric: values[indices] for metric, values in member.confidence.items()}
    return replace(member, right=member.right[indices], confidence=confidence)
