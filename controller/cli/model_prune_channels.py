"""`ctl model prune MODULE --channels`: a network made thinner, step by step, and taught again."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from controller.cli import training, words
from controller.cli.output import Format, note, print_json, print_rows
from controller.cli.running import Running

if TYPE_CHECKING:
    from controller.compress.training.channels import Schedule


@dataclass(frozen=True, slots=True)
class Cut:
    """What a person wants.

    Attributes:
        module: path or name of the training module.
        target: as `target.parse_target` reads it.
        schedule: how to come down to it, and whether the file will be int8.
        threads, seed: of torch.
        out: the file; None: beside, by the module's name.
        force: whether it may take another's place.
    """

    module: str
    target: str
    schedule: "Schedule"
    threads: int
    seed: int
    out: Path | None
    force: bool


def cut(wish: Cut, output: Format) -> None:
    """Cut the channels of a network that count least, write the file, and print what it costs.

    Raises:
        CompressError: it cannot be done; then nothing is written.
    """
    from controller.compress import sources  # noqa: PLC0415
    from controller.compress.training.channels import cut_channels  # noqa: PLC0415
    from controller.compress.training.export import exported  # noqa: PLC0415
    from controller.compress.training.protocol import load_task  # noqa: PLC0415
    from controller.compress.training.target import parse_target  # noqa: PLC0415
    from controller.compress.weights import footprint  # noqa: PLC0415

    wanted = parse_target(wish.target)
    training.quiet_torch(wish.threads, wish.seed)
    task = load_task(wish.module)
    form = "int8" if wish.schedule.is_int8 else "fp32"
    path = wish.out or Path(f"{task.name}-channels-{form}.tflite")
    sources.check_free([path], force=wish.force)
    with Running("Cutting channels") as running:
        network, done = cut_channels(task, wanted, wish.schedule, running.at)
        running.at("Converting", 0, 1)
        made = exported(task, network, path.stem, is_int8=wish.schedule.is_int8)
        before = exported(task, task.network, task.name, is_int8=False)
    sources.write_all({path: made.content})
    now, then = footprint(made.content, path.name), footprint(before.content, task.name)
    report = {
        "file": str(path),
        "steps": done,
        "original": then,
        "result": now,
        "validation_accuracy_original": before.accuracy,
        "validation_accuracy": made.accuracy,
    }
    if output is Format.JSON:
        print_json(report)
        return
    print_rows(done, training.STEPS, output)
    note(
        f"{path}: {words.size(now.file_bytes)} (original {words.size(then.file_bytes)}), over the "
        f"air {words.size(now.wire_bytes)} ({words.size(then.wire_bytes)}), non-zero "
        f"{now.nonzero:,} of {now.parameters:,} ({then.nonzero:,}); accuracy of the file on "
        f"validation data {training.points(made.accuracy)} ({training.points(before.accuracy)})"
    )
