"""The first choice: `ai-edge-litert`'s Interpreter (not CompiledModel, which holds the GIL)."""

from pathlib import Path

from ai_edge_litert.interpreter import Interpreter

from protocols.inference.interpreter import InterpretedModel, open_with


def open_model(path: Path, threads: int, sample_shape: tuple[int, ...] | None) -> InterpretedModel:
    """Open a model with LiteRT; see `runtime.open_model`."""
    return open_with(Interpreter, path, threads, sample_shape)
