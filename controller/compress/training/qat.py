"""Quantization-aware fine-tuning: a network taught on the grid that its file will have.

Where rounding after training loses too much, the network can learn to live with it. Batch norms are
folded as in the file (`fold`), weights and activations are rounded as in the file while gradients
pass through (`fake`), and the original teaches (`teach`). The file is then made by the same
quantizer as without training, measured beside the post-training ones, and compared with the network
that was taught: training on another grid than the file's would be in vain.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from controller.compress.errors import CompressError
from controller.compress.quantize import STATIC, Form, quantize
from controller.compress.sensitivity import Shift, shift_of
from controller.compress.training.export import RANGE_SAMPLES, answers, converted
from controller.compress.training.network import arrays, layers_run, logits
from controller.compress.training.teach import Lesson, teach
from controller.compress.weights import wire_bytes
from controller.compress.widths import Width, clipped
from controller.samples import Samples

if TYPE_CHECKING:
    import torch

    from controller.compress.training.fake import FakeQuantized
    from controller.compress.training.fold import Folded
    from controller.compress.training.protocol import Task

FORMS = (Form.INT8, Form.DYNAMIC_INT8, Form.INT4)
"""What a network can be taught for."""
LESSON = Lesson(epochs=20, rate=2e-3)
ORIGINAL, MIN_MAX, SEARCHED, TAUGHT = "original", "min/max", "scale search", "fine-tuned"
FAITHFUL = 0.05
"""How far the file's logits may be from the taught network's, of their root mean square, before
they are not those of one grid. A last bit here and there costs 0.01 to 0.02."""

_CHECKED = 32
_CHANCE, _ERRORS = 0.05, 2.0

Say = Callable[[str, int, int], None]
Evidence = Literal["accuracy", "divergence", "nothing"]


@dataclass(frozen=True, slots=True)
class Answers:
    """What a form answers to each sample of the validation data.

    Attributes:
        right: whether the class is right, [n].
        divergence: Kullback-Leibler divergence of the probabilities from the original's, nats, [n].
    """

    right: NDArray[np.bool_]
    divergence: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Measured:
    """One form of the network, as a file.

    Attributes:
        form: `original` (float32), `min/max` and `scale search` (after training), `fine-tuned`.
        file_bytes: of the file.
        wire_bytes: of it over the air.
        validation: its answers against labels and the original's, on validation data.
        test: likewise on test data; of the original, of the better post-training form and of what
            was taught alone, so that nothing is chosen by them.
    """

    form: str
    file_bytes: int
    wire_bytes: int
    validation: Shift
    test: Shift | None = None


@dataclass(frozen=True, slots=True)
class Qat:
    """What fine-tuning was worth.

    Attributes:
        rows: original, post-training forms, and the fine-tuned one where it was made.
        post_training: which of the two post-training forms is better on validation data.
        kept: the form that is written: the fine-tuned one where it is `better` than that.
        told_by: what tells fine-tuned and post-training form apart; None: nothing was taught.
        unfaithful: root mean square of what the file's logits differ from the taught network's,
            over that of the logits; None: nothing was taught.
        content: the file of `kept`.
    """

    rows: tuple[Measured, ...]
    post_training: str
    kept: str
    told_by: Evidence | None
    unfaithful: float | None
    content: bytes

    def row(self, form: str) -> Measured:
        """Return the row of a form that is there."""
        return next(row for row in self.rows if row.form == form)


def finetune_quantized(
    task: "Task",
    form: Form,
    lesson: Lesson = LESSON,
    good_enough: float | None = None,
    say: Say = lambda _title, _done, _total: None,
) -> Qat:
    """Quantize a task's network after training, and by training, and keep the better file.

    Args:
        task: network, data and loss.
        form: one of `FORMS`.
        lesson: how to fine-tune; 0 epochs are refused.
        good_enough: loss of accuracy, as a share of the validation data, at which the post-training
            form is kept without training; None: always train.
        say: told what is done, and how far it is.

    Raises:
        CompressError: the form is none of these, the network cannot be converted or quantized, or
            training diverges.
    """
    if form not in FORMS:
        raise CompressError(
            f"cannot fine-tune {task.name} for {form}: want one of {', '.join(FORMS)}; "
            "`ctl model quantize` has the others"
        )
    if lesson.epochs < 1:
        raise CompressError(f"cannot fine-tune {task.name}: want at least one epoch")
    bench = _Bench(task, form)
    say("Quantizing after training", 0, lesson.epochs)
    files = {
        MIN_MAX: bench.quantized(bench.original),
        SEARCHED: bench.quantized(bench.original, search=True),
    }
    rows = [bench.measured(ORIGINAL, bench.original)]
    rows += [bench.measured(name, content) for name, content in files.items()]
    post = _post_training(bench, rows[1], rows[2])
    kept, told_by, unfaithful = post.form, None, None
    lost = post.validation.lost or 0.0
    if good_enough is None or lost > good_enough:
        taught = _taught(bench, post.form, lesson, say)
        files[TAUGHT], unfaithful = bench.made(taught)
        rows.append(bench.measured(TAUGHT, files[TAUGHT]))
        is_better, told_by = better(bench.answers[post.form], bench.answers[TAUGHT])
        kept = TAUGHT if is_better else post.form
    files[ORIGINAL] = bench.original
    told = {ORIGINAL, post.form, TAUGHT}
    return Qat(
        rows=tuple(bench.tested(row, files[row.form]) if row.form in told else row for row in rows),
        post_training=post.form,
        kept=kept,
        told_by=told_by,
        unfaithful=unfaithful,
        content=files[kept],
    )


def better(one: Answers, other: Answers) -> tuple[bool, Evidence]:
    """Return whether the other is better than the one, and what tells. Pure.

    The more accurate one, where chance would hardly make such a difference: a sign test on the
    samples that one alone answers rightly (McNemar, 1947; exact, at 5%). Else the one whose answers
    are nearer the original's, which a few hundred samples tell far better: a difference of two
    standard errors. Else nothing tells, and the one stays.
    """
    gained = int((other.right & ~one.right).sum())
    spoiled = int((one.right & ~other.right).sum())
    apart = gained + spoiled
    tail = sum(math.comb(apart, k) for k in range(max(gained, spoiled), apart + 1))
    if 2 * tail <= _CHANCE * (1 << apart):
        return gained > spoiled, "accuracy"
    nearer = one.divergence - other.divergence
    mean = float(nearer.mean())
    if abs(mean) > _ERRORS * float(nearer.std()) / math.sqrt(len(nearer)):
        return mean > 0, "divergence"
    return False, "nothing"


def verdict(made: Qat) -> str:
    """Say whether fine-tuning was worth it. Pure."""
    post = made.row(made.post_training)
    after = f"{_points(post)} after training ({post.form})"
    if made.unfaithful is None:
        return f"Nothing was taught: the loss is {after}, which is good enough."
    taught = made.row(TAUGHT)
    losses = f"loss {_points(taught)} against {after}"
    far = f"{taught.validation.divergence:.5f} against {post.validation.divergence:.5f}"
    is_kept = made.kept == TAUGHT
    match made.told_by:
        case "accuracy":
            worth = "was worth it" if is_kept else "made it worse, its file is not kept"
            return f"Fine-tuning {worth}: {losses}."
        case "divergence":
            way = "nearer" if is_kept else "further from"
            kept = "" if is_kept else "; its file is not kept"
            return (
                f"Fine-tuning brought the answers {way} the original's, divergence {far}{kept}. Of "
                f"accuracy the validation data cannot tell: {losses}."
            )
        case _:
            return (
                "Fine-tuning was not worth it, its file is not kept: what it changed may be "
                f"chance ({losses}; divergence {far})."
            )


def _points(row: Measured) -> str:
    return f"{100 * (row.validation.lost or 0.0):+.2f}pp"


def _post_training(bench: "_Bench", min_max: Measured, searched: Measured) -> Measured:
    """Return the better form; where nothing tells, still the one that is nearer the original."""
    is_better, told_by = better(bench.answers[min_max.form], bench.answers[searched.form])
    if told_by == "nothing":
        is_better = searched.validation.divergence < min_max.validation.divergence
    return searched if is_better else min_max


def _taught(bench: "_Bench", start: str, lesson: Lesson, say: Say) -> "FakeQuantized":
    """Return the network taught on the grid, from the weights of the better post-training form."""
    from controller.compress.training.fake import FakeQuantized  # noqa: PLC0415

    network = bench.folded()
    if start == SEARCHED:
        _clip(network, bench)
    student = FakeQuantized(network, bench.form)
    student.observe(bench.ranges)

    def after(epoch: int, epochs: int) -> None:
        student.observe(bench.ranges)
        student.train()
        say("Fine-tuning", epoch, epochs)

    teach(student, bench.task, lesson, after)
    student.settle(bench.ranges[:1])
    student.observe(bench.ranges)
    return student


def _clip(network: "Folded", bench: "_Bench") -> None:
    """Clip the weights of a network in place, as the quantizer's scale search does."""
    import torch  # noqa: PLC0415

    for layer, _ in layers_run(network, bench.ranges[:1]):
        width, axis = bench.width(layer), 1 if getattr(layer, "transposed", False) else 0
        if width is Width.FLOAT16:
            continue
        values, _ = clipped(layer.weight.detach().numpy(), axis, width)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(values))


class _Bench:
    """Makes files of a task's network, and measures them."""

    def __init__(self, task: "Task", form: Form) -> None:
        import torch  # noqa: PLC0415

        self.task = task
        self.form = form
        self.original = converted(task, task.network, "fp32")
        # The same samples for the network and for its file: both then have the same ranges.
        self.ranges = torch.from_numpy(arrays(task.train, RANGE_SAMPLES)[0])
        self.answers: dict[str, Answers] = {}
        self._validation = arrays(task.validation)
        self._expected = answers(self.original, self._validation[0])

    def folded(self) -> "Folded":
        """Return a copy of the network as its file holds it."""
        from controller.compress.training.fold import folded  # noqa: PLC0415

        return folded(self.task.network, self.ranges[:_CHECKED])

    def width(self, layer: "torch.nn.Module") -> Width:
        """Return what a layer's weights become."""
        from controller.compress.training.fake import layer_width  # noqa: PLC0415

        return layer_width(layer, self.form)

    def quantized(self, content: bytes, *, search: bool = False) -> bytes:
        """Return a float32 file in the form."""
        samples = Samples(self.ranges.numpy(), None, "", "training data")
        calibration = samples if self.form in STATIC else None
        return quantize(content, self.form, self.task.name, calibration, search=search)[0]

    def made(self, taught: "FakeQuantized") -> tuple[bytes, float]:
        """Return the file of a taught network, and how far its logits are from the network's."""
        import torch  # noqa: PLC0415

        content = self.quantized(converted(self.task, taught.network, TAUGHT))
        x = self._validation[0]
        expected = logits(taught, torch.from_numpy(x))
        return content, relative(answers(content, x), expected)

    def measured(self, form: str, content: bytes) -> Measured:
        """Return a row, without test data."""
        x, y = self._validation
        scores = answers(content, x)
        alone = [
            shift_of(before[None], after[None], "logits", None).divergence
            for before, after in zip(self._expected, scores, strict=True)
        ]
        self.answers[form] = Answers(scores.argmax(axis=1) == y, np.array(alone))
        shift = shift_of(self._expected, scores, "logits", y)
        return Measured(form, len(content), wire_bytes(content), shift)

    def tested(self, row: Measured, content: bytes) -> Measured:
        """Return a row with what its file does on test data."""
        x, y = arrays(self.task.test)
        expected = answers(self.original, x)
        return replace(row, test=shift_of(expected, answers(content, x), "logits", y))


def relative(given: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Return the root mean square of a difference over that of what was expected."""
    apart = np.square(given.astype(np.float64) - expected).mean()
    return float(np.sqrt(apart / max(np.square(expected.astype(np.float64)).mean(), 1e-30)))
