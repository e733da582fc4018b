"""From a torch network to a `.tflite` file, checked against the network; and on to int8."""

import copy
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from controller.compress.errors import CompressError
from controller.compress.graph import Graph
from controller.compress.training.hush import hushed
from controller.compress.training.network import arrays, logits

if TYPE_CHECKING:
    import torch

    from controller.compress.training.protocol import Task

RANGE_SAMPLES = 512
"""Training samples that set the ranges of int8 activations."""
_CHECKED = 32
_TOLERANCE = 1e-3
"""Of the largest logit: float32 sums taken in another order differ by some 1e-5 of it."""


@dataclass(frozen=True, slots=True)
class Exported:
    """A network as a file, and the share of the validation data that the file answers rightly."""

    content: bytes
    accuracy: float


def exported(task: "Task", network: "torch.nn.Module", name: str, *, is_int8: bool) -> Exported:
    """Return a network as a file: float32, or static int8 calibrated on training samples.

    Raises:
        CompressError: it cannot be converted or quantized.
    """
    content = converted(task, network, name)
    if is_int8:
        content = to_int8(content, arrays(task.train, RANGE_SAMPLES)[0], name)
    x, y = arrays(task.validation)
    return Exported(content, float((answers(content, x).argmax(axis=1) == y).mean()))


def converted(task: "Task", network: "torch.nn.Module", name: str) -> bytes:
    """Return a network as a float32 file, compared with it on validation samples.

    Raises:
        CompressError: as `to_tflite`.
    """
    import torch  # noqa: PLC0415

    x, _ = arrays(task.validation, _CHECKED)
    return to_tflite(network, torch.from_numpy(x), f"{task.name} {name}")


def to_tflite(network: "torch.nn.Module", x: "torch.Tensor", name: str) -> bytes:
    """Return a network as a float32 `.tflite` file for one sample.

    Args:
        network: in evaluation mode; it stays as it is.
        x: some samples, [n, ...], on which file and network must agree.
        name: for messages.

    Raises:
        CompressError: the converter refuses it, or the file answers something else.
    """
    import torch  # noqa: PLC0415

    with hushed():
        import litert_torch  # noqa: PLC0415

    # litert-torch 0.10 knows a constant by its address, and the copies that it makes of other
    # layouts share addresses: layers of one shape would silently get each other's weights.
    plain = copy.deepcopy(network).to(memory_format=torch.contiguous_format).eval()
    for tensor in [*plain.parameters(), *plain.buffers()]:
        tensor.data = tensor.data.contiguous()
    with tempfile.TemporaryDirectory(prefix="sluice-export-") as folder:
        path = Path(folder) / "model.tflite"
        try:
            with hushed():
                litert_torch.convert(plain, (x[:1].contiguous(),)).export(str(path))
        except Exception as error:  # the converter fails in its own ways
            words = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise CompressError(f"cannot convert {name}: {words}") from error
        content = path.read_bytes()
    expected, given = logits(network, x), answers(content, x.numpy())
    error_of_logits = float(np.abs(expected - given).max())
    if not error_of_logits <= _TOLERANCE * max(1.0, float(np.abs(expected).max())):
        raise CompressError(
            f"cannot convert {name}: the file's logits differ from the network's by up to "
            f"{error_of_logits:.3g}"
        )
    return content


def to_int8(
    content: bytes,
    x: NDArray[np.float32],
    name: str,
    input_range: tuple[float, float] | None = None,
) -> bytes:
    """Return a float32 file as static int8: weights per channel, activations per tensor.

    The ranges of activations are the true minima and maxima over the samples; the quantizer's own
    moving average clips the largest logits, which are what a gate compares.

    Args:
        content: the float32 file.
        x: samples to calibrate on, [n, ...]; training samples, so that a certificate drawn from
            others stays one.
        name: for messages.
        input_range: smallest and largest real value of the input, where another model gives it and
            its own quantization is to be kept; None: those of x.

    Raises:
        CompressError: the quantizer refuses it.
    """
    with hushed():
        from ai_edge_quantizer import quantizer, recipe  # noqa: PLC0415
        from ai_edge_quantizer.calibrator import Calibrator  # noqa: PLC0415
        from ai_edge_quantizer.recipe_manager import RecipeManager  # noqa: PLC0415
        from ai_edge_quantizer.utils.qsv_utils import min_max_update  # noqa: PLC0415

    form = recipe.static_wi8_ai8()
    with tempfile.TemporaryDirectory(prefix="sluice-int8-") as folder:
        source, target = Path(folder) / "float.tflite", Path(folder) / "int8.tflite"
        source.write_bytes(content)
        manager = RecipeManager()
        manager.load_quantization_recipe(form)
        try:
            signature, (taken, *_) = _signature(content)
            rows = [{taken: row[np.newaxis]} for row in x]
            with hushed():
                calibrator = Calibrator(str(source), qsv_update_func=min_max_update)
                calibrator.calibrate({signature: rows}, manager)
                ranges = calibrator.get_model_qsvs()
                if input_range is not None:
                    ranges[_input_name(content)] = _range(*input_range)
                tool = quantizer.Quantizer(str(source), form)
                made = tool.quantize(ranges)
                made.export_model(str(target), overwrite=True)
        except Exception as error:  # the quantizer fails in its own ways
            words = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise CompressError(f"cannot quantize {name}: {words}") from error
        return target.read_bytes()


def answers(content: bytes, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the real-valued logits of a file that we made, [n, classes]."""
    from protocols.inference.runtime import open_model  # noqa: PLC0415
    from protocols.inference.tensors import conform, real  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="sluice-answers-") as folder:
        path = Path(folder) / "model.tflite"
        path.write_bytes(content)
        with hushed():
            model = open_model(path)
        takes, gives = model.inputs[0], model.outputs[0]
        rows = [real(model.run([conform(row, takes)])[0], gives).ravel() for row in x]
        model.close()
    return np.stack(rows)


def _signature(content: bytes) -> tuple[str, list[str]]:
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415

    signatures: dict[str, dict[str, Any]] = Interpreter(model_content=content).get_signature_list()
    name = next(iter(signatures))
    return name, list(signatures[name]["inputs"])


def _input_name(content: bytes) -> str:
    graph = Graph.read(content, "the model")
    return graph.tensor_name(graph.inputs[0])


def _range(low: float, high: float) -> dict[str, NDArray[np.float64]]:
    """Return a range as the quantizer keeps it; float64, so that the scale comes out as it was."""
    return {"min": np.array([[low]]), "max": np.array([[high]])}
