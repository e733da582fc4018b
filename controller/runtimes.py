"""Which interpreters answer right with a model: what is known of them, as one rule. Pure.

`tflite-runtime` ends at 2.14. It loads a model with weights of 2 or 4 bits without a word, and then
answers the same to every input, answers NaN, or dies (docs/toolkit/runtimes.md). A device that has
nothing else must never be sent one.
"""

from controller.compress.errors import CompressError
from controller.compress.graph import Graph

NARROW = frozenset({"int2", "int4", "uint4"})
"""Types of tensors that `tflite-runtime` reads wrongly."""

LITERT_ALONE = ("ai-edge-litert",)


def runtimes_for(content: bytes) -> tuple[str, ...]:
    """Return the distributions of the interpreters that answer right with a model; empty: any.

    Args:
        content: the `.tflite` file; of one that cannot be taken apart nothing is known.
    """
    try:
        graph = Graph.read(content, "the model")
    except CompressError:
        return ()
    narrow = any(
        graph.type_name(tensor) in NARROW or graph.block_scales(tensor) is not None
        for tensor in graph.tensors
    )
    return LITERT_ALONE if narrow else ()
