"""A first stage on the large network's early features: trunk, exit and rest.

The network is cut behind one layer. A small head is taught on what the frozen trunk gives, by
labels and by the whole network's answers (`teach`). Three files come out: the trunk, the head (the
exit of a cascade), and the rest of the network. Trunk and rest are the exported whole, cut
(`controller.compress.split`) and compared with it bit for bit; so in int8 they are exactly as good
as the whole in int8, and the tensor between has one scale, which the head is quantized to read.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from controller.compress.cuts import Cut, Flow, legal_cuts
from controller.compress.errors import CompressError
from controller.compress.split import read_flow, split
from controller.compress.training.boundaries import Boundary, boundaries, boundary, spread
from controller.compress.training.export import (
    RANGE_SAMPLES,
    answers,
    converted,
    to_int8,
)
from controller.compress.training.head import fitted_head, head_file
from controller.compress.training.network import accuracy, arrays, measured
from controller.compress.training.relay import ends, relay
from controller.compress.training.target import Size, Target
from controller.compress.training.teach import Lesson, teach
from controller.samples import Samples
from protocols.bundle import TensorSpec

if TYPE_CHECKING:
    import torch

    from controller.compress.training.protocol import Task

AUTO = "auto"
"""Instead of a layer's name: the earliest one whose exit is good enough."""

WITHIN_POINTS = 2.0
"""Percentage points of accuracy that such an exit may have less than the whole network."""

MOST_SHARE = 0.6
"""Of the multiply-accumulates: a trunk that takes more leaves a cascade little to save."""

MOST_TRIED = 6
_COMPARED = 256
_SAMPLES = 4
"""Of the validation data, on which a layer's output is found in the file."""

Say = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Tried:
    """An exit that was taught.

    Attributes:
        layer: behind which it stands; `share` of the multiply-accumulates lies before it.
        accuracy: of the network with this exit alone, on validation data.
    """

    layer: str
    share: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Shared:
    """A network with an exit.

    Attributes:
        layer: behind which it is cut; `share` of the multiply-accumulates lies before it.
        original: what the whole costs; `head` what the head adds.
        tried: exits that were taught, in order; the one that was taken among them.
        handed_over_bytes: from the trunk to who reads it, for one answer.
        compared: inputs on which trunk and rest gave the bytes that the whole gives.
        one_scale: trunk, exit and rest have the tensor between them in the same form.
        accuracy_original: of the network, on validation data.
        accuracy_whole: of trunk and rest as files; `accuracy_exit`: of trunk and exit.
    """

    layer: str
    share: float
    original: Size
    head: Size
    tried: tuple[Tried, ...]
    handed_over_bytes: int
    compared: int
    one_scale: bool
    accuracy_original: float
    accuracy_whole: float
    accuracy_exit: float


@dataclass(frozen=True, slots=True)
class Files:
    """The three files."""

    trunk: bytes
    exit: bytes
    rest: bytes


@dataclass(frozen=True, slots=True)
class Exit:
    """A head that was taught, where it stands, what it costs, and its accuracy on validation."""

    place: Boundary
    head: "torch.nn.Module"
    size: Size
    accuracy: float


@dataclass(frozen=True, slots=True)
class Order:
    """What exit is wanted.

    Attributes:
        target: size of the head alone; a share is one of the whole network.
        lesson: how it is taught.
        is_int8: static int8, calibrated on training samples, else float32.
        within_points: of accuracy below the whole network's, with `AUTO`.
    """

    target: Target
    lesson: Lesson
    is_int8: bool = False
    within_points: float = WITHIN_POINTS


def share_trunk(
    task: "Task", layer: str, order: Order, say: Say = lambda _title, _done, _total: None
) -> tuple[Files, Shared]:
    """Cut a network behind a layer, teach an exit there, and return the three files.

    Args:
        task: the network and its data.
        layer: name of a module; `AUTO`: of at most six boundaries within the first 60% of the
            multiply-accumulates, the earliest whose exit is good enough, else the one with the best
            exit. It is chosen on validation data.
        order: what exit is wanted.
        say: told what is done, and how far it is.

    Raises:
        CompressError: the network cannot be cut there, no head of this size fits, training
            diverges, or a file cannot be made.
    """
    x, y = arrays(task.validation)
    say("Converting the network", 0, 1)
    plain = converted(task, task.network, "whole")
    found = boundaries(task.network, _tensor(x[:_SAMPLES]), plain, task.name)
    candidates = _candidates(task, found, layer)
    whole_accuracy = accuracy(task.network, task.validation)
    chosen, tried = choose_exit(
        task, candidates, order, whole_accuracy - order.within_points / 100, say
    )
    ranges, _ = arrays(task.train, RANGE_SAMPLES)
    whole = to_int8(plain, ranges, f"{task.name} whole") if order.is_int8 else plain
    say("Comparing trunk and rest with the whole", 0, 1)
    flow = read_flow(whole, f"{task.name} whole")
    cut = _cut(flow, chosen.place)
    halves = split(whole, flow, [cut], Samples(x[:_COMPARED], None, "", "validation data"), say)
    trunk, rest = (part.content for part in halves.parts)
    say("Writing the exit", 0, 1)
    exit_file = _exit_file(task, chosen, trunk, (ranges, x), is_int8=order.is_int8)
    scores = relay([trunk, exit_file], x)
    return Files(trunk, exit_file, rest), Shared(
        layer=chosen.place.layer,
        share=chosen.place.share,
        original=measured(task.network, task.example, is_int8=order.is_int8),
        head=chosen.size,
        tried=tried,
        handed_over_bytes=cut.handed_over_bytes,
        compared=halves.compared,
        one_scale=_form(ends(trunk)[1]) == _form(ends(exit_file)[0]) == _form(ends(rest)[0]),
        accuracy_original=whole_accuracy,
        accuracy_whole=float((answers(whole, x).argmax(axis=1) == y).mean()),
        accuracy_exit=float((scores.argmax(axis=1) == y).mean()),
    )


def _candidates(task: "Task", found: Sequence[Boundary], layer: str) -> tuple[Boundary, ...]:
    if layer != AUTO:
        return (boundary(found, layer, task.network),)
    near = spread(found, MOST_SHARE, MOST_TRIED)
    if not near:
        raise CompressError(
            f"cannot cut {task.name}: none of its layers within the first {MOST_SHARE:.0%} of the "
            "multiply-accumulates hands over a single tensor; name a later one with --trunk LAYER, "
            "or train a first stage of its own (without --trunk)"
        )
    return near


def choose_exit(
    task: "Task", candidates: Sequence[Boundary], order: Order, wanted: float, say: Say
) -> tuple[Exit, tuple[Tried, ...]]:
    """Teach exits, from the earliest boundary on, until one is good enough; else take the best.

    Args:
        task: the network and its data.
        candidates: where an exit may stand, the earliest first.
        order: what exit is wanted.
        wanted: accuracy on validation data that is good enough.
        say: told what is done, and how far it is.

    Returns:
        The exit, and all that were taught.
    """
    original = measured(task.network, task.example, is_int8=order.is_int8)
    lesson, exits = order.lesson, list[Exit]()
    total = lesson.epochs * len(candidates)
    for number, place in enumerate(candidates):
        title, before = f"Teaching an exit behind {place.layer}", number * lesson.epochs
        trunk = features_of(task.network, place.layer)
        head, size = fitted_head(
            trunk(task.example[:1]),
            task.classes,
            order.target,
            original,
            is_int8=order.is_int8,
            channels_last=place.channels_last,
        )
        say(title, before, total)
        # The head sees the trunk's features wherever it is given a sample: it alone learns.
        hook = head.register_forward_pre_hook(_behind(trunk))
        teach(head, task, lesson, _told(say, title, before, total))
        exits.append(Exit(place, head, size, accuracy(head, task.validation)))
        hook.remove()
        if exits[-1].accuracy >= wanted:
            break
    best = max(exits, key=lambda one: one.accuracy)  # the one that is good enough, if any is
    return best, tuple(Tried(one.place.layer, one.place.share, one.accuracy) for one in exits)


def _told(say: Say, title: str, before: int, total: int) -> Callable[[int, int], None]:
    return lambda epoch, _epochs: say(title, before + epoch, total)


def _behind(
    trunk: "Callable[[torch.Tensor], torch.Tensor]",
) -> "Callable[[object, tuple[torch.Tensor, ...]], torch.Tensor]":
    def seen(_head: object, given: "tuple[torch.Tensor, ...]") -> "torch.Tensor":
        return trunk(*given)

    return seen


class _ReachedError(Exception):
    """The network ran far enough."""

    def __init__(self, features: "torch.Tensor") -> None:
        self.features = features


def features_of(network: "torch.nn.Module", layer: str) -> "Callable[[torch.Tensor], torch.Tensor]":
    """Return a function that runs a network up to a layer, and gives what that layer gives.

    Args:
        network: in evaluation mode; it is not changed, and learns nothing by this.
        layer: name of a module that runs once.
    """
    import torch  # noqa: PLC0415

    module = network.get_submodule(layer)

    def reached(_module: object, _given: object, output: "torch.Tensor") -> None:
        raise _ReachedError(output)

    def run(x: "torch.Tensor") -> "torch.Tensor":
        hook = module.register_forward_hook(reached)
        try:
            with torch.no_grad():
                network(x)
        except _ReachedError as found:
            return found.features
        finally:
            hook.remove()
        raise CompressError(f"cannot cut the network behind {layer!r}: it did not run")

    return run


def _cut(flow: Flow, place: Boundary) -> Cut:
    """Return a boundary as a cut of a file; quantizing keeps tensors' names.

    Raises:
        CompressError: it is none there.
    """
    graph = flow.graph
    for cut in legal_cuts(flow):
        (tensor,) = cut.tensors
        if graph.tensor_name(tensor) == place.tensor and graph.shape(tensor) == place.shape:
            return cut
    raise CompressError(
        f"cannot cut {graph.name} behind {place.layer}: what the layer gives does not cross "
        "alone any more once the file is quantized; cut behind another layer"
    )


def _exit_file(
    task: "Task",
    chosen: Exit,
    trunk: bytes,
    samples: tuple[NDArray[np.float32], NDArray[np.float32]],
    *,
    is_int8: bool,
) -> bytes:
    """Return the head as a file that reads what the trunk's file gives."""
    ranges, x = samples
    given, name = _tensor(relay([trunk], x[:_COMPARED])), f"{task.name} exit"
    content = head_file(chosen.head, given, name, channels_last=chosen.place.channels_last)
    if not is_int8:
        return content
    return to_int8(content, relay([trunk], ranges), name, _span(ends(trunk)[1]))


def _span(spec: TensorSpec) -> tuple[float, float] | None:
    """Return the smallest and the largest real value that a quantized tensor can hold."""
    if spec.quantization is None:
        return None
    limits, zero = np.iinfo(spec.dtype), spec.quantization.zero_point
    scale = spec.quantization.scale
    return (int(limits.min) - zero) * scale, (int(limits.max) - zero) * scale


def _tensor(x: NDArray[np.float32]) -> "torch.Tensor":
    import torch  # noqa: PLC0415

    return torch.from_numpy(x)


def _form(spec: TensorSpec) -> object:
    return spec.dtype, spec.quantization
