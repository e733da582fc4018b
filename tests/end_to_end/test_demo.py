"""`ctl demo`, as a person runs it: it ends by itself, well, with figures that were measured."""

import os
import re
import subprocess
import sys

DEVICES = ("pi4", "rock", "phone")


def test_the_demo_plays_to_its_end() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "controller", "demo"],
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    said = done.stdout
    assert done.returncode == 0, said + done.stderr
    for words in (
        r"pi4 +rung +residency R\d -> R4: memory available",
        r"pi4 +unloaded +digits/large .* MiB came back: ",
        r"pi4 +rung +residency R1 -> R0: recovered",
        r"rock +rung +compute C0 -> C\d: foreign CPU",
        r"rock +threads +digits/large .* -> 1 threads",
        r"phone +rung +compute C\d -> C4: battery",
        r"phone +rung +compute C1 -> C0: recovered",
    ):
        assert re.search(words, said), f"{words}\n{said}"
    _, _, tables = said.partition("Answers to real test images")
    answers, _, costs = tables.partition("Large fp32 model alone")
    for device in DEVICES:
        row = re.search(rf"^{device} +(\d+) +(\d+) +(\d+) +([\d.]+)%", answers, re.MULTILINE)
        assert row, answers
        asked, failed, refused, accuracy = map(float, row.groups())
        assert asked > 100
        assert failed == 0
        assert refused < asked / 2
        assert accuracy > 95
        ratio = re.search(rf"^{device} +[\d.]+ +[\d.]+ +([\d.]+)", costs, re.MULTILINE)
        assert ratio, costs
        assert 0 < float(ratio.group(1)) < 1
