"""Speech as a picture: a second of sound in, log-mel energies out. numpy only.

A client computes this before it posts, so it has to be the same wherever it is written again: all
that it does stands here.

1. A recording is laid into the middle of 8,320 samples (1.04 s at 8 kHz), zeros around it; of a
   longer one the middle is kept.
2. Frames of 256 samples every 128, under a periodic Hann window; the power of their Fourier
   transform: [64, 129].
3. 32 triangles of height 1 on the mel scale, from 60 Hz to 4,000 Hz, sum it up: [64, 32].
   mel = 2595 * log10(1 + Hz / 700), O'Shaughnessy, "Speech Communication", 1987.
4. log10; what lies more than 6 (60 dB) below the loudest value is raised to that; then scaled to
   -1 .. 1, so that loudness does not matter (the manner of Radford et al., "Robust Speech
   Recognition via Large-Scale Weak Supervision", 2022).
"""

# ruff: noqa: INP001 (beside a script, not in a package)

from __future__ import annotations

import io
import wave
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

RATE_HZ = 8000
FRAMES = 64
MELS = 32
WINDOW = 256
HOP = 128
LENGTH = WINDOW + (FRAMES - 1) * HOP
LOWEST_HZ = 60.0
DECADES = 6.0
_SILENCE = 1e-10
_SAMPLE_BYTES = 2


def read_wav(content: bytes) -> Floats:
    """Return the samples of a WAV file, [n], -1 .. 1.

    Args:
        content: 16-bit PCM, one channel, 8 kHz.

    Raises:
        ValueError: it is something else.
    """
    try:
        with wave.open(io.BytesIO(content)) as sound:
            form = (sound.getframerate(), sound.getnchannels(), sound.getsampwidth())
            data = sound.readframes(sound.getnframes())
    except (wave.Error, EOFError) as error:
        raise ValueError(f"cannot read the recording: {error or 'it ends too early'}") from error
    if form != (RATE_HZ, 1, _SAMPLE_BYTES):
        raise ValueError(
            f"cannot use the recording: {form[0]} Hz, {form[1]} channels, {8 * form[2]} bits; "
            f"want {RATE_HZ} Hz, 1 channel, 16 bits"
        )
    return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)


def fitted(sound: Floats, shift: int = 0) -> Floats:
    """Lay a recording into LENGTH samples.

    Args:
        sound: [n], any n.
        shift: samples that it lies later than in the middle.
    """
    start = (LENGTH - len(sound)) // 2 + shift
    placed = np.zeros(LENGTH, np.float32)
    begin, end = max(0, start), min(LENGTH, start + len(sound))
    placed[begin:end] = sound[begin - start : end - start]
    return placed


def log_mel(sound: Floats) -> Floats:
    """Return the features of a recording: [FRAMES, MELS], float32, -1 .. 1.

    Args:
        sound: [n], any n and any loudness, at 8 kHz.

    Raises:
        ValueError: a sample is NaN or infinite.
    """
    if not np.isfinite(sound).all():
        raise ValueError("cannot use the recording: a sample is NaN or infinite")
    placed = sound if len(sound) == LENGTH else fitted(sound)
    frames = np.lib.stride_tricks.sliding_window_view(placed, WINDOW)[::HOP]
    power = np.abs(np.fft.rfft(frames * _HANN, axis=1)) ** 2
    levels = np.log10(np.maximum(power @ _TRIANGLES, _SILENCE))
    above = np.maximum(levels - levels.max(), -DECADES)
    return (above / (DECADES / 2) + 1).astype(np.float32)


def mel(hertz: float) -> float:
    """Return a frequency on the mel scale."""
    return float(2595 * np.log10(1 + hertz / 700))


def _triangles() -> NDArray[np.float64]:
    """Return the filters, [WINDOW / 2 + 1, MELS]: each rises to 1 at its centre and falls again."""
    mels = np.linspace(mel(LOWEST_HZ), mel(RATE_HZ / 2), MELS + 2)
    corners = 700 * (10 ** (mels / 2595) - 1)
    bins = np.fft.rfftfreq(WINDOW, 1 / RATE_HZ)[:, np.newaxis]
    low, centre, high = corners[:-2], corners[1:-1], corners[2:]
    # The lowest filters are narrower than a bin: each takes in at least what lies a bin away.
    width = RATE_HZ / WINDOW
    rising = (bins - low) / np.maximum(centre - low, width)
    falling = (high - bins) / np.maximum(high - centre, width)
    return np.clip(np.minimum(rising, falling), 0, 1)


_HANN = np.hanning(WINDOW + 1)[:-1]
_TRIANGLES = _triangles()
