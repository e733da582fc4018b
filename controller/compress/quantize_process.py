"""The child that quantizes with `ai-edge-quantizer`. See `controller.compress.quantizer`.

The library runs the model to calibrate it, which a wrong file can make end in SIGSEGV; it prints
what it likes; and it brings in scipy. So it is imported here alone.
"""

import os
import re
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, TypeAdapter

from controller.compress.widths import Width
from protocols.message import Part

_REPORT_S = 0.2
_BLOCKWISE = "BLOCKWISE_32"


class Rule(Part):
    """What one layer's weights become."""

    output: str = Field(description="name of the layer's first output tensor")
    operation: str = Field(description="as the schema names it")
    width: Width | None = Field(description="null: it stays as it is")


class Job(Part):
    """Quantize a model, whose tensors have names of their own and which has a signature."""

    model: str
    out: str
    others: Width | None = Field(None, description="of weights that no rule speaks of")
    rules: tuple[Rule, ...] = ()
    activation_bits: Literal[8, 16] | None = Field(
        None, description="integers throughout, weights int8; null: activations stay float32"
    )
    samples: str | None = Field(None, description="`.npy` of input tensors, [n, *shape], float32")


class Calibrated(Part):
    """How many samples are done."""

    say: Literal["calibrated"] = "calibrated"
    done: int


class Done(Part):
    """The file is written."""

    say: Literal["done"] = "done"


class Refused(Part):
    """The library gave up."""

    say: Literal["refused"] = "refused"
    why: str


Said = Calibrated | Done | Refused
SAID: TypeAdapter[Said] = TypeAdapter(Annotated[Said, Field(discriminator="say")])
Say = Callable[[Said], None]


def main() -> None:
    """Do the job on standard input; say how it goes on standard output, a JSON line each."""
    channel = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what the library prints

    def say(said: Said) -> None:
        channel.write(said.model_dump_json().encode() + b"\n")

    job = Job.model_validate_json(sys.stdin.buffer.read())
    warnings.simplefilter("ignore")
    try:
        _quantize(job, say)
    except Exception as error:  # noqa: BLE001 - the library raises whatever it likes
        say(Refused(why=" ".join(str(error).split()) or type(error).__name__))
    else:
        say(Done())


def _quantize(job: Job, say: Say) -> None:
    from ai_edge_quantizer.quantizer import Quantizer  # noqa: PLC0415 - after the output is moved

    content = Path(job.model).read_bytes()
    recipe = _recipe(job)
    ranges = _ranges(content, recipe, job.samples, say) if job.samples else None
    quantizer = Quantizer(content, recipe.get_quantization_recipe())
    made = quantizer.quantize(ranges, enable_progress_report=False).quantized_model
    Path(job.out).write_bytes(made)


def _recipe(job: Job) -> Any:  # noqa: ANN401 - the library has no types
    from ai_edge_quantizer.qtyping import TFLOperationName  # noqa: PLC0415
    from ai_edge_quantizer.recipe_manager import RecipeManager  # noqa: PLC0415

    recipe, everything = RecipeManager(), TFLOperationName.ALL_SUPPORTED
    if job.activation_bits is not None:
        recipe.add_static_config(".*", everything, job.activation_bits, 8)
        return recipe
    if job.others is not None:
        _add(recipe, ".*", everything, job.others)
    for rule in job.rules:
        # The library finds an operator by the names of its outputs, with a semicolon behind each.
        pattern = f"^{re.escape(rule.output)};?$"
        name = {"TRANSPOSE_CONV": "CONV_2D_TRANSPOSE"}.get(rule.operation, rule.operation)
        _add(recipe, pattern, TFLOperationName(name), rule.width)
    return recipe


def _add(recipe: Any, pattern: str, operation: Any, width: Width | None) -> None:  # noqa: ANN401
    from ai_edge_quantizer.algorithm_manager import AlgorithmName  # noqa: PLC0415
    from ai_edge_quantizer.qtyping import QuantGranularity  # noqa: PLC0415

    match width:
        case None:
            recipe.add_quantization_config(
                pattern, operation, algorithm_key=AlgorithmName.NO_QUANTIZE
            )
        case Width.FLOAT16:
            recipe.add_weight_only_config(
                pattern, operation, 16, algorithm_key=AlgorithmName.FLOAT_CASTING
            )
        case Width.INT8:
            recipe.add_dynamic_config(pattern, operation, 8)
        case Width.INT8_TENSOR:
            recipe.add_dynamic_config(pattern, operation, 8, QuantGranularity.TENSORWISE)
        case Width.INT4:
            recipe.add_dynamic_config(pattern, operation, 4)
        case Width.INT4_BLOCKWISE:
            recipe.add_dynamic_config(pattern, operation, 4, QuantGranularity[_BLOCKWISE])


def _ranges(content: bytes, recipe: Any, samples: str, say: Say) -> Any:  # noqa: ANN401
    """Return the smallest and largest value of every tensor over all samples.

    The library's own default, a moving average of them, was measured to clip logits.
    """
    from ai_edge_quantizer.calibrator import Calibrator  # noqa: PLC0415
    from ai_edge_quantizer.utils.qsv_utils import min_max_update  # noqa: PLC0415

    calibrator = Calibrator(content, num_threads=1, qsv_update_func=min_max_update)
    key, ends = next(iter(calibrator.get_signature_list().items()))
    said_s = time.monotonic()
    for number, row in enumerate(np.load(samples, mmap_mode="r")):
        calibrator.calibrate({key: [{ends["inputs"][0]: np.asarray(row)}]}, recipe)
        if time.monotonic() - said_s >= _REPORT_S:
            said_s = time.monotonic()
            say(Calibrated(done=number + 1))
    return calibrator.get_model_qsvs()


if __name__ == "__main__":
    main()
