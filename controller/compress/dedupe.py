"""Identical buffers stored once. The outputs stay the same to the bit."""

from dataclasses import dataclass

from controller.compress.graph import Graph


@dataclass(frozen=True, slots=True)
class Deduped:
    """What was found to be stored twice.

    Attributes:
        tensors: how many of them now read the buffer of another.
        bytes_saved: of the values that are not stored again.
    """

    tensors: int
    bytes_saved: int


def dedupe(content: bytes, name: str) -> tuple[bytes, Deduped]:
    """Let constants with the same bytes share one buffer, whatever their types and shapes.

    Nothing that runs writes into a constant's buffer, so this is always safe. A model in which
    nothing is stored twice comes back as it was.

    Raises:
        CompressError: it is no model.
    """
    graph = Graph.read(content, name)
    owners: dict[bytes, int] = {}
    tensors = saved = 0
    for tensor in graph.constants():
        owner = owners.setdefault(graph.raw(tensor).tobytes(), tensor)
        if graph.buffer(owner) == graph.buffer(tensor):
            continue
        alone = len(graph.users(graph.buffer(tensor))) == 1
        saved += graph.stored_bytes(tensor) if alone else 0
        tensors += 1
        graph.share_buffer(tensor, owner)
    return (graph.write() if tensors else content), Deduped(tensors, saved)
