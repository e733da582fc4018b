"""Models run over the same samples: each file once, in a process that it may kill."""

import hashlib
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from controller.compress.errors import CompressError
from controller.compress.metrics import Quality, quality
from controller.samples import Samples
from controller.trial import Answer, Answered, Source, TrialError, run_trial
from protocols.bundle import ScoreKind, TensorSpec
from protocols.inference.gate import score_kind
from protocols.inference.tensors import real

_BINARY = 2
"""Classes that a single score tells apart."""


class Scorer:
    """Answers how good a model is. Use it as a context manager.

    Args:
        samples: labelled ones; the labels may be missing where only scores are asked for.
        scores: number of the output that holds the class scores.
    """

    def __init__(self, samples: Samples, scores: int = 0) -> None:
        self.samples = samples
        self._scores = scores
        self._known: dict[str, NDArray[np.float32]] = {}

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="sluice-scores-")
        np.save(self._path("x.npy"), self.samples.x)
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._folder.cleanup()

    def rows(self, content: bytes, name: str) -> NDArray[np.float32]:
        """Return the real-valued scores of a model, [n, scores].

        Args:
            content: the model file.
            name: for messages.

        Raises:
            CompressError: it does not run on the samples.
        """
        digest = hashlib.sha256(content).hexdigest()
        if digest not in self._known:
            self._known[digest] = self._run(content, name)
        return self._known[digest]

    def kind(self, content: bytes, name: str) -> ScoreKind:
        """Return what a model's scores are.

        Raises:
            CompressError: it does not run on the samples.
            BuildError: the labels are classes that it does not tell apart.
        """
        rows = self.rows(content, name)
        self.samples.check_classes(max(_BINARY, rows.shape[1]))
        return score_kind(rows)

    def quality(self, content: bytes, name: str, kind: ScoreKind | None = None) -> Quality:
        """Judge a model against the labels; `kind` is that of its scores if it is known.

        Raises:
            CompressError: it does not run on the samples, or these have no labels.
            BuildError: the labels are classes that it does not tell apart.
        """
        rows = self.rows(content, name)
        if self.samples.y is None:
            raise CompressError(f"cannot judge {name}: {self.samples.source} has no labels `y`")
        self.samples.check_classes(max(_BINARY, rows.shape[1]))
        return quality(rows, kind or score_kind(rows), self.samples.y)

    def accuracy(self, content: bytes, name: str) -> float:
        """Return the share of samples that a model answers rightly.

        Raises:
            CompressError: as `quality`.
        """
        return self.quality(content, name).accuracy

    def _run(self, content: bytes, name: str) -> NDArray[np.float32]:
        model = self._path("model.tflite")
        model.write_bytes(content)
        spec = TensorSpec(name="x", shape=(1, *self.samples.x.shape[1:]), dtype=self.samples.dtype)
        source = Source(path=str(self._path("x.npy")), spec=spec, is_request=True)
        job = Answer(path=str(model), sources=(source,), folder=self._folder.name)
        try:
            outputs = run_trial(job, name, Answered).outputs
        except TrialError as error:
            raise CompressError(f"cannot run the samples through {name}: {error.why}") from error
        if self._scores >= len(outputs):
            raise CompressError(f"cannot judge {name}: it has {len(outputs)} outputs")
        values = np.load(self._path(f"{self._scores}.npy"))
        return real(values, outputs[self._scores]).reshape(len(values), -1)

    def _path(self, name: str) -> Path:
        return Path(self._folder.name) / name
