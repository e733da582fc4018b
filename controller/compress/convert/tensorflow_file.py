"""From a TensorFlow function to a `.tflite` file. Imported in the child alone."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from controller.compress.convert.source import Port, Written
from controller.compress.errors import CompressError

TOOLS = (f"tensorflow {tf.__version__}",)  # installed under several names

_MISSING = re.compile(r"(?:TF Select|Custom) ops: ([\w, ]+)")
_ONE_MISSING = re.compile(r"'tf\.(\w+)' op is neither")


def write(
    answer: Callable[..., Mapping[str, Any]],
    owner: Any,  # noqa: ANN401 - tensorflow has no types
    inputs: Sequence[Port],
    path: Path,
    name: str,
) -> Written:
    """Write a function as a file.

    Args:
        answer: takes a tensor for every input, by position; gives tensors by name.
        owner: keeps the function's variables alive.
        inputs: of fixed shape.
        path: the file.
        name: of the source, for messages.

    Raises:
        CompressError: it has operators that the interpreter does not know.
    """
    keys = [f"input_{number}" for number in range(len(inputs))]
    specs = [
        tf.TensorSpec(port.shape, port.dtype, name=key)
        for port, key in zip(inputs, keys, strict=True)
    ]
    names: list[str] = []

    @tf.function(input_signature=specs)  # type: ignore[untyped-decorator, unused-ignore]
    def numbered(*taken: Any) -> dict[str, Any]:  # noqa: ANN401
        found = answer(*taken)
        names[:] = list(found)
        return {f"output_{number}": each for number, each in enumerate(found.values())}

    concrete = numbered.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], owner)
    try:
        path.write_bytes(converter.convert())
    except Exception as error:
        if "TensorList" in str(error):
            raise CompressError(
                f"cannot convert {name}: it has a loop, as recurrent layers are, of an open batch; "
                "convert the .keras file, or export with a batch of 1"
            ) from error
        missing = _missing(str(error))
        if not missing:
            raise
        raise CompressError(
            f"cannot convert {name}: it has operators that the interpreter does not know: "
            f"{', '.join(missing)}; build the model without them"
        ) from error
    return Written(
        inputs=tuple(keys),
        outputs=tuple(f"output_{number}" for number in range(len(names))),
        output_names=tuple(names),
    )


def _missing(text: str) -> list[str]:
    """Return the operators that the converter complains of."""
    found = {name.strip() for names in _MISSING.findall(text) for name in names.split(",")}
    return sorted({*found, *_ONE_MISSING.findall(text)} - {""})
