"""The whole recipe on one network: every step alone and together, measured in one run.

Channels cut (and zeros among what is left) with teaching, static int8, palettes, and a cascade: a
small network before a large one. How far channels are cut is searched for (`descent`) or given.

What to take is chosen on the module's validation data, together with half of the calibration data
where there is plenty; the gates of cascades are certified on the calibration data (the other half).
The figures are those of the `.tflite` files on the test data, which decides nothing; times are
taken in turns on one thread (`race`). All rows are there, the bad ones too: a cascade is not always
worth its second file.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from controller.calibrate import NEVER, GateRecord, calibrate
from controller.compress.graph import Graph
from controller.compress.layers import layers
from controller.compress.prune import prune
from controller.compress.share import share
from controller.compress.training.channels import Schedule, Step, cut_channels
from controller.compress.training.choice import Goals, Row, choose
from controller.compress.training.descent import Candidate, Descent, descend, finalists
from controller.compress.training.distill import LESSON, Distilled, distill
from controller.compress.training.export import RANGE_SAMPLES, answers, converted, to_int8
from controller.compress.training.journal import Journal
from controller.compress.training.network import arrays
from controller.compress.training.race import METRIC, Entrant, Timed, race
from controller.compress.training.target import Target
from controller.compress.training.teach import Lesson
from controller.compress.weights import Footprint, footprint
from controller.errors import BuildError
from protocols.bundle import CertifiedThreshold
from protocols.inference.gate import confidence, probabilities

if TYPE_CHECKING:
    import torch

    from controller.compress.training.protocol import Task

Say = Callable[[str, int, int], None]
Tell = Callable[[str], None]

ORIGINAL = "original"
_FIRST = "first-stage-int8"
_BEFORE = " -> "
_ZEROS = 0.5
"""Share of the original's weights that one form of it has as zeros, untaught."""
_PLENTY = 2000
"""Calibration samples from which on half of them help to choose."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to try.

    Attributes:
        target: how far channels are cut; None: as far as the search finds (`descent`).
        schedule: how they are cut to a target.
        first_stage: size of the small network; None: the module's own, or where it has none, the
            smaller of the networks that the search has made, or no cascade.
        lesson: how the small network is taught.
        palette_bits: of the weights' palettes, 1 to 8; None: none.
        loss_points: accuracy, in percentage points, that the choice may lose.
        descent: how the search goes; its `loss_points` are to be the same.
        goals: what the choice should take at most.
    """

    target: Target | None = None
    schedule: Schedule = field(default_factory=Schedule)
    first_stage: Target | None = None
    lesson: Lesson = LESSON
    palette_bits: int | None = 5
    loss_points: float = 0.5
    descent: Descent = field(default_factory=Descent)
    goals: Goals = field(default_factory=Goals)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What came of a plan.

    Attributes:
        rows: figures on the test data, the original first.
        chosen: the form to take: `choose`, on the data of `chosen_on`.
        steps: of the cutting of channels.
        first_stage: what the small network is; None: none was taught for it.
        gates: of the cascades, by form.
        notes: what could not be done, and why.
        files: the models, by name without suffix.
        chosen_on: the same forms on the data that the choice was made on.
        missed: which goals the chosen form does not keep on it.
    """

    rows: tuple[Row, ...]
    chosen: str
    steps: tuple[Step, ...]
    first_stage: Distilled | None
    gates: dict[str, CertifiedThreshold]
    notes: tuple[str, ...]
    files: dict[str, bytes]
    chosen_on: tuple[Row, ...] = ()
    missed: tuple[str, ...] = ()


def cook(
    task: "Task",
    plan: Plan,
    say: Say = lambda _title, _done, _total: None,
    tell: Tell = lambda _line: None,
    folder: Path | None = None,
) -> Recipe:
    """Carry out a plan.

    Args:
        task: the network and its data.
        plan: what to try.
        say: told what is done, and how far it is.
        tell: told what came of each step that takes long, in a line.
        folder: where files go as they are made, and networks, so that who was interrupted goes on
            from there; None: nowhere.

    Raises:
        CompressError: a step cannot be done.
    """
    kitchen = _Kitchen(task, plan, say, tell, folder)
    kitchen.original()
    kitchen.thinner()
    kitchen.first_stage()
    return kitchen.served()


class _Kitchen:
    """The work itself: forms as they are made."""

    def __init__(self, task: "Task", plan: Plan, say: Say, tell: Tell, folder: Path | None) -> None:
        self._task, self._plan, self._say, self._tell = task, plan, say, tell
        how = (plan.target, plan.schedule, plan.descent, plan.first_stage, plan.lesson)
        self._journal = Journal(folder, task.network, repr(how))
        self._ranges = arrays(task.train, RANGE_SAMPLES)[0]
        self._choosing, self._proving = _parts(task)
        self._files: dict[str, bytes] = {}
        self._notes: list[str] = []
        self._steps: tuple[Step, ...] = ()
        self._first: Distilled | None = None
        self._lasts = ["int8"]
        """Files before which a small network may stand, the largest first."""
        self._firsts: list[str] = []

    def original(self) -> None:
        """Make what needs no teaching."""
        self._say("Converting the original", 0, 1)
        self._narrowed("", self._task.network)
        if self._plan.palette_bits is not None:
            self._keep("palette-fp32", share(self._files["fp32"], "fp32", self._bits)[0])
        self._keep("zeros-fp32", prune(self._files["fp32"], "fp32", _ZEROS)[0])

    def thinner(self) -> None:
        """Cut channels: to the target, or as far as the search finds."""
        plan = self._plan
        if plan.target is not None:
            network, self._steps = self._cut_to(plan.target)
            self._narrowed("channels-", network)
            self._lasts.append("channels-int8")
            return
        made = descend(self._task, plan.descent, self._journal, self._say, self._tell)
        self._steps = tuple(_step(number, one) for number, one in enumerate(made, 1))
        for one in reversed(finalists(made, plan.descent)):
            self._say(f"Converting {one.tried.name}", 0, 1)
            self._narrowed(f"{one.tried.name}-", one.network)
            self._lasts.append(f"{one.tried.name}-int8")
        # Of two of one size the later one has learnt longer.
        smallest = min(reversed(made), key=lambda one: one.size.macs)
        name = f"{smallest.tried.name}-int8"
        if name not in self._files:
            content = converted(self._task, smallest.network, name)
            self._keep(name, to_int8(content, self._ranges, name))
        self._firsts = [name]

    def first_stage(self) -> None:
        """Teach a small network for a cascade, if there is to be one."""
        plan, task = self._plan, self._task
        if plan.first_stage is None and task.first_stage is None:
            if not self._firsts:
                self._notes.append(
                    "no cascade: the module has no first_stage(), and no size of one was given"
                )
            return
        made: tuple[torch.nn.Module, Distilled] | None = self._journal.get("first-stage")
        if made is None:
            made = distill(
                task,
                plan.first_stage,
                plan.lesson,
                lambda epoch, epochs: self._say("First stage: teaching", epoch, epochs),
            )
            self._journal.put("first-stage", made)
        network, self._first = made
        content = converted(task, network, "first-stage-fp32")
        self._keep(_FIRST, to_int8(content, self._ranges, _FIRST))
        self._firsts.insert(0, _FIRST)

    def served(self) -> Recipe:
        """Measure all forms, choose, and return what there is."""
        plan = self._plan
        entrants = {name: Entrant(name, (content,)) for name, content in self._files.items()}
        gates = self._gates()
        for form, gate in gates.items():
            stages = tuple(self._files[name] for name in form.split(_BEFORE))
            entrants[form] = Entrant(form, stages, gate.threshold)
        prints = {name: footprint(content, name) for name, content in self._files.items()}
        self._say("Measuring on validation data", 0, 1)
        chosen_on = _measured(list(entrants.values()), prints, self._choosing)
        self._say("Measuring on test data", 0, 1)
        rows = _measured(list(entrants.values()), prints, arrays(self._task.test))
        chosen = choose(chosen_on, plan.loss_points, plan.goals)
        return Recipe(
            rows=rows,
            chosen=chosen.form,
            steps=self._steps,
            first_stage=self._first,
            gates=gates,
            notes=(*self._notes, *self._grain(chosen)),
            files=self._files,
            chosen_on=chosen_on,
            missed=plan.goals.missed(chosen, chosen_on[0]),
        )

    @property
    def _bits(self) -> int:
        return self._plan.palette_bits or 0

    def _cut_to(self, target: Target) -> "tuple[torch.nn.Module, tuple[Step, ...]]":
        key = f"target-{target}".replace("=", "-")
        made: tuple[torch.nn.Module, tuple[Step, ...]] | None = self._journal.get(key)
        if made is None:
            made = cut_channels(self._task, target, self._plan.schedule, self._say)
            self._journal.put(key, made)
        return made

    def _narrowed(self, prefix: str, network: "torch.nn.Module") -> None:
        """Make the float32, int8 and palette files of a network."""
        wide, narrow = f"{prefix}fp32", f"{prefix}int8"
        self._keep(wide, converted(self._task, network, wide))
        self._keep(narrow, to_int8(self._files[wide], self._ranges, narrow))
        if self._plan.palette_bits is not None:
            shared = share(self._files[narrow], narrow, self._bits)[0]
            self._keep(f"{narrow}-palette", shared)

    def _keep(self, name: str, content: bytes) -> None:
        self._files[name] = content
        self._journal.put_file(name, content)

    def _gates(self) -> dict[str, CertifiedThreshold]:
        """Return the gates of cascades, by form: a small network before each larger one."""
        gates: dict[str, CertifiedThreshold] = {}
        x, y = self._proving
        names = dict.fromkeys([*self._firsts, *self._lasts])
        said = {name: answers(self._files[name], x) for name in names} if self._firsts else {}
        for first in self._firsts:
            small = _record(said[first], y)
            for last in self._lasts:
                if len(self._files[last]) <= len(self._files[first]):
                    continue
                right = said[last].argmax(axis=1) == y
                try:
                    ladder = calibrate({"first": small}, last, right).gates["first"]
                except BuildError as error:
                    self._notes.append(str(error))
                    continue
                proved = [step for step in ladder if step.threshold < NEVER]
                if proved:
                    gates[f"{first}{_BEFORE}{last}"] = proved[0]
                else:
                    self._notes.append(
                        f"no cascade of {first} before {last}: too many harms for every step of "
                        "the ladder"
                    )
        return gates

    def _grain(self, chosen: Row) -> list[str]:
        """Return what the data of the choice cannot tell."""
        loss, allowed = chosen.loss, self._plan.loss_points
        lines: list[str] = []
        if self._task.test is self._task.validation:
            lines.append(
                "no test_loader(): the figures are of the validation data, on which the choice was "
                "made, and flatter it"
            )
        if not loss.is_surely_within(allowed):
            lines.append(
                f"the choice was made on {loss.samples} samples, one of which is worth "
                f"{100 / loss.samples:.2f} points: {chosen.form} loses {loss.points:.2f} points "
                f"there with a standard error of {loss.error_points:.2f}, so they cannot tell for "
                f"sure whether it keeps within {allowed:g}; a larger validation_loader() can"
            )
        return lines


Samples = tuple[NDArray[np.float32], NDArray[np.int64]]


def _parts(task: "Task") -> tuple[Samples, Samples]:
    """Return what to choose on, and what to certify gates on."""
    (x, y), proving = arrays(task.validation), arrays(task.calibration)
    if task.calibration is task.validation or len(proving[1]) < _PLENTY:
        return (x, y), proving
    half = [part[1::2] for part in proving]
    both = np.concatenate([x, half[0]]), np.concatenate([y, half[1]])
    return both, (proving[0][::2], proving[1][::2])


def _step(number: int, made: Candidate) -> Step:
    return Step(
        number=number,
        size=made.size,
        accuracy_cut=made.accuracy_cut,
        accuracy=made.accuracy,
        name=made.tried.name,
        epochs=made.epochs,
    )


def _record(rows: NDArray[np.float32], y: NDArray[np.int64]) -> GateRecord:
    sure = np.array([confidence(probabilities(row, "logits"), METRIC) for row in rows])
    return GateRecord(sure, rows.argmax(axis=1) == y)


def _measured(
    entrants: Sequence[Entrant], prints: Mapping[str, Footprint], samples: Samples
) -> tuple[Row, ...]:
    x, y = samples
    found = race(entrants, x)
    original = np.array(found[0].answers) == y
    return tuple(
        _row(entrant, timed, [prints[name] for name in entrant.name.split(_BEFORE)], original, y)
        for entrant, timed in zip(entrants, found, strict=True)
    )


def _row(
    entrant: Entrant,
    timed: Timed,
    prints: Sequence[Footprint],
    original: NDArray[np.bool_],
    y: NDArray[np.int64],
) -> Row:
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
