"""What the toolkit makes of models that it has never seen, and which interpreter runs it.

    python -m tests.bench third_party FOLDER --other-python PATH

Every `.tflite` of the folder is inspected, given each form of `ctl model quantize` where it is
float, each palette of 4 and 5 bits, and split at every legal cut, which compares the parts with the
whole bit for bit. Every file that came out is then run by two interpreters, each time in a process
of its own, since a file that one of them does not know may kill it: `ai-edge-litert` here, and
`tflite-runtime` in the other Python, which is made by

    python3.11 -m venv other && other/bin/pip install tflite-runtime 'numpy<2' pydantic

The inputs are random, so the answers say how near a form is to the original, not how right it is:
the largest difference of an output over the root mean square of the original's outputs, and how
often the largest output is the same. The original is the float file as `ai-edge-litert` runs it.
"""

import argparse
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from controller.compress.anatomy import dissect
from controller.compress.cuts import legal_cuts
from controller.compress.errors import CompressError
from controller.compress.quantize import Form, check_float, quantize
from controller.compress.share import share
from controller.compress.split import make_parts, read_flow, split
from controller.inspect import inspect_model
from controller.samples import Samples, random_inputs

ROWS, CALIBRATION_ROWS = 16, 100
PALETTE_BITS = (4, 5)
LIMIT_S = 120
REPOSITORY = Path(__file__).parents[2]

Answers = NDArray[np.float32]


@dataclass(frozen=True)
class Made:
    """One form of a model: a file, or the parts that run one after the other."""

    name: str
    files: tuple[bytes, ...]


def main(options: Sequence[str] = ()) -> int:
    """Print what becomes of every model of a folder; return 1 where it is not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench third_party")
    parser.add_argument("folder", type=Path, nargs="?", help="with .tflite files")
    parser.add_argument("--other-python", metavar="PATH", help="a Python that has tflite-runtime")
    given = parser.parse_args(options)
    if given.folder is None:
        print("it needs a folder of models: python -m tests.bench third_party FOLDER")
        return 0
    models = sorted(given.folder.glob("*.tflite"))
    if not models:
        parser.error(f"cannot find a .tflite file in {given.folder}")
    pythons = [sys.executable, *([given.other_python] if given.other_python else [])]
    runtimes = [_runtime(python) for python in pythons]
    print("| model | form | bytes | " + " | ".join(runtimes) + " |")
    print("|---" * (3 + len(runtimes)) + "|")
    return max([_third_party(model, pythons) for model in models])


def _third_party(path: Path, pythons: Sequence[str]) -> int:
    content = path.read_bytes()
    inputs = _rows(path, range(ROWS))
    with tempfile.TemporaryDirectory(prefix="sluice-third-party-") as folder:
        original = _answers(pythons[0], inputs, [content], Path(folder))
        if isinstance(original, str):
            print(f"| {path.stem} | original | {len(content):,} | {original} |", flush=True)
            return 1
        for made in _forms(path, content):
            if isinstance(made, str):
                print(f"| {path.stem} | {made} |" + " |" * len(pythons), flush=True)
                continue
            found = [_answers(python, inputs, made.files, Path(folder)) for python in pythons]
            told = " | ".join(_verdict(answers, original) for answers in found)
            size = sum(map(len, made.files))
            print(f"| {path.stem} | {made.name} | {size:,} | {told} |", flush=True)
        return _cuts(path, content, inputs, pythons, Path(folder))


def _forms(path: Path, content: bytes) -> Iterator[Made | str]:
    """Yield every form of a model that is one file; why there is none as a cell of the table."""
    found = dissect(content, path.name)
    facts = f"{len(found.operators)} operators, {found.parameters:,} parameters"
    yield Made(f"as it is ({facts}, {found.macs:,} MACs)", (content,))
    try:
        check_float(content, path.name, "quantize")
    except CompressError as error:
        yield f"quantized | {error}"
    else:
        yield from _quantized(path, content)
    for bits in PALETTE_BITS:
        try:
            yield Made(f"palettes of {bits} bits", (share(content, path.name, bits)[0],))
        except CompressError as error:
            yield f"palettes of {bits} bits | {error}"


def _quantized(path: Path, content: bytes) -> Iterator[Made | str]:
    seeds = range(ROWS, ROWS + CALIBRATION_ROWS)
    samples = Samples(_rows(path, seeds), None, "0" * 64, "random")
    for form in Form:
        try:
            yield Made(str(form), (quantize(content, form, path.name, samples)[0],))
        except CompressError as error:
            yield f"{form} | {error}"


def _cuts(path: Path, content: bytes, inputs: Answers, pythons: Sequence[str], folder: Path) -> int:
    """Split at every legal cut, and run the two parts one after the other in both interpreters."""
    flow = read_flow(content, path.name)
    cuts = legal_cuts(flow)
    whole = [_answers(python, inputs, [content], folder) for python in pythons]
    equal, faults = [0] * len(pythons), []
    for cut in cuts:
        try:
            split(content, flow, [cut])
        except CompressError as error:
            faults.append(str(error))
            continue
        parts = [part.content for part in make_parts(flow, [cut])]
        for number, python in enumerate(pythons):
            found = _answers(python, inputs, parts, folder)
            equal[number] += _is_same(found, whole[number])
    told = " | ".join(f"{count} of {len(cuts)} bit-identical" for count in equal)
    print(f"| {path.stem} | in two, at each of {len(cuts)} legal cuts | | {told} |", flush=True)
    for fault in faults:
        print(fault, file=sys.stderr)
    return int(any(count < len(cuts) for count in equal))


def _is_same(one: Answers | str, other: Answers | str) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return False
    return one.tobytes() == other.tobytes()


def _rows(path: Path, seeds: range) -> Answers:
    """Return random samples for a model's one input, [n, *shape]: in its dtype, as it is."""
    specs = inspect_model(path).inputs
    return np.stack([random_inputs(specs, seed)[0] for seed in seeds])


def _answers(python: str, inputs: Answers, files: Sequence[bytes], folder: Path) -> Answers | str:
    """Return what a chain of models answers in one of the Pythons, or what went wrong."""
    rows, out = folder / "rows.npy", folder / "out.npy"
    np.save(rows, inputs)
    models = [folder / f"{number}.tflite" for number in range(len(files))]
    for model, content in zip(models, files, strict=True):
        model.write_bytes(content)
    words = [python, "-m", "tests.bench._answers", str(rows), str(out), *map(str, models)]
    try:
        done = subprocess.run(
            words, cwd=REPOSITORY, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"**no answer in {LIMIT_S} s**"
    if done.returncode < 0:
        return f"**crashes** ({signal.Signals(-done.returncode).name})"
    if done.returncode:
        return f"**refused**: {(done.stderr.splitlines() or ['?'])[-1]}"
    answers: Answers = np.load(out)
    return answers


def _verdict(answers: Answers | str, original: Answers) -> str:
    """Say how near answers are to the original's, [n, elements] both."""
    if isinstance(answers, str):
        return answers
    if not np.isfinite(answers).all():
        return "**NaN**"
    if len(answers) > 1 and not np.ptp(answers, axis=0).any() and np.ptp(original, axis=0).any():
        return "**the same answer to every input**"
    rms = float(np.sqrt(np.mean(original.astype(np.float64) ** 2)))
    largest = float(np.abs(answers - original).max()) / rms
    same = float(np.mean(answers.argmax(axis=1) == original.argmax(axis=1)))
    return f"{same:.0%} alike, {largest:.2g}"


def _runtime(python: str) -> str:
    code = "from protocols.inference.runtime import runtime_name; print(runtime_name())"
    done = subprocess.run(
        [python, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
