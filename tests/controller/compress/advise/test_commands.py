"""The commands that make a form again."""

import shlex

from controller.compress.advise.commands import Origin, commands
from controller.compress.advise.recipes import Step, Technique
from tests.controller.compress.advise.forms import INT8, PALETTE_4, PALETTE_AUTO, PRUNE, PRUNE_AUTO

ORIGIN = Origin("my models/large.tflite", "large", "digits.npz", "x", "labels", 1, "net.py")


def test_each_command_reads_what_the_one_before_wrote() -> None:
    first, second, third = commands((PRUNE, INT8, PALETTE_4), ORIGIN)

    assert first == (
        "ctl model prune 'my models/large.tflite' --weights 0.5 --out large-prune-0.5.tflite"
    )
    assert second == (
        "ctl model quantize large-prune-0.5.tflite --to int8 --samples digits.npz "
        "--y-key labels --scores 1 --out large-prune-0.5-int8.tflite"
    )
    assert third == (
        "ctl model share large-prune-0.5-int8.tflite --palette 4 "
        "--out large-prune-0.5-int8-palette-4.tflite"
    )


def test_a_search_is_given_the_loss_that_it_had() -> None:
    (prune,) = commands((PRUNE_AUTO.with_(max_loss="0.3"),), ORIGIN)
    (palette,) = commands((PALETTE_AUTO.with_(max_loss="0"),), ORIGIN)
    (tie,) = commands((Step(technique=Technique.TIE, max_loss="0.5"),), ORIGIN)

    assert "--max-loss 0.3pp --samples digits.npz" in prune
    assert "--weights" not in prune
    assert "--palette auto --max-loss 0pp" in palette
    assert "--tie --max-loss 0.5pp" in tie


def test_training_is_named_with_its_seed() -> None:
    step = Step(technique=Technique.CHANNELS, amount="macs=0.1")

    words = shlex.split(commands((step,), ORIGIN)[0])

    assert words[:6] == ["ctl", "model", "prune", "net.py", "--channels", "macs=0.1"]
    assert words[words.index("--seed") + 1] == "0"
    assert words[-1] == "large-channels-macs-0.1.tflite"


def test_the_original_needs_no_command() -> None:
    assert commands((), ORIGIN) == ()
