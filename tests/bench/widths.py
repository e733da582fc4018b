"""Mixed precision against uniform widths, and loss against bytes of palettes and tied layers.

    python -m tests.bench widths --model large.tflite --samples digits.npz

What chooses anything does so on one half of the samples and is judged on the other; then the halves
change places. So every sample judges once, and none judges a model that was chosen on it. A line of
two models says the bytes of the larger one. Without options: the demo's large model.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

import controller.demo
from controller.compress.errors import CompressError
from controller.compress.mixed import Aim, quantize_mixed
from controller.compress.quantize import Form, quantize
from controller.compress.search import Judge
from controller.compress.sensitivity import Shift
from controller.compress.share import share, share_layers, share_within
from controller.compress.tie import tie, tie_within
from controller.compress.weights import wire_bytes
from controller.errors import BuildError
from controller.pool import labels
from controller.samples import Samples, read_samples

MAX_LOSS = 0.005
MOST = 1.15
"""The largest file of a mixed model, of that of uniform int4."""
PALETTE_BITS = (8, 6, 5, 4, 3, 2)

_ASSETS = Path(controller.demo.__file__).parent / "assets"


@dataclass(frozen=True, slots=True)
class Line:
    """A form of the model, judged on all samples.

    Attributes:
        form: its name.
        file_bytes: of the file.
        wire_bytes: of that over the air.
        accuracy: share of right answers.
        lost: the float model's less this one; negative: a gain.
        divergence: of Kullback and Leibler, from the float model's answers, nats.
        agreement: share of samples that the float model answers alike.
    """

    form: str
    file_bytes: int
    wire_bytes: int
    accuracy: float
    lost: float
    divergence: float
    agreement: float


def main(arguments: Sequence[str] = ()) -> None:
    """Print forms, then curves."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench widths")
    parser.add_argument("--model", type=Path, default=_ASSETS / "large-fp32.tflite")
    parser.add_argument("--samples", type=Path, default=_ASSETS / "digits.npz")
    parser.add_argument("--curves", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args(arguments)
    try:
        samples = everything(options.samples)
        content = options.model.read_bytes()
        print(f"{options.model.name}, {len(samples.x)} samples, each judges once")
        with Judge(content, options.model.name, samples) as judge:
            forms(judge)
            if options.curves:
                palettes(judge)
                ties(judge)
    except (CompressError, BuildError, OSError) as error:
        sys.exit(f"  {error}")


def everything(path: Path) -> Samples:
    """Return all labelled samples of a file: `x` with `y`, `x_test` with `y_test`, and so on."""
    try:
        with np.load(path) as file:
            parts = [name[1:] for name in file.files if name.startswith("x")]
    except (OSError, ValueError, BadZipFile) as error:
        raise BuildError(f"cannot read {path}: {error}") from error
    found = [read_samples(path, f"x{part}", f"y{part}") for part in parts]
    if not found:
        raise BuildError(f"cannot read {path}: no array's name begins with x")
    x = np.concatenate([one.x for one in found])
    return Samples(x, np.concatenate([labels(one) for one in found]), found[0].sha256, path.name)


def forms(judge: Judge) -> None:
    """Print the float model, the uniform forms and the mixed ones, and how these compare."""
    int8, int4 = (_uniform(judge, form) for form in (Form.DYNAMIC_INT8, Form.INT4))
    within = _mixed(judge, f"mixed, at most {MAX_LOSS:.1%} lost", Aim(MAX_LOSS))
    sized = _mixed(judge, f"mixed, at most {MOST} of int4", Aim(1.0, int(MOST * int4.file_bytes)))
    _head("form")
    for line in (_judged(judge, "float32", [judge.content]), int8, int4, within, sized):
        _print(line)
    for one, other in ((within, int8), (within, int4), (sized, int4)):
        print(
            f"  {one.form}: {one.file_bytes / other.file_bytes:.2f} of the bytes of {other.form}, "
            f"{one.wire_bytes / other.wire_bytes:.2f} over the air; loses {100 * one.lost:.2f} "
            f"points, {other.form} {100 * other.lost:.2f}"
        )


def palettes(judge: Judge) -> None:
    """Print the curve of palettes: one size for all layers, then a size for each."""
    _head("palette, one for all")
    for bits in PALETTE_BITS:
        _print(_judged(judge, f"{bits} bits", [share(judge.content, judge.name, bits)[0]]))
    _head("palette, by layer")
    found, _ = share_within(judge, MAX_LOSS)
    for point in found.curve:
        content = judge.content
        if point.chosen:
            content = share_layers(content, judge.name, point.chosen)[0]
        _print(_once(judge, " ".join(map(str, sorted(point.chosen.values()))), content))


def ties(judge: Judge) -> None:
    """Print the curve of tying: one pair more in each line."""
    _head("layers tied")
    try:
        _, report = tie_within(judge, max_loss=1.0)
    except CompressError as error:
        print(f"  {error}")
        return
    content = judge.content
    for one in report.tied:
        before, content = content, tie(content, judge.name, one.pair.tensors)
        if content != before:
            _print(_once(judge, "and {} = {}".format(*one.pair.operators), content))


def _uniform(judge: Judge, form: Form) -> Line:
    return _judged(judge, str(form), [quantize(judge.content, form, judge.name)[0]])


def _mixed(judge: Judge, name: str, aim: Aim) -> Line:
    both = (judge, judge.crossed())
    return _judged(judge, name, [quantize_mixed(one, aim)[0].content for one in both])


def _judged(judge: Judge, form: str, contents: Sequence[bytes]) -> Line:
    """Judge one model on all samples, or two on the half that each was not chosen on."""
    first, last = contents[0], contents[-1]
    return _line(form, contents, [judge.crossed().shift(first), judge.shift(last)])


def _once(judge: Judge, form: str, content: bytes) -> Line:
    """Judge a model on the half that it was not chosen on."""
    return _line(form, [content], [judge.crossed().shift(content)])


def _line(form: str, contents: Sequence[bytes], shifts: Sequence[Shift]) -> Line:
    """Sum up; halves differ by one sample at most, so they count alike."""

    def mean(values: Iterable[float | None]) -> float:
        return float(np.mean([value for value in values if value is not None]))

    return Line(
        form,
        max(map(len, contents)),
        max(map(wire_bytes, contents)),
        accuracy=mean(shift.accuracy for shift in shifts),
        lost=mean(shift.lost for shift in shifts),
        divergence=mean(shift.divergence for shift in shifts),
        agreement=mean(shift.agreement for shift in shifts),
    )


def _head(title: str) -> None:
    print(
        f"  {title:28} {'bytes':>10} {'over air':>10} {'right':>7} {'lost, pp':>8} {'KL':>9} alike"
    )


def _print(line: Line) -> None:
    print(
        f"  {line.form:28} {line.file_bytes:>10,} {line.wire_bytes:>10,} {line.accuracy:>7.2%} "
        f"{100 * line.lost:>8.2f} {line.divergence:>9.6f} {line.agreement:>6.1%}",
        flush=True,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
