"""Say a digit to a device: a WAV file becomes log-mel features and goes to its cascade.

    python deploy/speech/ask.py recording.wav --url http://127.0.0.1:8000 --model spoken-digits

Needs numpy alone. The request is that of the Open Inference Protocol v2.
"""

# ruff: noqa: INP001, T201 (a script that prints)

from __future__ import annotations

import argparse
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
from logmel import FRAMES, MELS, log_mel, read_wav

TIMEOUT_S = 10.0


def request_of(content: bytes) -> bytes:
    """Return the inference request for a WAV file's content.

    Raises:
        ValueError: it is no recording that the cascade understands.
    """
    picture = log_mel(read_wav(content))
    tensor = {
        "name": "log_mel",
        "datatype": "FP32",
        "shape": [1, FRAMES, MELS],
        "data": [round(float(value), 6) for value in picture.ravel()],
    }
    return json.dumps({"inputs": [tensor]}).encode()


def heard(answer: dict[str, Any]) -> tuple[int, str]:
    """Return the digit of an answer, and the stage that found it (empty: it is not said)."""
    scores = np.array(answer["outputs"][0]["data"])
    return int(scores.argmax()), str(answer.get("parameters", {}).get("stage", ""))


def ask(url: str, model: str, content: bytes) -> tuple[int, str]:
    """Ask a device.

    Raises:
        ValueError: it is no recording that the cascade understands, or the device refuses it.
        OSError: the device does not answer.
    """
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"cannot ask {url}: it is no http address")
    request = urllib.request.Request(  # noqa: S310 - the scheme is checked
        f"{url}/v2/models/{model}/infer",
        request_of(content),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
            return heard(json.load(answer))
    except urllib.error.HTTPError as error:
        words = error.read().decode(errors="replace")
        raise ValueError(f"cannot get an answer from {url}: {error.code} {words}") from error


def main() -> int:
    """Print the digit of each recording."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recordings", nargs="+", type=Path, metavar="WAV")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--model", default="spoken-digits")
    options = parser.parse_args()
    try:
        for path in options.recordings:
            digit, stage = ask(options.url.rstrip("/"), options.model, path.read_bytes())
            print(f"{path}: {digit}" + (f" ({stage})" if stage else ""))
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
