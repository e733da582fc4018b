"""The speech example: features that are the same wherever they are computed, and what is posted."""

import importlib.util
import io
import json
import sys
import threading
import wave
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

FOLDER = Path(__file__).parents[2] / "deploy" / "speech"


def _load(name: str) -> ModuleType:
    """Load a script of the example under its own name, as its neighbours import it."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


logmel = _load("logmel")
ask = _load("ask")


def _wav(samples: list[int], rate_hz: int = 8000, channels: int = 1) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(channels)
        sound.setsampwidth(2)
        sound.setframerate(rate_hz)
        sound.writeframes(np.array(samples, "<i2").tobytes())
    return file.getvalue()


@given(length=st.integers(0, 20_000), seed=st.integers(0, 9), loudness=st.floats(0, 1))
def test_any_recording_becomes_a_picture(length: int, seed: int, loudness: float) -> None:
    sound = (loudness * np.random.default_rng(seed).normal(size=length)).astype(np.float32)

    picture = logmel.log_mel(sound)

    assert picture.shape == (64, 32)
    assert picture.dtype == np.float32
    assert picture.min() >= -1
    assert picture.max() <= 1


@pytest.mark.parametrize("hertz", [200.0, 440.0, 1000.0, 2500.0, 3600.0])
def test_a_tone_is_brightest_at_its_mel(hertz: float) -> None:
    time_s = np.arange(logmel.LENGTH) / logmel.RATE_HZ
    picture = logmel.log_mel(np.sin(2 * np.pi * hertz * time_s).astype(np.float32))

    mels = np.linspace(logmel.mel(60), logmel.mel(4000), logmel.MELS + 2)[1:-1]
    nearest = np.abs(mels - logmel.mel(hertz)).argmin()
    assert abs(int(picture.mean(axis=0).argmax()) - int(nearest)) <= 1


def test_loudness_does_not_matter() -> None:
    sound = np.random.default_rng(1).normal(size=4000).astype(np.float32)

    np.testing.assert_allclose(logmel.log_mel(sound), logmel.log_mel(sound / 50), atol=1e-4)


def test_the_middle_of_a_long_recording_is_kept() -> None:
    sound = np.arange(10_000, dtype=np.float32)

    assert logmel.fitted(sound)[0] == (10_000 - logmel.LENGTH) // 2
    assert len(logmel.fitted(sound)) == logmel.LENGTH
    assert logmel.fitted(sound[:100], shift=50).nonzero()[0][0] == (logmel.LENGTH - 100) // 2 + 51


def test_a_wav_is_read() -> None:
    np.testing.assert_array_equal(
        logmel.read_wav(_wav([0, 16384, -32768])), np.array([0, 0.5, -1], np.float32)
    )


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"RIFF", "cannot read the recording"),
        (b"no sound at all, but long enough to be", "cannot read the recording"),
        (_wav([0] * 10, rate_hz=16000), "16000 Hz"),
        (_wav([0] * 10, channels=2), "2 channels"),
    ],
)
def test_what_is_no_such_wav_is_refused(content: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        logmel.read_wav(content)


def test_a_broken_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN or infinite"):
        logmel.log_mel(np.array([0, np.nan], np.float32))


class Device(BaseHTTPRequestHandler):
    """Hears a seven in anything, if it is asked for the cascade that it has; busy while it says."""

    busy: ClassVar[list[str]] = []
    """What it answers before: `Retry-After`, a line for each time."""

    def do_POST(self) -> None:
        if self.busy:
            self.send_response(503)
            self.send_header("Retry-After", self.busy.pop())
            self.end_headers()
            self.wfile.write(b'{"error": "cannot infer: busy"}')
            return
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        shape = body["inputs"][0]["shape"]
        knows = self.path == "/v2/models/spoken-digits/infer" and shape == [1, 64, 32]
        scores = [0.0] * 7 + [0.9, 0.1, 0.0]
        found = {"outputs": [{"data": scores}], "parameters": {"stage": "small"}}
        self.send_response(200 if knows else 404)
        self.end_headers()
        self.wfile.write(json.dumps(found if knows else {"error": "cannot find it"}).encode())

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - as http.server has it
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Device) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_recording_is_posted_as_its_features(url: str) -> None:
    assert ask.ask(url, "spoken-digits", _wav([0, 900, -900] * 500)) == (7, "small")


def test_what_the_device_says_against_it_is_told(url: str) -> None:
    with pytest.raises(ValueError, match=r"404 .*cannot find it"):
        ask.ask(url, "weather", _wav([0] * 100))


def test_a_busy_device_is_asked_again(url: str) -> None:
    Device.busy[:] = ["0", "0"]
    assert ask.ask(url, "spoken-digits", _wav([0] * 100), wait_s=60) == (7, "small")

    Device.busy[:] = ["0"]
    with pytest.raises(ValueError, match=r"503 .*busy"):
        ask.ask(url, "spoken-digits", _wav([0] * 100))


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot ask file:///etc"):
        ask.ask("file:///etc", "spoken-digits", _wav([0] * 100))
