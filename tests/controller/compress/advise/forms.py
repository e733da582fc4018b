"""Forms with made-up figures, for tests of what decides."""

from controller.compress.advise.choice import Form
from controller.compress.advise.recipes import Recipe, Step, Technique

INT8 = Step(technique=Technique.INT8)
FP16 = Step(technique=Technique.FP16)
MIXED = Step(technique=Technique.MIXED, max_loss="0.5")
PALETTE_4 = Step(technique=Technique.PALETTE, amount="4")
PALETTE_AUTO = Step(technique=Technique.PALETTE, amount="auto")
PRUNE = Step(technique=Technique.PRUNE, amount="0.5")
PRUNE_AUTO = Step(technique=Technique.PRUNE, amount="auto")


def form(
    *recipe: Step,
    accuracy: float = 0.9,
    wire_bytes: int = 1000,
    latency_us: float | None = 100.0,
    held_out: float | None = None,
) -> Form:
    """Return a form; its digest is its name."""
    steps: Recipe = tuple(recipe)
    return Form(
        recipe=steps,
        sha256=str(steps),
        file_bytes=2 * wire_bytes,
        wire_bytes=wire_bytes,
        parameters=100,
        nonzero=100,
        accuracy=accuracy,
        held_out=accuracy if held_out is None else held_out,
        latency_us=latency_us,
        cpu_us=latency_us,
    )
