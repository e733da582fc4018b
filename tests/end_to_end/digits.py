"""The shipped digit models and their data, as the end-to-end tests use them."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import controller.demo
from tests.end_to_end.stack import Stack

ASSETS = Path(controller.demo.__file__).parent / "assets"
SAMPLES = ASSETS / "digits.npz"
SMALL = ASSETS / "small-int8.tflite"
LARGE_INT8 = ASSETS / "large-int8.tflite"
LARGE_FP32 = ASSETS / "large-fp32.tflite"

SHORT_DWELL = """
[dwell]
hold_s = 0.4
recover_s = 1.0
up_moves_per_hour = 60
"""


def images(count: int = 40) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return images [count, 8, 8, 1] float32 and their labels [count], of the test split."""
    with np.load(SAMPLES) as data:
        return data["x_test"][:count], data["y_test"][:count]


def build(stack: Stack, large: Path = LARGE_INT8, *options: str, name: str = "digits") -> str:
    """Build the next version of the digit cascade; return name@version."""
    made = stack.ctl_json(
        "cascade",
        "build",
        name,
        "--stage",
        f"small={SMALL}",
        "--stage",
        f"large={large}",
        "--gate",
        "max_prob",
        "--samples",
        str(SAMPLES),
        "--x-key",
        "x_calibration",
        "--y-key",
        "y_calibration",
        *options,
    )
    return f"{made['name']}@{made['version']}"
