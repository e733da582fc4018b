"""Train, convert, quantize and measure the three digit models of the demo.

A cascade asks a small model first and a large one only when the small one is unsure. The demo
needs such a pair: a small one that errs now and then, and a large one that is far dearer and
right where the small one errs. Both learn scikit-learn's handwritten digits.

Requirements (Python 3.11; install torch first, so that no CUDA build is chosen for you):

    pip install torch==2.13.0
    pip install litert-torch==0.10.0 ai-edge-quantizer==0.10.0 ai-edge-litert==2.3.0 \
        scikit-learn==1.9.1 numpy==2.4.6

Usage, from the top of the repository:

    python deploy/demo/train_models.py

It writes `small-int8.tflite`, `large-fp32.tflite`, `large-int8.tflite`, `digits.npz` and
`MODELS.md` into `controller/demo/assets/`. Every model maps one image, [1, 8, 8, 1], 0..1, to
[1, 10] logits; the int8 files take and give int8 tensors, whose scale and zero point the file
holds. Seeds are fixed and training runs on one thread.
"""

# ruff: noqa: INP001 (a script, not a package)

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import litert_torch
import numpy as np
import torch
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import quantizer, recipe
from ai_edge_quantizer.calibrator import Calibrator
from ai_edge_quantizer.recipe_manager import RecipeManager
from ai_edge_quantizer.utils.qsv_utils import min_max_update
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ai_edge_litert.interpreter import SignatureRunner
    from numpy.typing import NDArray

    Images = NDArray[np.float32]
    Labels = NDArray[np.int64]

log = logging.getLogger("train_models")

ASSETS = Path(__file__).resolve().parents[2] / "controller" / "demo" / "assets"
SMALL_INT8 = "small-int8.tflite"
LARGE_FP32 = "large-fp32.tflite"
LARGE_INT8 = "large-int8.tflite"
SIGNATURE = "serving_default"

SEED = 20
BATCH = 32
PIXEL_MAX = 16.0
CLASSES = 10
# Logits are of the order of 10; float32 sums taken in another order differ by some 1e-5.
CONVERSION_TOLERANCE = 1e-3
# 437 calibration samples without a harm certify eps = 1% at delta = 5%/4 (ln(delta)/ln(1-eps));
# 600 leave a margin.
CALIBRATION_SAMPLES = 600
TEST_SAMPLES = 400

TOOLS = ("torch", "litert-torch", "ai-edge-quantizer", "ai-edge-litert", "scikit-learn", "numpy")
COLUMNS = (
    "file",
    "parameters",
    "MACs",
    "bytes",
    "test accuracy",
    "p50 ms, 1 thread",
    "p50 ms, 2 threads",
    "RSS added, first model",
    "RSS added, beside the small",
    "sha256",
)

# Runs alone in a new process: torch's heap would hide what the interpreter allocates. It loads
# the given models one after another and reports on the last.
PROBE = """
import json, resource, sys, time
import numpy as np
from ai_edge_litert.interpreter import Interpreter

def rss_bytes():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()

def load(path, threads):
    interpreter = Interpreter(model_path=path, num_threads=threads)
    interpreter.allocate_tensors()
    entry = interpreter.get_input_details()[0]
    interpreter.set_tensor(entry["index"], np.zeros(entry["shape"], entry["dtype"]))
    interpreter.invoke()
    return interpreter

threads, *paths = sys.argv[1:]
held = [load(path, int(threads)) for path in paths[:-1]]
before = rss_bytes()
last = load(paths[-1], int(threads))
added = rss_bytes() - before
times = []
for _ in range(1100):
    start = time.perf_counter()
    last.invoke()
    times.append(time.perf_counter() - start)
print(json.dumps({"p50_ms": float(np.median(times[100:])) * 1e3, "rss_mib": added / 2**20}))
"""


@dataclass(frozen=True, slots=True)
class Digits:
    """The data set, split three ways; images are float32 [n, 8, 8, 1] in 0..1."""

    x_train: Images
    y_train: Labels
    x_calibration: Images
    y_calibration: Labels
    x_test: Images
    y_test: Labels


@dataclass(frozen=True, slots=True)
class Tensor:
    """A model's input or output; a float one has scale 0."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    scale: float
    zero_point: int

    @classmethod
    def parse(cls, name: str, details: Mapping[str, Any]) -> Tensor:
        """Read the interpreter's description of a tensor."""
        shape = tuple(int(size) for size in details["shape"])
        return cls(name, shape, np.dtype(details["dtype"]), *details["quantization"])

    def encode(self, values: Images) -> NDArray[np.generic]:
        """Turn float values into what the tensor holds."""
        if not self.scale:
            return values
        return np.clip(np.round(values / self.scale) + self.zero_point, -128, 127).astype(np.int8)

    def decode(self, values: NDArray[Any]) -> Images:
        """Turn what the tensor holds into float values."""
        if not self.scale:
            return values
        return ((values.astype(np.float32) - self.zero_point) * self.scale).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Probe:
    """What a fresh process measured: the median of 1,000 runs, and the growth of its memory."""

    p50_ms: float
    rss_mib: float


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table in MODELS.md."""

    path: Path
    parameters: int
    macs: int
    accuracy: float
    one_thread: Probe
    two_threads: Probe
    beside_small: Probe


def split_digits() -> Digits:
    """Return the digits in a stratified split that depends on the seed alone."""
    images, labels = load_digits(return_X_y=True)
    x = (images / PIXEL_MAX).astype(np.float32).reshape(-1, 8, 8, 1)
    y = labels.astype(np.int64)
    x_rest, x_test, y_rest, y_test = train_test_split(
        x, y, test_size=TEST_SAMPLES, stratify=y, random_state=SEED
    )
    x_train, x_calibration, y_train, y_calibration = train_test_split(
        x_rest, y_rest, test_size=CALIBRATION_SAMPLES, stratify=y_rest, random_state=SEED
    )
    return Digits(x_train, y_train, x_calibration, y_calibration, x_test, y_test)


def save_held_out(digits: Digits, path: Path) -> None:
    """Write the samples that training never saw."""
    np.savez_compressed(
        path,
        x_calibration=digits.x_calibration,
        y_calibration=digits.y_calibration,
        x_test=digits.x_test,
        y_test=digits.y_test,
    )


def conv(
    inputs: int, outputs: int, *, size: int = 3, stride: int = 1, groups: int = 1
) -> nn.Module:
    """Return convolution, batch norm (folded away by the converter) and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class Residual(nn.Module):
    """Add a block's output to its input."""

    def __init__(self, block: nn.Module) -> None:
        """Wrap a block that keeps the shape."""
        super().__init__()
        self.block = block

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [n, c, h, w] to the same shape."""
        return x + self.block(x)


class ChannelLast(nn.Module):
    """Give a network the [n, 8, 8, 1] input that TFLite prefers, and names to its tensors."""

    def __init__(self, network: nn.Module) -> None:
        """Wrap a network that takes [n, 1, 8, 8]."""
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Map [n, 8, 8, 1] to [n, 10] logits."""
        return {"logits": self.network(image.permute(0, 3, 1, 2))}


def small_network(first: int = 4, second: int = 8) -> nn.Module:
    """Return two strided convolutions and a linear layer: cheap, and now and then wrong."""
    return nn.Sequential(
        conv(1, first, stride=2),
        conv(first, second, stride=2),
        nn.Flatten(),
        nn.Linear(second * 2 * 2, CLASSES),
    )


def large_network(wide: int = 192, deep: int = 128, blocks: int = 3) -> nn.Module:
    """Return a network that works on the image enlarged to 64x64.

    Enlarging buys compute and working memory without file size: the demo wants a stage whose
    cost in time and memory shows, in a repository that stays small. The 4x4 map at the end keeps
    where a stroke is, which a global mean would lose; strides and not pooling lead to it, because
    XNNPACK has no int8 average pooling, and the graph would break in two.
    """
    return nn.Sequential(
        nn.Upsample(scale_factor=8, mode="bilinear"),
        conv(1, wide),
        Residual(conv(wide, wide, groups=wide)),
        conv(wide, wide, stride=2, groups=wide),
        conv(wide, deep, size=1),
        conv(deep, deep, stride=2),
        *(Residual(conv(deep, deep)) for _ in range(blocks)),
        conv(deep, deep, stride=2, groups=deep),
        conv(deep, deep, stride=2, groups=deep),
        nn.Flatten(),
        nn.Linear(deep * 4 * 4, CLASSES),
    )


def distort(images: torch.Tensor) -> torch.Tensor:
    """Turn (10 degrees), scale (10%), shift (one pixel) and blur with noise, all at random."""
    count = len(images)
    angle = (torch.rand(count) * 2 - 1) * torch.pi / 18
    scale = 1 + (torch.rand(count) * 2 - 1) * 0.1
    # The grid spans -1..1 over eight pixels: one pixel is 0.25.
    shift = (torch.rand(count, 2, 1) * 2 - 1) * 0.25
    cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
    turn = torch.stack([cosine, -sine, sine, cosine], dim=1).reshape(count, 2, 2)
    grid = nn.functional.affine_grid(
        torch.cat([turn, shift], dim=2), list(images.shape), align_corners=False
    )
    moved = nn.functional.grid_sample(images, grid, align_corners=False)
    return (moved + 0.03 * torch.randn_like(moved)).clamp(0, 1)


def train(network: nn.Module, digits: Digits, epochs: int, peak: float) -> nn.Module:
    """Fit a network to the distorted training images and return it ready for inference.

    `peak` is the highest learning rate of the one cycle.
    """
    network = network.to(memory_format=torch.channels_last).train()
    x = torch.from_numpy(digits.x_train).permute(0, 3, 1, 2)
    y = torch.from_numpy(digits.y_train)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=peak, total_steps=epochs * (len(x) // BATCH)
    )
    for epoch in range(epochs):
        # The last few samples of an epoch's order are left out: batch norm dislikes crumbs.
        for chosen in torch.randperm(len(x))[: len(x) // BATCH * BATCH].split(BATCH):
            loss = nn.functional.cross_entropy(network(distort(x[chosen])), y[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        log.info("epoch %d of %d: loss %.4f", epoch + 1, epochs, loss.item())
    # Contiguous again: litert-torch 0.10 knows a constant by its address, and the copies it makes
    # of other layouts share addresses, so layers of one shape would get each other's weights.
    return network.to(memory_format=torch.contiguous_format).eval()


def convert(network: nn.Module, path: Path, images: Images) -> None:
    """Write a trained network as a float32 model and check it against the network on images.

    Raises:
        RuntimeError: The two differ by more than rounding.
    """
    model = litert_torch.convert(
        ChannelLast(network).eval(), sample_kwargs={"image": torch.zeros(1, 8, 8, 1)}
    )
    model.export(str(path))
    with torch.no_grad():
        expected = network(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    error = float(np.abs(predict(path, images) - expected).max())
    if error > CONVERSION_TOLERANCE:
        raise RuntimeError(f"cannot convert {path.name}: logits differ by up to {error:.3g}")


def quantize(source: Path, target: Path, images: Images) -> None:
    """Write the static int8 form of a float32 model.

    `images` set the ranges of the activations. They must be training images: the calibration
    set has to stay unseen, or a certificate drawn from it would prove nothing.
    """
    static_int8 = recipe.static_wi8_ai8()
    manager = RecipeManager()
    manager.load_quantization_recipe(static_int8)
    # The whole range, not the tool's moving average of it: that clips the largest logits, which
    # are what a gate compares.
    calibrator = Calibrator(str(source), qsv_update_func=min_max_update)
    calibrator.calibrate({SIGNATURE: [{"image": image[np.newaxis]} for image in images]}, manager)
    tool = quantizer.Quantizer(str(source), static_int8)
    tool.quantize(calibrator.get_model_qsvs()).export_model(str(target), overwrite=True)


def predict(path: Path, images: Images) -> Images:
    """Return the [n, 10] logits of a model file, in float whatever its tensors are."""
    runner, image, logits = open_model(path)
    rows = (runner(image=image.encode(x[np.newaxis]))["logits"] for x in images)
    return np.concatenate([logits.decode(row) for row in rows])


def open_model(path: Path) -> tuple[SignatureRunner, Tensor, Tensor]:
    """Load a model; return what runs it, its input and its output."""
    runner = Interpreter(model_path=str(path), num_threads=1).get_signature_runner(SIGNATURE)
    image, logits = runner.get_input_details()["image"], runner.get_output_details()["logits"]
    return runner, Tensor.parse("image", image), Tensor.parse("logits", logits)


def probe(*paths: Path, threads: int) -> Probe:
    """Measure the last of the models in a new process that already holds the others."""
    command = [sys.executable, "-c", PROBE, str(threads), *map(str, paths)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    return Probe(**json.loads(done.stdout))


def count_macs(network: nn.Module) -> int:
    """Count the multiply-accumulates of convolutions and linear layers for one image."""
    counts: list[int] = []

    def add(layer: nn.Module, _: object, output: torch.Tensor) -> None:
        # Each output value is a dot product with one filter.
        counts.append(output.numel() * layer.weight[0].numel())

    hooks = [
        layer.register_forward_hook(add)
        for layer in network.modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    with torch.no_grad():
        network(torch.zeros(1, 1, 8, 8))
    for hook in hooks:
        hook.remove()
    return sum(counts)


def measure(path: Path, network: nn.Module, digits: Digits, small: Path) -> Row:
    """Gather one line of the table; parameters are those of the network as trained."""
    right = predict(path, digits.x_test).argmax(1) == digits.y_test
    return Row(
        path=path,
        parameters=sum(p.numel() for p in network.parameters()),
        macs=count_macs(network),
        accuracy=float(right.mean()),
        one_thread=probe(path, threads=1),
        two_threads=probe(path, threads=2),
        beside_small=probe(small, path, threads=1),
    )


def table(rows: list[Row]) -> str:
    """Return the table of the models."""
    lines = [f"| {' | '.join(COLUMNS)} |", f"|---{'|--:' * (len(COLUMNS) - 2)}|---|"]
    lines += [
        f"| `{row.path.name}` | {row.parameters:,} | {row.macs:,} | {row.path.stat().st_size:,}"
        f" | {row.accuracy:.2%} | {row.one_thread.p50_ms:.4f} | {row.two_threads.p50_ms:.4f}"
        f" | {row.one_thread.rss_mib:.1f} MiB | {row.beside_small.rss_mib:.1f} MiB"
        f" | `{sha256(row.path)}` |"
        for row in rows
    ]
    return "\n".join(lines)


def tensors(rows: list[Row]) -> str:
    """Return the table of the models' inputs and outputs."""
    lines = ["| file | tensor | shape | dtype | scale | zero point |", "|---|---|---|---|--:|--:|"]
    for row in rows:
        _, *both = open_model(row.path)
        lines += [
            f"| `{row.path.name}` | `{tensor.name}` | {list(tensor.shape)} | {tensor.dtype.name}"
            f" | {f'{tensor.scale:.9g} | {tensor.zero_point}' if tensor.scale else '- | -'} |"
            for tensor in both
        ]
    return "\n".join(lines)


def sha256(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def describe(rows: list[Row], digits: Digits, data: Path) -> str:
    """Return the text of MODELS.md; the rows are small int8, large fp32, large int8."""
    small, _, large = (predict(row.path, digits.x_test).argmax(1) == digits.y_test for row in rows)
    missed, mended, spoiled = (~small).sum(), (~small & large).sum(), (small & ~large).sum()
    # Without a local label such as "+cpu", which an index need not offer.
    versions = ", ".join(f"`{tool}=={version(tool).partition('+')[0]}`" for tool in TOOLS)
    return f"""# Models of the demo

Written by `deploy/demo/train_models.py`; edit that, not this.

{table(rows)}

All three give logits, not probabilities. Of the {TEST_SAMPLES} test images the small model gets
{missed} wrong; the large one (int8) is right on {mended} of these, and wrong on {spoiled} that the
small one gets right.

{tensors(rows)}

- MACs: convolutions and linear layers, one image. Parameters: as trained; batch norm is folded
  into the convolutions on conversion.
- p50: median of 1,000 runs after 100, `Interpreter.invoke()` alone, in a new process on
  {platform.machine()}. A small device differs: measure there.
- RSS added: resident memory after load, allocation and a first answer, less that before, in a new
  process with one thread. The first model to be loaded also pays for the interpreter itself.

## Data

`digits.npz` ({data.stat().st_size:,} bytes, sha256
`{sha256(data)}`) holds what training
never saw, images as float32 [n, 8, 8, 1] in 0..1, labels as int64: `x_calibration`,
`y_calibration` ({CALIBRATION_SAMPLES}) and `x_test`, `y_test` ({TEST_SAMPLES}). The other
{len(digits.x_train)} images trained the models and set the ranges of the int8 activations. The
split is stratified, seed {SEED}.

The sizes of the networks and the learning rates were chosen with an eye on the accuracy on this
data: read accuracies and certificates drawn from it as a demonstration, not as a benchmark.

The images are those of scikit-learn's `load_digits`: Alpaydin and Kaynak, "Optical Recognition of
Handwritten Digits", UCI Machine Learning Repository, 1998, doi 10.24432/C50P49, CC BY 4.0; here
scaled to 0..1 and split.

## Made with

Python {platform.python_version()},
{versions}:

    python deploy/demo/train_models.py
"""


def build(folder: Path, small_epochs: int, large_epochs: int) -> None:
    """Make every file of the demo in `folder`."""
    digits = split_digits()
    save_held_out(digits, folder / "digits.npz")

    torch.manual_seed(SEED)
    small = train(small_network(), digits, small_epochs, peak=0.005)
    convert(small, folder / "small-fp32.tflite", digits.x_train[:BATCH])
    quantize(folder / "small-fp32.tflite", folder / SMALL_INT8, digits.x_train)
    # The float form saves nothing that a device would notice: it is not shipped.
    (folder / "small-fp32.tflite").unlink()

    # Seeded anew, so that the large model does not depend on how the small one was trained.
    torch.manual_seed(SEED)
    large = train(large_network(), digits, large_epochs, peak=0.003)
    convert(large, folder / LARGE_FP32, digits.x_train[:BATCH])
    quantize(folder / LARGE_FP32, folder / LARGE_INT8, digits.x_train)

    models = {SMALL_INT8: small, LARGE_FP32: large, LARGE_INT8: large}
    rows = [
        measure(folder / name, network, digits, folder / SMALL_INT8)
        for name, network in models.items()
    ]
    text = describe(rows, digits, folder / "digits.npz")
    (folder / "MODELS.md").write_text(text, encoding="utf-8")


def main() -> None:
    """Build in a temporary folder, then move the files to the assets when all succeeded."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ASSETS)
    parser.add_argument("--small-epochs", type=int, default=60)
    parser.add_argument("--large-epochs", type=int, default=20)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder), options.small_epochs, options.large_epochs)
        for made in sorted(Path(folder).iterdir()):
            made.chmod(0o644)  # the quantizer marks its models executable
            shutil.move(made, options.output / made.name)


if __name__ == "__main__":
    main()
