"""Samples for the models of these tests."""

import numpy as np
from numpy.typing import NDArray


def samples(count: int, *shape: int, seed: int = 0) -> NDArray[np.float32]:
    """Return samples [count, *shape] (64 features where no shape is given) in [-1, 1]."""
    draw = np.random.default_rng(seed)
    return draw.uniform(-1, 1, (count, *(shape or (64,)))).astype(np.float32)
