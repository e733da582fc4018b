"""The whole recipe on one network: every step alone and together, measured in one run.

Channels cut and taught again, static int8, palettes, and a small first stage before a large one.
Accuracy is that of the `.tflite` files on the module's test data; times are taken in turns on one
thread (`race`). The gate of a cascade is certified on the module's calibration data
(`controller.calibrate`). The rows are all there, the bad ones too: a cascade is not always worth
its second file.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from controller.calibrate import NEVER, GateRecord, calibrate
from controller.compress.graph import Graph
from controller.compress.layers import layers
from controller.compress.share import share
from controller.compress.training.channels import Schedule, Step, cut_channels
from controller.compress.training.distill import LESSON, Distilled, distill
from controller.compress.training.export import RANGE_SAMPLES, answers, converted, to_int8
from controller.compress.training.network import arrays
from controller.compress.training.race import METRIC, Entrant, Timed, race
from controller.compress.training.target import Target
from controller.compress.training.teach import Lesson
from controller.compress.weights import footprint
from controller.errors import BuildError
from protocols.bundle import CertifiedThreshold
from protocols.inference.gate import confidence, probabilities

if TYPE_CHECKING:
    import torch

    from controller.compress.training.protocol import Task

Say = Callable[[str, int, int], None]

ORIGINAL = "original"
FILES = (
    "fp32",
    "int8",
    "int8-palette",
    "channels-fp32",
    "channels-int8",
    "channels-int8-palette",
    "first-stage-int8",
)
"""Names, without suffix, of the files that a recipe makes at most."""
_LEVEL = 1.05
_FIRST = "first-stage-int8"
_BEFORE = " -> "


@dataclass(frozen=True, slots=True)
class Plan:
    """What to try.

    Attributes:
        target: how far channels are cut.
        schedule: how.
        first_stage: size of the small network; None: the module's own, or no cascade if it has
            none.
        lesson: how the small network is taught.
        palette_bits: of the weights' palettes, 1 to 8; None: none.
        loss_points: accuracy, in percentage points, that the choice may lose on the test data.
    """

    target: Target
    schedule: Schedule = field(default_factory=Schedule)
    first_stage: Target | None = None
    lesson: Lesson = LESSON
    palette_bits: int | None = 5
    loss_points: float = 0.5


@dataclass(frozen=True, slots=True)
class Row:
    """One form of the model. A cascade's numbers are those of its stages together.

    Attributes:
        form: its name.
        files: names of its files.
        parameters, nonzero: of the files.
        file_bytes, wire_bytes: of the files, as they are and as lzma packs them.
        macs: multiply-accumulates of an answer, mean.
        samples: of the test data.
        right: how many of them it answers rightly.
        spoiled: how many the original has right and this one wrong.
        mended: how many the original has wrong and this one right.
        mean_ms, median_ms, p95_ms, cpu_ms: of an answer: wall clock, and CPU time of the process.
        escalated: share of the test data that a cascade's last stage answers; None: no cascade.
    """

    form: str
    files: tuple[str, ...]
    parameters: int
    nonzero: int
    file_bytes: int
    wire_bytes: int
    macs: float
    samples: int
    right: int
    spoiled: int
    mended: int
    mean_ms: float
    median_ms: float
    p95_ms: float
    cpu_ms: float
    escalated: float | None

    @property
    def accuracy(self) -> float:
        """Share of the test data that it answers rightly."""
        return self.right / self.samples


@dataclass(frozen=True, slots=True)
class Recipe:
    """What came of a plan.

    Attributes:
        rows: the original first.
        chosen: the form that costs least within the loss that is allowed: `choose`.
        steps: of the cutting of channels.
        first_stage: what the small network is; None: there is no cascade.
        gates: of the cascades, by form.
        notes: what could not be done, and why.
        files: the models, by name without suffix.
    """

    rows: tuple[Row, ...]
    chosen: str
    steps: tuple[Step, ...]
    first_stage: Distilled | None
    gates: dict[str, CertifiedThreshold]
    notes: tuple[str, ...]
    files: dict[str, bytes]


def cook(task: "Task", plan: Plan, say: Say = lambda _title, _done, _total: None) -> Recipe:
    """Carry out a plan.

    Args:
        task: the network and its data.
        plan: what to try.
        say: told what is done, and how far it is.

    Raises:
        CompressError: a step cannot be done.
    """
    files, notes = {}, list[str]()
    ranges, _ = arrays(task.train, RANGE_SAMPLES)
    files["fp32"] = converted(task, task.network, "fp32")
    files["int8"] = to_int8(files["fp32"], ranges, "int8")
    thinner, steps = cut_channels(task, plan.target, plan.schedule, say)
    files["channels-fp32"] = converted(task, thinner, "channels-fp32")
    files["channels-int8"] = to_int8(files["channels-fp32"], ranges, "channels-int8")
    if plan.palette_bits is not None:
        for name in ("int8", "channels-int8"):
            files[f"{name}-palette"] = share(files[name], name, plan.palette_bits)[0]
    small = _first_stage(task, plan, say)
    if small is None:
        notes.append("no cascade: the module has no first_stage(), and no size of one was given")
    else:
        content = converted(task, small[0], "first-stage-fp32")
        files[_FIRST] = to_int8(content, ranges, _FIRST)
    say("Measuring", 0, 1)
    entrants = {name: Entrant(name, (content,)) for name, content in files.items()}
    gates = _gates(task, files, notes) if small is not None else {}
    for form, gate in gates.items():
        stages = tuple(files[name] for name in form.split(_BEFORE))
        entrants[form] = Entrant(form, stages, gate.threshold)
    rows = _measured(task, list(entrants.values()))
    return Recipe(
        rows=rows,
        chosen=choose(rows, plan.loss_points).form,
        steps=steps,
        first_stage=None if small is None else small[1],
        gates=gates,
        notes=tuple(notes),
        files=files,
    )


def choose(rows: Sequence[Row], loss_points: float) -> Row:
    """Return the cheapest row that loses no more than is allowed against the first one. Pure.

    Cheapest is the one with the least CPU time for an answer, which other programs disturb less
    than the clock; of those within 5% of it, the one with the fewest bytes over the air.

    Args:
        rows: the original first; it is the answer where nothing else is good enough.
        loss_points: in percentage points.
    """
    # Counted in samples, so that a loss of exactly what is allowed is allowed.
    fewest = rows[0].right - loss_points / 100 * rows[0].samples
    good = [row for row in rows if row.right >= fewest - 1e-9]
    least = min(row.cpu_ms for row in good)
    level = [row for row in good if row.cpu_ms <= _LEVEL * least]
    return min(level, key=lambda row: row.wire_bytes)


def _first_stage(task: "Task", plan: Plan, say: Say) -> "tuple[torch.nn.Module, Distilled] | None":
    if plan.first_stage is None and task.first_stage is None:
        return None
    return distill(
        task,
        plan.first_stage,
        plan.lesson,
        lambda epoch, epochs: say("First stage: teaching", epoch, epochs),
    )


def _gates(
    task: "Task", files: dict[str, bytes], notes: list[str]
) -> dict[str, CertifiedThreshold]:
    """Return the gates of cascades that start with the small network, by form."""
    x, y = arrays(task.calibration)
    small = _record(answers(files[_FIRST], x), y)
    gates: dict[str, CertifiedThreshold] = {}
    for last in ("int8", "channels-int8"):
        right = answers(files[last], x).argmax(axis=1) == y
        try:
            ladder = calibrate({"first": small}, last, right).gates["first"]
        except BuildError as error:
            notes.append(str(error))
            continue
        proved = [step for step in ladder if step.threshold < NEVER]
        if proved:
            gates[f"{_FIRST}{_BEFORE}{last}"] = proved[0]
        else:
            notes.append(f"no cascade before {last}: too many harms for every step of the ladder")
    return gates


def _record(rows: NDArray[np.float32], y: NDArray[np.int64]) -> GateRecord:
    sure = np.array([confidence(probabilities(row, "logits"), METRIC) for row in rows])
    return GateRecord(sure, rows.argmax(axis=1) == y)


def _measured(task: "Task", entrants: Sequence[Entrant]) -> tuple[Row, ...]:
    x, y = arrays(task.test)
    found = race(entrants, x)
    original = np.array(found[0].answers) == y
    return tuple(
        _row(entrant, timed, original, y) for entrant, timed in zip(entrants, found, strict=True)
    )


def _row(entrant: Entrant, timed: Timed, original: NDArray[np.bool_], y: NDArray[np.int64]) -> Row:
    prints = [footprint(stage, entrant.name) for stage in entrant.stages]
    macs = [_macs(stage, entrant.name) for stage in entrant.stages]
    right = np.array(timed.answers) == y
    is_cascade = len(entrant.stages) > 1
    return Row(
        form=ORIGINAL if entrant.name == "fp32" else entrant.name,
        files=tuple(entrant.name.split(_BEFORE)),
        parameters=sum(one.parameters for one in prints),
        nonzero=sum(one.nonzero for one in prints),
        file_bytes=sum(one.file_bytes for one in prints),
        wire_bytes=sum(one.wire_bytes for one in prints),
        macs=macs[0] + timed.escalated * macs[1] if is_cascade else macs[0],
        samples=len(y),
        right=int(right.sum()),
        spoiled=int((original & ~right).sum()),
        mended=int((~original & right).sum()),
        mean_ms=timed.mean_ms,
        median_ms=timed.median_ms,
        p95_ms=timed.p95_ms,
        cpu_ms=timed.cpu_ms,
        escalated=timed.escalated if is_cascade else None,
    )


def _macs(content: bytes, name: str) -> int:
    return sum(layer.macs for layer in layers(Graph.read(content, name)))
