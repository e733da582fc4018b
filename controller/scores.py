"""Running the models of a cascade over samples, each once, and what their scores say."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from controller.calibrate import GateRecord
from controller.errors import BuildError
from controller.golden import classes_of
from controller.resolve import Candidate, Choice, StagePlan, chain, choices
from controller.trial import Answer, Answered, Source, TrialError, run_trial
from protocols.bundle import Metric, ScoreKind, TensorSpec
from protocols.inference.gate import confidence, probabilities
from protocols.inference.tensors import real

OnAnswers = Callable[[str, int, int], None]
"""Takes what is running, how many answers are done, and how many there will be in all."""

_Path = tuple[tuple[str, str], ...]
"""The (stage, variant) pairs that an output comes through."""


class Runs:
    """The outputs of every stage for the same samples, kept on disk. Use it as a context manager.

    Args:
        plans: the stages.
        given: one sample.
        x: [n, *given.shape] in its dtype.
        on_answers: told how far it is.
    """

    def __init__(
        self,
        plans: Sequence[StagePlan],
        given: TensorSpec,
        x: NDArray[Any],
        on_answers: OnAnswers = lambda *_: None,
    ) -> None:
        self._plans = {plan.name: plan for plan in plans}
        self._given, self._x = given, x
        self._on_answers = on_answers
        self._done: dict[_Path, Path] = {}
        self._paths = {self._path(stage, one) for one in choices(plans) for stage in self._plans}

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="sluice-build-")
        np.save(Path(self._folder.name) / "x.npy", self._x)
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._folder.cleanup()

    def scores(self, stage: str, choice: Choice) -> NDArray[np.float32]:
        """Return the real-valued scores of a stage for one choice of variants, [n, scores].

        Raises:
            BuildError: the model fails on a sample.
        """
        candidate = self._plans[stage].candidate(choice[stage])
        values = np.load(self._run(stage, choice) / f"{candidate.scores}.npy", mmap_mode="r")
        return real(values, candidate.outputs[candidate.scores]).reshape(len(values), -1)

    def _run(self, stage: str, choice: Choice) -> Path:
        """Return the folder of a stage's outputs; run its model if nobody has."""
        path = self._path(stage, choice)
        if path not in self._done:
            sources = self._sources(stage, choice)
            folder = Path(self._folder.name) / str(len(self._done))
            folder.mkdir()
            self._answer(self._plans[stage], choice[stage], sources, folder)
            self._done[path] = folder
        return self._done[path]

    def _sources(self, stage: str, choice: Choice) -> tuple[Source, ...]:
        source = self._plans[stage].recipe.source
        if source is None:
            whole = str(Path(self._folder.name) / "x.npy")
            return (Source(path=whole, spec=self._given, is_request=True),)
        folder = self._run(source, choice)
        outputs = self._plans[source].candidate(choice[source]).outputs
        return tuple(
            Source(path=str(folder / f"{number}.npy"), spec=spec, is_request=False)
            for number, spec in enumerate(outputs)
        )

    def _answer(
        self, plan: StagePlan, variant: str, sources: tuple[Source, ...], folder: Path
    ) -> None:
        candidate = plan.candidate(variant)
        before, total = len(self._done) * len(self._x), len(self._paths) * len(self._x)
        title = f"{plan.name}/{variant}"
        self._on_answers(title, before, total)
        job = Answer(
            path=str(candidate.path.absolute()),
            inputs=candidate.inputs,
            outputs=candidate.outputs,
            sources=sources,
            folder=str(folder),
        )
        try:
            run_trial(
                job,
                candidate.name,
                Answered,
                lambda done: self._on_answers(title, before + done, total),
            )
        except TrialError as error:
            raise BuildError(f"cannot run the samples through {title}: {error.why}") from error
        self._on_answers(title, before + len(self._x), total)

    def _path(self, stage: str, choice: Choice) -> _Path:
        return tuple((name, choice[name]) for name in chain(list(self._plans.values()), stage))


def check_scores(rows: NDArray[np.float32], stage: str, candidate: Candidate) -> None:
    """Check that a stage's scores can be compared.

    Args:
        rows: its real-valued scores, [n, scores].
        stage: its name.
        candidate: the variant that gave them.

    Raises:
        BuildError: they are no scores of classes, or some are NaN or infinite.
    """
    title = f"{stage}/{candidate.name}"
    spec = candidate.outputs[candidate.scores]
    if sum(size > 1 for size in spec.shape) > 1:
        raise BuildError(
            f"cannot use {title} as a classifier: output {spec.name!r} has shape "
            f"{list(spec.shape)}, want one score for each class"
        )
    broken = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if broken.size:
        raise BuildError(
            f"cannot use {title}: NaN or infinite scores for {broken.size} of {len(rows)} samples, "
            f"the first is sample {broken[0]}"
        )


def gate_record(
    rows: NDArray[np.float32],
    kind: ScoreKind,
    metric: Metric,
    y: NDArray[np.int64],
    temperature: float = 1.0,
) -> GateRecord:
    """Return how sure a stage was and whether it was right, from its scores [n, scores]."""
    sure = [confidence(probabilities(row, kind, temperature), metric) for row in rows]
    return GateRecord(np.array(sure, np.float64), classes_of(rows, kind) == y)
