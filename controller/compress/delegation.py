"""Which operators the runtime's default delegate, XNNPACK, takes over. Pure.

The interpreter does not say it in so many words. It shows the nodes that it appended to the
model's own, one for each part that the delegate took, with the tensors that go in and come out; the
operators between those are the part.
"""

from collections.abc import Iterable

from controller.compress.graph import Graph
from controller.compress.measure import Partitioned


def delegated(graph: Graph, found: Partitioned) -> frozenset[int] | None:
    """Return the operators that the delegate takes.

    Args:
        graph: the model.
        found: what the interpreter said of the same file.

    Returns:
        Numbers of operators; None: the interpreter has other nodes than the file has operators,
        so that its tensors cannot be told.
    """
    if found.operators != len(graph.operators):
        return None
    parts = (_between(graph, region.inputs, region.outputs) for region in found.regions)
    return frozenset().union(*parts)


def _between(graph: Graph, inputs: Iterable[int], outputs: Iterable[int]) -> frozenset[int]:
    """Return the operators that lead from some tensors to others, found from their end."""
    written_by = {t: o for o in graph.operators for t in graph.operator_outputs(o)}
    stops, found = set(inputs), set[int]()
    waiting = list(outputs)
    while waiting:
        operator = written_by.get(waiting.pop())
        if operator is None or operator in found:
            continue
        found.add(operator)
        waiting += [t for t in graph.operator_inputs(operator) if t not in stops]
    return frozenset(found)
