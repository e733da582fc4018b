"""Runs a chain of models on rows of input, in whichever interpreter this Python has.

`python -m tests.bench._answers INPUTS.npy OUT.npy MODEL...`: a child of the benchmark
`third_party`, started by either of its two Pythons. It needs numpy, pydantic and an interpreter
alone. A row that a float model takes is quantized for one that takes integers.
"""

import sys
from pathlib import Path

import numpy as np

from protocols.inference.runtime import ModelError, open_model
from protocols.inference.tensors import TensorError, conform, real


def main(inputs: str, out: str, *models: str) -> int:
    """Write the first output of the last model, real values, [n, elements]; return an exit code."""
    try:
        chain = [open_model(Path(model)) for model in models]
        answers = []
        for row in np.load(inputs):
            tensors = [conform(row, chain[0].inputs[0])]
            for model in chain:
                tensors = model.run(tensors)
            answers.append(real(tensors[0], chain[-1].outputs[0]).reshape(-1))
    except (ModelError, TensorError) as error:
        print(error, file=sys.stderr)
        return 2
    np.save(out, np.stack(answers))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
