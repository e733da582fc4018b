"""How long each operator of a model takes.

The Python interpreter exposes no profiler. So every operator is cut out as a model of its own, with
its weights, and all of them and the whole model run in turns in one process. What the parts take
together need not be what the whole takes: each part pays for being called (about a microsecond),
and inside the whole a delegate may fuse what is separate here. Both sums are given, so that the
reader sees how far the shares can be trusted.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from controller.compress.anatomy import constant_of, unpackers
from controller.compress.errors import CompressError
from controller.compress.graph import Graph
from controller.compress.measure import ModelFile, OnRuns, Pace, Place, clock

PACE = Pace(warm_s=0.1, runs=30, seconds=1.0, limit_s=60.0)
"""Fewer runs than a benchmark has: there are as many models as operators."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Median times on this machine.

    Attributes:
        operator_us: of each operator, in order, alone; None: it cannot run alone.
        whole_us: of the whole model, in the same process and the same turns.
    """

    operator_us: tuple[float | None, ...]
    whole_us: float

    @property
    def sum_us(self) -> float:
        """What the operators take one by one, those that can run alone."""
        return sum(one for one in self.operator_us if one is not None)


def profile(
    content: bytes,
    name: str,
    place: Place | None = None,
    pace: Pace = PACE,
    on_runs: OnRuns = lambda _: None,
) -> Profile:
    """Time every operator of a model.

    Args:
        content: the model file.
        name: for messages.
        place: threads and CPUs; None: one thread, any CPU.
        pace: how often and how long, all together.
        on_runs: told how far it is.

    Raises:
        CompressError: it is no model, or it or a part of it does not run.
    """
    graph = Graph.read(content, name)
    if any(-1 in (graph.signature(tensor) or ())[1:] for tensor in graph.inputs):
        raise CompressError(
            f"cannot profile {name}: its input leaves more than its batch axis open, so that its "
            "operators have no shapes; export it with a fixed shape"
        )
    parts = {number: _alone(graph, number) for number in graph.operators}
    runnable = {number: part for number, part in parts.items() if part is not None}
    with tempfile.TemporaryDirectory(prefix="sluice-profile-") as folder:
        models = _write(Path(folder), name, [content, *runnable.values()])
        found = clock(models, place, pace, None, on_runs)
    whole, *times = (one.median for one in found.timings)
    by_number = dict(zip(runnable, times, strict=True))
    return Profile(tuple(by_number.get(number) for number in graph.operators), whole)


def _write(folder: Path, name: str, contents: Sequence[bytes]) -> list[ModelFile]:
    models = [ModelFile(name, folder / f"{number}.tflite") for number in range(len(contents))]
    for model, content in zip(models, contents, strict=True):
        model.path.write_bytes(content)
    return models


def _alone(graph: Graph, operator: int) -> bytes | None:
    """Return a model of one operator; None: it needs more of the whole than tensors.

    What unpacks its weights goes with it, as the interpreter does that once and not at each run.
    """
    reads = dict.fromkeys(t for t in graph.operator_inputs(operator) if t >= 0)
    before = [o for tensor in reads for o in unpackers(graph, tensor)]
    inputs = [t for t in reads if constant_of(graph, t) is None]
    stateful = any(graph.is_variable(tensor) for tensor in inputs)
    outputs = graph.operator_outputs(operator)
    if not inputs or not outputs or stateful or graph.has_subgraphs(operator):
        return None
    try:
        return graph.part([*sorted(before), operator], inputs, outputs, graph.name).write()
    except CompressError:
        return None
