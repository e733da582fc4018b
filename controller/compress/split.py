"""Cutting a model into consecutive parts that answer, one after the other, exactly as the whole.

Each part is a model of its own. Nothing is handed out before the parts have answered the same
inputs as the whole, bit for bit, in a process of their own: what the runtime fuses across a cut
could round differently, and then the cut is refused.
"""

import itertools
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard, get_args

import numpy as np
from numpy.typing import NDArray

from controller.compress.cuts import (
    Cut,
    Flow,
    Refused,
    balanced,
    fit_together,
    legal_cuts,
    places,
)
from controller.compress.errors import CompressError
from controller.compress.graph import Graph
from controller.samples import Samples, random_inputs
from controller.trial import Answer, Answered, Source, TrialError, run_trial
from protocols.bundle import DType, Quantization, TensorSpec

RANDOM_SAMPLES = 16
"""Seeded random inputs that every split is compared on."""

MAX_PARTS = 16
"""Stages of a cascade."""

_MIB = 1 << 20
_DTYPES = frozenset(get_args(DType))
_SEVERAL = 6

OnStep = Callable[[str, int, int], None]
"""Takes what runs now, how much is done, and how much there is."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a model.

    Attributes:
        content: the `.tflite` file.
        operators: first and last one, as the whole counts them.
        weights_bytes: of the constants that it reads.
        macs: multiply-accumulates for one sample.
        inputs: names of the tensors that it takes; `outputs`: of those that it gives.
    """

    content: bytes
    operators: tuple[int, int]
    weights_bytes: int
    macs: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Split:
    """What a model was cut into.

    Attributes:
        cuts: where.
        parts: in the order in which they run.
        compared: inputs on which the parts answered as the whole does, bit for bit.
        whole_bytes: size of the file that was cut.
    """

    cuts: tuple[Cut, ...]
    parts: tuple[Part, ...]
    compared: int
    whole_bytes: int


def read_flow(content: bytes, name: str) -> Flow:
    """Take a model apart so that it can be cut.

    Raises:
        CompressError: it is no model, or no model of one straight line of operators.
    """
    graph = Graph.read(content, name)
    if graph.subgraphs > 1:
        raise CompressError(
            f"cannot split {name}: it has {graph.subgraphs} subgraphs (loops, branches or several "
            "entry points), only models with one can be cut; export it without control flow"
        )
    if graph.lies_outside:
        raise CompressError(
            f"cannot split {name}: options or weights of it lie outside of the model's own tables; "
            "export it as one file below 2 GB"
        )
    return Flow(graph)


def cuts_for_parts(flow: Flow, parts: int, most_tensors: int = 1) -> tuple[Cut, ...]:
    """Return the cuts that make so many parts with weights as even as they can be.

    Raises:
        CompressError: the model has too few legal cuts for that.
    """
    name, legal = flow.graph.name, legal_cuts(flow, most_tensors)
    if not 1 < parts <= MAX_PARTS:
        raise CompressError(f"cannot split {name} into {parts} parts: want 2 to {MAX_PARTS}")
    found = balanced(flow, legal, parts)
    if found is None:
        raise CompressError(
            f"cannot split {name} into {parts} parts: it has {len(legal)} legal cuts"
            f"{_hint(flow, most_tensors)}"
        )
    return found


def cuts_for_size(flow: Flow, max_mib: float, most_tensors: int = 1) -> tuple[Cut, ...]:
    """Return the fewest cuts that make every part's file fit a size.

    Args:
        flow: of the model.
        max_mib: the largest file that is allowed.
        most_tensors: how many tensors may be handed over at a cut.

    Raises:
        CompressError: no legal cuts do, or the whole fits already.
    """
    graph, limit = flow.graph, max_mib * _MIB
    if len(make_part(flow, -1, None).content) <= limit:
        raise CompressError(
            f"cannot split {graph.name} to fit {max_mib:g} MiB: the whole fits already"
        )
    legal, largest = legal_cuts(flow, most_tensors), math.inf
    for parts in range(2, min(MAX_PARTS, len(legal) + 1) + 1):
        found = balanced(flow, legal, parts)
        if found is None:
            break
        size = max(len(part.content) for part in make_parts(flow, found))
        if size <= limit:
            return found
        largest = min(largest, size)
    best = f"; the best has one of {largest / _MIB:.3g} MiB" if largest < math.inf else ""
    raise CompressError(
        f"cannot split {graph.name} to fit {max_mib:g} MiB: none of its {len(legal)} legal cuts "
        f"make parts so small{best}{_hint(flow, most_tensors)}; quantize it first"
    )


def cuts_at(flow: Flow, words: str, most_tensors: int = 1) -> tuple[Cut, ...]:
    """Return the cuts that a person names: `TENSOR[,TENSOR]`, by name or by operator number.

    A tensor stands for the first legal cut that hands it over alone, else for the first that hands
    it over at all; a number for the cut behind that operator.

    Raises:
        CompressError: there is no legal cut of that name, or the cuts do not go together.
    """
    legal = legal_cuts(flow, most_tensors)
    names = {flow.graph.tensor_name(t) for t in flow.graph.tensors}
    wanted = [words] if words in names else words.split(",")
    found = {
        cut.after: cut for cut in (_cut_at(flow, word, legal, most_tensors) for word in wanted)
    }
    chosen = tuple(found[after] for after in sorted(found))
    if len(chosen) >= MAX_PARTS:
        raise CompressError(
            f"cannot split {flow.graph.name} into {len(chosen) + 1} parts: at most {MAX_PARTS}"
        )
    for before, cut in itertools.pairwise(chosen):
        if not fit_together(flow, before, cut):
            raise CompressError(
                f"cannot cut {flow.graph.name} behind operators {before.after} and {cut.after}: "
                "what the second one hands over is written before the first; leave one of them out"
            )
    return chosen


def make_parts(flow: Flow, cuts: Sequence[Cut]) -> tuple[Part, ...]:
    """Return the parts between cuts; they are not compared with the whole yet."""
    edges: list[Cut | None] = [None, *cuts, None]
    return tuple(
        make_part(flow, -1 if before is None else before.after, after, before)
        for before, after in itertools.pairwise(edges)
    )


def make_part(flow: Flow, behind: int, end: Cut | None, begin: Cut | None = None) -> Part:
    """Return the part behind an operator (-1: from the first one on) up to a cut."""
    graph = flow.graph
    stop = flow.end if end is None else end.after + 1
    inputs = graph.inputs if begin is None else begin.tensors
    outputs = graph.outputs if end is None else end.tensors
    operators = flow.operators(behind + 1, stop)
    part = graph.part(operators, inputs, outputs, f"{graph.name} {behind + 1}-{stop - 1}")
    return Part(
        content=part.write(),
        operators=(behind + 1, stop - 1),
        weights_bytes=flow.weights_bytes(behind + 1, stop),
        macs=flow.macs(behind + 1, stop),
        inputs=tuple(map(graph.tensor_name, inputs)),
        outputs=tuple(map(graph.tensor_name, outputs)),
    )


def split(
    content: bytes,
    flow: Flow,
    cuts: Sequence[Cut],
    samples: Samples | None = None,
    on_step: OnStep = lambda *_: None,
) -> Split:
    """Cut a model, and compare the parts with the whole.

    Args:
        content: the model's file.
        flow: of it.
        cuts: where, rising.
        samples: compared on these too, besides seeded random inputs; None: there are none.
        on_step: told what runs.

    Raises:
        CompressError: whole or parts do not run, or do not answer alike.
    """
    name, parts = flow.graph.name, make_parts(flow, cuts)
    chain = [(f"part {number + 1} of {name}", part.content) for number, part in enumerate(parts)]
    with tempfile.TemporaryDirectory(prefix="sluice-split-") as folder:
        rows = {"random input": _random_sources(flow.graph, Path(folder))}
        if samples is not None:
            rows[samples.source] = _sample_sources(samples, Path(folder))
        run = _Chain(Path(folder), len(rows) * (1 + len(chain)), on_step)
        for what, sources in rows.items():
            whole = run.answers([(name, content)], sources)
            _check_equal(name, what, cuts, whole, run.answers(chain, sources))
    count = RANDOM_SAMPLES + (0 if samples is None else len(samples.x))
    return Split(tuple(cuts), parts, count, len(content))


class _Chain:
    """Runs models one after the other over rows of input, each in a process of its own."""

    def __init__(self, folder: Path, total: int, on_step: OnStep) -> None:
        self._folder, self._total, self._on_step = folder, total, on_step
        self._done = 0

    def answers(
        self, chain: Sequence[tuple[str, bytes]], sources: tuple[Source, ...]
    ) -> list[NDArray[Any]]:
        """Return what the last model of a chain gives: [n, *shape] for every output."""
        for name, content in chain:
            sources = self._run(name, content, sources)
        return [np.load(source.path, mmap_mode="r") for source in sources]

    def _run(self, name: str, content: bytes, sources: tuple[Source, ...]) -> tuple[Source, ...]:
        self._on_step(f"Comparing: {name}", self._done, self._total)
        self._done += 1
        place = self._folder / str(self._done)
        place.mkdir()
        model = place / "model.tflite"
        model.write_bytes(content)
        job = Answer(path=str(model), sources=sources, folder=str(place))
        try:
            outputs = run_trial(job, name, Answered).outputs
        except TrialError as error:
            raise CompressError(f"cannot split: {name} does not run: {error.why}") from error
        return tuple(
            Source(path=str(place / f"{number}.npy"), spec=spec, is_request=False)
            for number, spec in enumerate(outputs)
        )


def _random_sources(graph: Graph, folder: Path) -> tuple[Source, ...]:
    specs = [_spec(graph, tensor) for tensor in graph.inputs]
    rows = [random_inputs(specs, seed) for seed in range(RANDOM_SAMPLES)]
    sources = []
    for number, spec in enumerate(specs):
        path = folder / f"random-{number}.npy"
        np.save(path, np.stack([row[number] for row in rows]))
        sources.append(Source(path=str(path), spec=spec, is_request=False))
    return tuple(sources)


def _sample_sources(samples: Samples, folder: Path) -> tuple[Source, ...]:
    path = folder / "samples.npy"
    np.save(path, samples.x)
    spec = TensorSpec(name="x", shape=(1, *samples.x.shape[1:]), dtype=samples.dtype)
    return (Source(path=str(path), spec=spec, is_request=True),)


def _spec(graph: Graph, tensor: int) -> TensorSpec:
    """Return an input as the interpreter has it for one sample."""
    dtype, scale = graph.type_name(tensor), graph.scale(tensor)
    if not _is_dtype(dtype):
        raise CompressError(
            f"cannot split {graph.name}: its input {graph.tensor_name(tensor)!r} has type {dtype}, "
            "which no cascade can take"
        )
    signature = graph.signature(tensor) or ()
    if any(n < 1 for n in signature[1:]):
        raise CompressError(
            f"cannot split {graph.name}: its input {graph.tensor_name(tensor)!r} leaves its shape "
            f"open, {list(signature)}; export it with a fixed shape"
        )
    quantization = None
    if scale is not None and scale.axis is None:
        quantization = Quantization(
            scale=float(scale.scale[0]), zero_point=int(scale.zero_point[0])
        )
    return TensorSpec(
        name=graph.tensor_name(tensor)[:512],
        shape=graph.shape(tensor),
        dtype=dtype,
        quantization=quantization,
    )


def _check_equal(
    name: str,
    what: str,
    cuts: Sequence[Cut],
    whole: Sequence[NDArray[Any]],
    parts: Sequence[NDArray[Any]],
) -> None:
    """Check that two runs gave the same bytes: NaN equals itself, -0 is not 0."""
    behind = ", ".join(str(cut.after) for cut in cuts)
    where = f"cannot split {name} behind operators {behind}"
    if len(whole) != len(parts):
        raise CompressError(f"{where}: the whole has {len(whole)} outputs, the parts {len(parts)}")
    for number, (one, other) in enumerate(zip(whole, parts, strict=True)):
        if one.shape != other.shape or one.dtype != other.dtype:
            raise CompressError(
                f"{where}: output {number} of the whole is {one.dtype}{list(one.shape)}, of the "
                f"parts {other.dtype}{list(other.shape)}"
            )
        rows, others = _as_bytes(one), _as_bytes(other)
        differ = np.flatnonzero((rows != others).any(axis=1))
        if differ.size:
            raise CompressError(
                f"{where}: the parts answer otherwise than the whole on {differ.size} of "
                f"{len(rows)} samples of {what} (the first: {differ[0]}); choose another cut"
            )


def _as_bytes(rows: NDArray[Any]) -> NDArray[np.uint8]:
    flat = np.ascontiguousarray(rows).reshape(len(rows), -1)
    return flat.view(np.uint8)


def _cut_at(flow: Flow, word: str, legal: Sequence[Cut], most_tensors: int) -> Cut:
    """Return the legal cut that a word names."""
    graph, word = flow.graph, word.strip()
    named = [t for t in graph.tensors if graph.tensor_name(t) == word]
    holding = [cut for cut in legal if set(named) & {*cut.tensors}]
    alone = [cut for cut in holding if len(cut.tensors) == 1]
    numbered = [cut for cut in legal if word.isdecimal() and cut.after == int(word)]
    found: list[Cut] = [*alone, *holding, *(() if named else numbered)]
    if found:
        return found[0]
    refused = [
        place
        for place in places(flow, most_tensors)
        if isinstance(place, Refused)
        and (set(named) & {*place.tensors} or (word.isdecimal() and place.after == int(word)))
    ]
    if refused:
        why = f"behind operator {refused[0].after}, {refused[0].why}"
    elif named:
        why = "nothing is cut off there: it is an input, a constant, or the model's output"
    else:
        why = "there is no tensor or operator of that name"
    raise CompressError(
        f"cannot cut {graph.name} at {word!r}: {why}; `ctl model split {graph.name} --list` shows "
        f"its {len(legal)} legal cuts"
    )


def _hint(flow: Flow, most_tensors: int) -> str:
    """Say how many more cuts there are where more tensors may be handed over."""
    more = len(legal_cuts(flow, _SEVERAL)) - len(legal_cuts(flow, most_tensors))
    return (
        f" ({more} more with --tensors {_SEVERAL})" if more > 0 and most_tensors < _SEVERAL else ""
    )


def _is_dtype(name: str) -> TypeGuard[DType]:
    return name in _DTYPES
