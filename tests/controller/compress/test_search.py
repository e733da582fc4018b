from pathlib import Path

import numpy as np
import pytest

from controller.compress.errors import CompressError
from controller.compress.prune import prune_to, prune_within
from controller.compress.search import Judge
from controller.compress.share import BITS_TRIED, share_within
from controller.compress.weights import footprint
from controller.samples import Samples, read_samples
from tests import models

ASSETS = Path(__file__).parents[3] / "controller" / "demo" / "assets"
"""Real digits; a model of one layer keeps the number of runs small."""


def judge() -> Judge:
    read = read_samples(ASSETS / "digits.npz", "x_calibration", "y_calibration")
    assert read.y is not None
    flat = read.x.reshape(len(read.x), -1)
    samples = Samples(flat[:200], read.y[:200], read.sha256, read.source)
    means = np.stack([flat[read.y == digit].mean(axis=0) for digit in range(10)])
    bias = -np.square(means).sum(axis=1) / 2  # the nearest mean, as a linear layer
    layer = (means.astype(np.float32), bias.astype(np.float32))
    return Judge(models.classifier([layer], head="logits"), "digits", samples)


def test_palettes_hold_their_budget() -> None:
    with judge() as court:
        found, report = share_within(court, 0.02)
    assert found.verdict.chosen_on.lost <= 0.02 + 1e-9
    assert found.verdict.chosen_on.samples == found.verdict.held_out.samples == 100
    assert report.layers[0].bits in BITS_TRIED
    assert (
        min(point.wire_bytes for point in found.curve) <= footprint(found.content, "m").wire_bytes
    )
    assert footprint(found.content, "m").wire_bytes < footprint(court.content, "m").wire_bytes
    assert found.curve[0].loss == 0


def test_zeros_hold_their_budget_or_their_number() -> None:
    with judge() as court:
        found, report = prune_within(court, 0.02)
        assert found.verdict.chosen_on.lost <= 0.02 + 1e-9
        assert report.sparsity > 0
        _, exact = prune_to(court, 0.43)
        assert exact.layers[0].zeros == int(640 * 0.43)
        with pytest.raises(CompressError, match="by sensitivity: at most 95"):
            prune_to(court, 0.97)
