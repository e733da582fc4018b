"""Say a digit to a device: a WAV file becomes log-mel features and goes to its cascade.

    python deploy/speech/ask.py recording.wav --url http://127.0.0.1:8000 --model spoken-digits

Needs numpy alone. The request is that of the Open Inference Protocol v2. A device that makes way
for other work answers 503 and says when to come again; it is asked again, for as long as `--wait`.
"""

# ruff: noqa: INP001, T201 (a script that prints)

from __future__ import annotations

import argparse
import json
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
from logmel import FRAMES, MELS, log_mel, read_wav

TIMEOUT_S = 10.0
WAIT_S = 180.0
_BUSY = 503


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


def ask(url: str, model: str, content: bytes, wait_s: float = 0.0) -> tuple[int, str]:
    """Ask a device.

    Args:
        url: its address.
        model: the cascade's name.
        content: of a WAV file.
        wait_s: how long it is asked again while it is busy.

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
    until_s = time.monotonic() + wait_s
    while True:
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
                return heard(json.load(answer))
        except urllib.error.HTTPError as error:
            words = f"{error.code} {error.read().decode(errors='replace')}"
            left_s = until_s - time.monotonic()
            if error.code != _BUSY or left_s <= 0:
                raise ValueError(f"cannot get an answer from {url}: {words}") from error
            pause_s = min(left_s, _pause_s(error.headers.get("Retry-After")))
        print(f"{words}; asking again in {pause_s:.0f} s", file=sys.stderr)
        time.sleep(pause_s)


def _pause_s(retry_after: str | None) -> float:
    return float(retry_after) if retry_after and retry_after.isdecimal() else 1.0


def main() -> int:
    """Print the digit of each recording."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recordings", nargs="+", type=Path, metavar="WAV")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--model", default="spoken-digits")
    parser.add_argument(
        "--wait", type=float, default=WAIT_S, metavar="SECONDS", help="while the device is busy"
    )
    options = parser.parse_args()
    for path in options.recordings:
        try:
            content = path.read_bytes()
            digit, stage = ask(options.url.rstrip("/"), options.model, content, options.wait)
        except (OSError, ValueError) as error:
            print(f"cannot ask about {path}: {error}", file=sys.stderr)
            return 1
        print(f"{path}: {digit}" + (f" ({stage})" if stage else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
