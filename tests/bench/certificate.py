"""How often a certificate promises too much: the demo's pair of models, divided at random.

Two counts. Divisions, as a person would do it: 600 of the 1,000 images calibrate, the loss of
accuracy is read off the other 400; where it is beyond eps, that is partly the doing of so few test
images. Draws: the calibration images are drawn with replacement, so that the 1,000 are the whole
world, and the harm that a threshold does in it is known exactly; this is what the theorem speaks of
(the loss is at most the harm).

With a temperature in the gate, one half of what calibrates fits it and the other one certifies, as
`ctl cascade build --temperature auto` does it.
"""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import controller.demo
from controller import temperature
from controller.calibrate import DELTA, EPS_LADDER, GateRecord, calibrate
from controller.compress.scorer import Scorer
from controller.pool import labels
from controller.samples import Samples, read_samples
from controller.scores import gate_record
from controller.search import METRICS
from protocols.bundle import Metric, ScoreKind
from protocols.inference.gate import score_kind

TRIALS, CALIBRATION = 300, 600

_ASSETS = Path(controller.demo.__file__).parent / "assets"

Indices = NDArray[np.int64]
Divide = Callable[[np.random.Generator, int], tuple[Indices, Indices]]
"""Draws the images that calibrate, and those that the loss is read off."""

Flags = NDArray[np.bool_]
Judge = Callable[[Indices], tuple[GateRecord, Indices]]
"""Takes the images that calibrate; returns what the small model does with all, and those of them
that certify."""

Count = Callable[[Flags, Flags, Flags], float]
"""Takes who leaves early, where the small model is right, and where the large one is."""


def main() -> None:
    """Print, for every metric and step, how often more was lost than was certified."""
    samples = _samples()
    with Scorer(samples) as scorer:
        rows = {name: _scores(scorer, name) for name in ("small-int8", "large-int8")}
    y = labels(samples)
    kinds = {name: score_kind(found) for name, found in rows.items()}
    large = gate_record(rows["large-int8"], kinds["large-int8"], "max_prob", y).right
    any_may, one_may = _allowed(DELTA), _allowed(DELTA / len(EPS_LADDER))
    print(f"small-int8 before large-int8 on digits, {TRIALS} trials, {CALIBRATION} calibrate")
    print(f"  may be beyond eps, with sampling error: any step {any_may:.2%}, one {one_may:.2%}")
    holds = True
    first, kind = rows["small-int8"], kinds["small-int8"]
    judges = {str(metric): _plain(first, kind, metric, y) for metric in METRICS}
    judges["max_prob scaled"] = _scaled(first, kind, "max_prob", y)
    for title, judge in judges.items():
        lost, lost_any = _beyond(judge, large, _division, _loss)
        harmed, harmed_any = _beyond(judge, large, _draw, _harm)
        _print_line(f"{title}, divisions, loss", lost, lost_any)
        _print_line(f"{title}, draws, harm", harmed, harmed_any)
        holds = holds and max(lost_any, harmed_any) <= any_may and max(harmed.values()) <= one_may
    print(f"  the certificate {'holds' if holds else 'DOES NOT HOLD'}")


def _print_line(title: str, beyond: dict[float, float], any_step: float) -> None:
    steps = ", ".join(f"{eps:.1%}: {share:.2%}" for eps, share in beyond.items())
    print(f"  {title:32} any step {any_step:6.2%}   {steps}")


def _plain(rows: NDArray[np.float32], kind: ScoreKind, metric: Metric, y: Indices) -> Judge:
    record = gate_record(rows, kind, metric, y)
    return lambda fit: (record, fit)


def _scaled(rows: NDArray[np.float32], kind: ScoreKind, metric: Metric, y: Indices) -> Judge:
    z = temperature.logits(rows, kind)

    def judge(fit: Indices) -> tuple[GateRecord, Indices]:
        fits, proves = np.array_split(fit, 2)
        degrees = temperature.fit(z[fits], y[fits])
        return gate_record(rows, kind, metric, y, degrees), proves

    return judge


def _beyond(
    judge: Judge, large: NDArray[np.bool_], divide: Divide, count: Count
) -> tuple[dict[float, float], float]:
    """Return the share of trials with more of that than eps, by step, and at any step."""
    counts, any_step = dict[float, int](), 0
    for trial in range(TRIALS):
        fit, test = divide(np.random.default_rng(trial), len(large))
        small, fit = judge(fit)
        record = GateRecord(small.confidence[fit], small.right[fit])
        found = calibrate({"small": record}, "large", large[fit])
        failed = False
        for step, eps in enumerate(found.eps):
            leaves = small.confidence[test] >= found.gates["small"][step].threshold
            beyond = count(leaves, small.right[test], large[test]) > eps
            counts[eps] = counts.get(eps, 0) + beyond
            failed = failed or beyond
        any_step += failed
    return {eps: count / TRIALS for eps, count in counts.items()}, any_step / TRIALS


def _loss(leaves: Flags, small: Flags, large: Flags) -> float:
    return float(large.mean() - np.where(leaves, small, large).mean())


def _harm(leaves: Flags, small: Flags, large: Flags) -> float:
    return float((leaves & ~small & large).mean())


def _division(draw: np.random.Generator, n: int) -> tuple[Indices, Indices]:
    order = draw.permutation(n)
    return order[:CALIBRATION], order[CALIBRATION:]


def _draw(draw: np.random.Generator, n: int) -> tuple[Indices, Indices]:
    return draw.integers(0, n, CALIBRATION), np.arange(n)


def _allowed(delta: float) -> float:
    """Return the share of trials that may fail: delta and three standard errors."""
    return delta + 3 * math.sqrt(delta * (1 - delta) / TRIALS)


def _samples() -> Samples:
    """Return the demo's images that no training has seen, calibration and test together."""
    path = _ASSETS / "digits.npz"
    parts = [read_samples(path, f"x_{name}", f"y_{name}") for name in ("calibration", "test")]
    x = np.concatenate([part.x for part in parts])
    y = np.concatenate([labels(part) for part in parts])
    return Samples(x, y, parts[0].sha256, str(path))


def _scores(scorer: Scorer, name: str) -> NDArray[np.float32]:
    return scorer.rows((_ASSETS / f"{name}.tflite").read_bytes(), name)


if __name__ == "__main__":
    main()
