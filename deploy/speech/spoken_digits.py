"""Spoken digits for the toolkit: a float32 classifier of ten million parameters, and its data.

This is a training module as `controller.compress.training.protocol` describes it. It reads

- `SPOKEN_DIGITS`: path of the zip file of the free spoken digit dataset (`recordings/
  <digit>_<speaker>_<index>.wav`, 3,000 recordings of six speakers);
- `SPOKEN_DIGITS_WEIGHTS`: the trained weights, default `spoken-digits.pt`.

    SPOKEN_DIGITS=free-spoken-digits.zip python deploy/speech/spoken_digits.py

trains the classifier and writes the weights; one core takes some minutes.

The recordings are split by their index, as the data set's authors ask for: 0-4 test (300), 5-14
calibration (600, seen by nothing but the certificate of a cascade), 15-24 validation (600: what a
recipe takes is chosen on them, to half a point), 25-49 training (1,500).
"""

# ruff: noqa: INP001 (a script, not a package)

from __future__ import annotations

import functools
import logging
import os
import re
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from logmel import FRAMES, LENGTH, MELS, fitted, log_mel, read_wav
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Labels = NDArray[np.int64]
    Batch = tuple[torch.Tensor, torch.Tensor]

log = logging.getLogger("spoken_digits")

DATA = "SPOKEN_DIGITS"
WEIGHTS = "SPOKEN_DIGITS_WEIGHTS"
CLASSES = 10
BATCH = 64
SEED = 20
EPOCHS = 14
PEAK_RATE = 1e-3
SPLITS = {
    "test": range(5),
    "calibration": range(5, 15),
    "validation": range(15, 25),
    "train": range(25, 50),
}
_NAME = re.compile(r"(\d)_[a-z]+_(\d+)\.wav$")
_SHIFT = 800
_NOISE = 0.02


@dataclass(frozen=True, slots=True)
class Recordings:
    """Recordings of one split: sounds, and the digit that each one says."""

    sounds: tuple[Floats, ...]
    digits: Labels


@functools.cache
def recordings(split: str) -> Recordings:
    """Read a split of the data set.

    Raises:
        RuntimeError: the data set is not where `SPOKEN_DIGITS` says.
    """
    where = os.environ.get(DATA)
    if where is None or not Path(where).is_file():
        raise RuntimeError(
            f"cannot read the spoken digits: no file {where!r}; set {DATA} to the zip's path"
        )
    sounds: list[Floats] = []
    digits: list[int] = []
    with zipfile.ZipFile(where) as archive:
        for name in sorted(archive.namelist()):
            known = _NAME.search(name)
            if known is not None and int(known[2]) in SPLITS[split]:
                sounds.append(read_wav(archive.read(name)))
                digits.append(int(known[1]))
    return Recordings(tuple(sounds), np.array(digits))


@functools.cache
def features(split: str) -> tuple[Floats, Labels]:
    """Return a split as it is, [n, FRAMES, MELS], and its digits, [n]."""
    found = recordings(split)
    return np.stack([log_mel(sound) for sound in found.sounds]), found.digits


def distorted(sound: Floats, draw: np.random.Generator) -> Floats:
    """Return the features of a recording played faster or slower, later or earlier, in noise."""
    speed = draw.uniform(0.85, 1.15)
    at = np.arange(0, len(sound) - 1, speed)
    played = np.interp(at, np.arange(len(sound)), sound).astype(np.float32)
    placed = fitted(played, int(draw.integers(-_SHIFT, _SHIFT)))
    noise = draw.uniform(0, _NOISE) * np.abs(played).max()
    picture = log_mel(placed + (noise * draw.standard_normal(LENGTH)).astype(np.float32))
    # A few frames and a few mels are hidden (Park et al., "SpecAugment", 2019).
    for axis, widest in ((0, 12), (1, 6)):
        width = int(draw.integers(0, widest))
        start = int(draw.integers(0, picture.shape[axis] - width))
        hidden = [slice(None), slice(None)]
        hidden[axis] = slice(start, start + width)
        picture[tuple(hidden)] = -1
    return picture


class Distorted:
    """The training split, distorted and shuffled anew each time that it is gone through."""

    def __init__(self) -> None:
        """Seed it; the same run gives the same batches."""
        self._draw = np.random.default_rng(SEED)

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(recordings("train").sounds) // BATCH

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches."""
        found = recordings("train")
        order = self._draw.permutation(len(found.sounds))
        for number in range(len(self)):
            chosen = order[number * BATCH : (number + 1) * BATCH]
            pictures = [distorted(found.sounds[n], self._draw) for n in chosen]
            yield torch.from_numpy(np.stack(pictures)), torch.from_numpy(found.digits[chosen])


class Classifier(nn.Module):
    """Convolutions with stride over a log-mel picture, [n, FRAMES, MELS] to [n, 10] logits.

    Most weights lie in late layers, where the picture is small: ten million parameters for some
    sixty million multiply-accumulates. There is no pooling: XNNPACK has none for int8, and the
    graph would break in two.
    """

    def __init__(self) -> None:
        """Make it with random weights."""
        super().__init__()
        self.convolutions = nn.Sequential(
            _convolution(1, 64, 2),
            _convolution(64, 128, 2),
            _convolution(128, 256, 2),
            _convolution(256, 512, 2),
            _convolution(512, 512, 1),
            _convolution(512, 1024, 2),
        )
        self.hidden = nn.Linear(1024 * 2, 640)
        self.logits = nn.Linear(640, CLASSES)

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        """Map [n, FRAMES, MELS] to [n, 10] logits."""
        seen = self.convolutions(picture.unsqueeze(1)).flatten(1)
        return self.logits(nn.functional.relu(self.hidden(seen)))


def _convolution(inputs: int, outputs: int, stride: int) -> nn.Module:
    """Return convolution, batch norm (the converter folds it away) and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


def weights_path() -> Path:
    """Return where the trained weights are."""
    return Path(os.environ.get(WEIGHTS, "spoken-digits.pt"))


def train() -> None:
    """Train the classifier and write its weights."""
    torch.manual_seed(SEED)
    network, batches = Classifier().train(), train_loader()
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=PEAK_RATE, total_steps=EPOCHS * len(batches)
    )
    for epoch in range(EPOCHS):
        losses: list[float] = []
        for x, y in batches:
            loss = nn.functional.cross_entropy(network(x), y, label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        log.info("epoch %d of %d: loss %.4f", epoch + 1, EPOCHS, np.mean(losses))
    partial = weights_path().with_suffix(".partial")
    torch.save(network.state_dict(), partial)
    partial.replace(weights_path())


# --- what the toolkit calls


def model() -> Classifier:
    """Return the trained classifier."""
    if not weights_path().is_file():
        raise RuntimeError(
            f"cannot load the classifier: no file {weights_path()}; train it with "
            f"`python {Path(__file__).name}`, or set {WEIGHTS}"
        )
    network = Classifier()
    network.load_state_dict(torch.load(weights_path(), weights_only=True))
    return network.eval()


def train_loader() -> Distorted:
    """Return batches to train on."""
    return Distorted()


def validation_loader() -> list[Batch]:
    """Return batches to look at while training."""
    return _batches("validation")


def calibration_loader() -> list[Batch]:
    """Return batches that nothing but a certificate has seen."""
    return _batches("calibration")


def test_loader() -> list[Batch]:
    """Return batches that nothing has seen."""
    return _batches("test")


def example_input() -> torch.Tensor:
    """Return one sample with its batch axis."""
    return torch.zeros(1, FRAMES, MELS)


def _batches(split: str) -> list[Batch]:
    x, y = features(split)
    return list(
        zip(torch.from_numpy(x).split(BATCH), torch.from_numpy(y).split(BATCH), strict=True)
    )


def main() -> None:
    """Train, and say how good it became."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    train()
    network = model()
    for split in ("validation", "calibration", "test"):
        x, y = features(split)
        with torch.no_grad():
            right = network(torch.from_numpy(x)).argmax(1).numpy() == y
        log.info("%s: %.2f%% of %d", split, 100 * right.mean(), len(y))


if __name__ == "__main__":
    sys.exit(main())
