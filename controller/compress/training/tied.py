"""Tied weights with teaching: layers that share one array, and learn to.

Of a finished model hardly a pair of layers can share its weights (`controller.compress.tie`). A
network that is taught with them shared can bear more. Pairs are found and tied in the network's
file, where it is known which channels can be put into another order first; the weights come back
into the network (`layout`), where both layers have one parameter, and the original teaches. Batch
norms are folded before that: weights that are equal before folding are not equal in the file.
"""

import copy
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from controller.compress.dedupe import dedupe
from controller.compress.errors import CompressError
from controller.compress.graph import Graph
from controller.compress.quantize import STATIC, Form, quantize
from controller.compress.sensitivity import Shift, shift_of
from controller.compress.tie import Pair, pairs, tie
from controller.compress.training.export import RANGE_SAMPLES, answers, converted
from controller.compress.training.network import arrays, layers_run, logits
from controller.compress.training.teach import Lesson, teach
from controller.compress.weights import Footprint, footprint
from controller.samples import Samples

if TYPE_CHECKING:
    import torch

    from controller.compress.training.fold import Folded
    from controller.compress.training.layout import Twin
    from controller.compress.training.protocol import Task

FORMS = (Form.INT8, Form.DYNAMIC_INT8, Form.INT4)
"""What the file can be, beside float32."""
LESSON = Lesson(epochs=8, rate=1e-3)

_CLOSEST = 40
_CHECKED = 32
_TOLERANCE = 1e-3
"""Of the largest logit, as where files are made."""
_EXACT = 1e-9
"""A loss of exactly what is allowed is allowed."""

Say = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """How to tie.

    Attributes:
        max_loss: of accuracy on validation data, as a share, that the file may have.
        most: pairs that are tried, each with a lesson.
        lesson: after each pairing.
        form: of the file; None: float32.
    """

    max_loss: float = 0.005
    most: int = 8
    lesson: Lesson = LESSON
    form: Form | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """Two layers whose weights have one shape.

    Attributes:
        first: name of the layer in the network.
        second: likewise.
        distance: root mean square of what both lose when tied, over that of both; 71% is that of
            layers that have nothing in common.
        reordered: channels that are put into another place first.
        saved_bytes: of the float32 file.
        divergence: mean Kullback-Leibler divergence of the answers from the original's with this
            pair tied alone and nothing taught.
    """

    first: str
    second: str
    distance: float
    reordered: int
    saved_bytes: int
    divergence: float


@dataclass(frozen=True, slots=True)
class Attempt:
    """One pairing, on top of those kept before it.

    Attributes:
        pair: which layers.
        lost_untaught: of accuracy on validation data, as a share, before teaching (float32).
        lost: after it, of the file.
        takes: the file.
        kept: whether the budget allowed it.
    """

    pair: Candidate
    lost_untaught: float
    lost: float
    takes: Footprint
    kept: bool


@dataclass(frozen=True, slots=True)
class File:
    """A file, measured on validation data and on test data."""

    takes: Footprint
    validation: Shift
    test: Shift


@dataclass(frozen=True, slots=True)
class TiedNetwork:
    """What came of it.

    Attributes:
        attempts: in their order: the curve of loss against bytes.
        original: the network as float32 file.
        untied: in the form that was asked for, with nothing tied.
        tied: likewise, with what was kept.
        shared: layers of each array that is stored once, by name.
        left_out: pairs of layers of one shape that were not come to and do not share by now. A
            pair that shares already, or joins what was refused to be joined, is no attempt.
        content: the file of `tied`.
    """

    attempts: tuple[Attempt, ...]
    original: File
    untied: File
    tied: File
    shared: tuple[tuple[str, ...], ...]
    left_out: int
    content: bytes


def tie_and_teach(
    task: "Task", plan: Plan, say: Say = lambda _title, _done, _total: None
) -> TiedNetwork:
    """Tie layers of a network pair by pair, teach it after each, and keep what a budget allows.

    The pairs are tried in the order of bytes saved for divergence of the answers when they alone
    are tied and nothing is taught.

    Args:
        task: network, data and loss.
        plan: how.
        say: told what is done, and how far it is.

    Raises:
        CompressError: no two layers have weights of one shape; the network cannot be converted or
            quantized; training diverges.
    """
    _check_shapes(task)
    bench = _Bench(task, plan.form)
    state = bench.state(bench.folded())
    untied = content = bench.file(state)
    left, attempts = _candidates(bench, state, say), list[Attempt]()
    refused: set[_Groups] = set()
    while left and len(attempts) < plan.most:
        pair = left.pop(0)
        groups = _groups(state.network, pair)
        if not groups.are_new(refused):
            continue
        student = _paired(bench, state, pair, groups)
        lost_untaught = bench.shift(logits(student, bench.x_tensor)).lost or 0.0
        after = _Progress(say, len(attempts), min(plan.most, len(attempts) + 1 + len(left)))
        teach(student, task, plan.lesson, after)
        taught = bench.state(student)
        made = bench.file(taught)
        lost = bench.shift(answers(made, bench.x)).lost or 0.0
        kept = lost <= plan.max_loss + _EXACT
        takes = footprint(made, task.name)
        attempts.append(Attempt(pair, lost_untaught, lost, takes, kept))
        if kept:
            state, content = taught, made
        else:
            refused.add(groups)
    return TiedNetwork(
        attempts=tuple(attempts),
        original=bench.judged(bench.original),
        untied=bench.judged(untied),
        tied=bench.judged(content),
        shared=shared(state.network),
        left_out=sum(_groups(state.network, pair).are_new(refused) for pair in left),
        content=content,
    )


def shared(network: "torch.nn.Module") -> tuple[tuple[str, ...], ...]:
    """Return the names of modules whose weight is one parameter, for each such parameter."""
    found: dict[int, list[str]] = {}
    for name, module in network.named_modules():
        weight = getattr(module, "weight", None)
        if weight is not None:
            found.setdefault(id(weight), []).append(name)
    return tuple(tuple(names) for names in found.values() if len(names) > 1)


def _check_shapes(task: "Task") -> None:
    layers = {id(layer): layer for layer, _ in layers_run(task.network, task.example)}.values()
    shapes = [(type(layer), tuple(layer.weight.shape)) for layer in layers]
    if len({*shapes}) == len(shapes):
        raise CompressError(
            f"cannot tie layers of {task.name}: no two of its {len(shapes)} have weights of one "
            "shape; `ctl model share --palette` shares values within a layer"
        )


@dataclass(frozen=True, slots=True)
class _State:
    """A network with folded batch norms, and its float32 file with shared weights stored once."""

    network: "Folded"
    content: bytes


@dataclass(frozen=True, slots=True)
class _Progress:
    """Says how far the lessons are, of which each pair has one."""

    say: Say
    before: int
    pairs: int

    def __call__(self, epoch: int, epochs: int) -> None:
        title = f"Pair {self.before + 1} of {self.pairs}: teaching"
        self.say(title, self.before * epochs + epoch, self.pairs * epochs)


def _candidates(bench: "_Bench", state: _State, say: Say) -> list[Candidate]:
    """Return the closest pairs, the most bytes for divergence first."""
    name = bench.task.name
    names = {twin.tensor: twin.name for twin in bench.twins(state).values()}
    found = [pair for pair in pairs(state.content, name) if _fits(pair, names, state.network)]
    if not found:
        raise CompressError(
            f"cannot tie layers of {name}: those of one shape in its file are not found in the "
            "network; `ctl model share --tie` works on the file"
        )
    candidates = []
    for number, pair in enumerate(found[:_CLOSEST]):
        say("Measuring pairs", number, len(found[:_CLOSEST]))
        alone = bench.shift(answers(tie(state.content, name, pair.tensors), bench.x))
        candidates.append(
            Candidate(
                first=names[pair.tensors[0]],
                second=names[pair.tensors[1]],
                distance=pair.distance,
                reordered=pair.reordered,
                saved_bytes=pair.saved_bytes,
                divergence=alone.divergence,
            )
        )
    return sorted(candidates, key=lambda one: one.divergence / one.saved_bytes)


def _fits(pair: Pair, names: dict[int, str], network: "Folded") -> bool:
    """Whether the layers of a pair are known, and have one shape in the network too."""
    modules = [network.get_submodule(names[one]) for one in pair.tensors if one in names]
    return len(modules) > 1 and modules[0].weight.shape == modules[1].weight.shape


@dataclass(frozen=True, slots=True)
class _Groups:
    """The layers that share with either of a pair, itself included, by name."""

    first: tuple[str, ...]
    second: tuple[str, ...]

    def are_new(self, refused: "AbstractSet[_Groups]") -> bool:
        """Whether they do not share yet, and were not refused."""
        return self.first != self.second and self not in refused


def _groups(network: "Folded", pair: Candidate) -> _Groups:
    groups = {name: group for group in shared(network) for name in group}
    found = (groups.get(name, (name,)) for name in (pair.first, pair.second))
    return _Groups(*sorted(found))


def _paired(bench: "_Bench", state: _State, pair: Candidate, groups: _Groups) -> "Folded":
    """Return a copy of a network with one pair more tied.

    With the file's channels in their new order, if the network then answers as the file does; else
    with the mean of both weights as they are.
    """
    import torch  # noqa: PLC0415

    from controller.compress.training.layout import take_back, tie_modules  # noqa: PLC0415

    known = bench.twins(state)
    if {pair.first, pair.second} <= {*known}:
        tensors = known[pair.first].tensor, known[pair.second].tensor
        content = tie(state.content, bench.task.name, tensors)
        student = copy.deepcopy(state.network)
        take_back(student, Graph.read(content, bench.task.name), known)
        if _alike(logits(student, bench.x_tensor), answers(content, bench.x)):
            return student
    student = copy.deepcopy(state.network)
    read = [student.get_submodule(name).weight.data for name in (*groups.first, *groups.second)]
    student.get_submodule(groups.first[0]).weight.data = torch.stack(read).mean(0)
    tie_modules(student, [*groups.first, *groups.second])
    return student


def _alike(given: NDArray[np.float32], expected: NDArray[np.float32]) -> bool:
    largest = max(1.0, float(np.abs(expected).max()))
    return bool(np.abs(given - expected).max() <= _TOLERANCE * largest)


def _read_again(network: "Folded") -> int:
    """Return how many weights a network would store more if no layers shared them."""
    return sum(
        (len(group) - 1) * network.get_submodule(group[0]).weight.numel()
        for group in shared(network)
    )


class _Bench:
    """Makes files of a task's networks, and measures them."""

    def __init__(self, task: "Task", form: Form | None) -> None:
        import torch  # noqa: PLC0415

        self.task = task
        self.form = form
        self.x, self._y = arrays(task.validation)
        self.x_tensor = torch.from_numpy(self.x)
        self.original = converted(task, task.network, "fp32")
        self._expected = answers(self.original, self.x)
        self._ranges = arrays(task.train, RANGE_SAMPLES)[0]
        self._apart: int | None = None
        """Numbers that the file would store if nothing were shared."""

    def folded(self) -> "Folded":
        """Return a copy of the network as its file holds it."""
        import torch  # noqa: PLC0415

        from controller.compress.training.fold import folded  # noqa: PLC0415

        return folded(self.task.network, torch.from_numpy(self._ranges[:_CHECKED]))

    def state(self, network: "Folded") -> _State:
        """Return a network with its float32 file."""
        content = converted(self.task, network, "tied")
        return _State(network, dedupe(content, self.task.name)[0])

    def twins(self, state: _State) -> "dict[str, Twin]":
        """Return the network's layers in its file."""
        from controller.compress.training.layout import twins  # noqa: PLC0415

        graph = Graph.read(state.content, self.task.name)
        return twins(state.network, self.task.example, graph)

    def file(self, state: _State) -> bytes:
        """Return the file in the form that was asked for, what is shared stored once.

        Raises:
            CompressError: something that is shared is stored more than once after all.
        """
        content, name = state.content, self.task.name
        if self.form is not None:
            samples = Samples(self._ranges, None, "", "training data")
            calibration = samples if self.form in STATIC else None
            content = dedupe(quantize(content, self.form, name, calibration)[0], name)[0]
        stored, twice = footprint(content, name).parameters, _read_again(state.network)
        if self._apart is None:
            self._apart = stored + twice
        if stored > self._apart - twice:
            raise CompressError(
                f"cannot tie layers of {name}: the file stores {stored:,} numbers instead of "
                f"{self._apart - twice:,}; the converter or the quantizer keeps shared weights "
                "apart; try another --to"
            )
        return content

    def shift(self, scores: NDArray[np.float32]) -> Shift:
        """Compare scores for the validation data with labels and the original's."""
        return shift_of(self._expected, scores, "logits", self._y)

    def judged(self, content: bytes) -> File:
        """Measure a file on validation and on test data."""
        x, y = arrays(self.task.test)
        test = shift_of(answers(self.original, x), answers(content, x), "logits", y)
        takes = footprint(content, self.task.name)
        return File(takes, self.shift(answers(content, self.x)), test)
