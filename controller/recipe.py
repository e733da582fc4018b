"""What a person asks for when a cascade is built: stages, gates, samples, and how it is written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeGuard, get_args

from controller.errors import BuildError
from controller.temperature import LEAST_DEGREES, MOST_DEGREES
from protocols.bundle import Metric
from protocols.topics import check_name

_METRICS = frozenset(get_args(Metric))
_NO_GATE = "none"
_CHAINED = "stage:"

AUTO: Literal["auto"] = "auto"
"""A temperature that is fitted: one half of the samples does, and the other one certifies."""

Temperature = float | Literal["auto"]


@dataclass(frozen=True, slots=True)
class StageRecipe:
    """One stage as it is asked for.

    Attributes:
        name: of the stage.
        models: names in the catalog or paths of `.tflite` files, in order of preference.
        reads: `request` or `stage:<name>`.
        metric: of its gate; None: no gate.
        scores: name or number of the output with the class scores; None: not said.
        temperature: of its probabilities, in a gated cascade, if it answers.
    """

    name: str
    models: tuple[str, ...]
    reads: str = "request"
    metric: Metric | None = None
    scores: str | None = None
    temperature: Temperature = 1.0

    @property
    def source(self) -> str | None:
        """The stage that it reads; None: the request."""
        return None if self.reads == "request" else self.reads.removeprefix(_CHAINED)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A cascade as it is asked for.

    Attributes:
        name: of the cascade.
        stages: in order.
        samples: an `.npz`; None: the models' own random input will do.
        x_key: name of the array of samples in it.
        y_key: name of the array of labels in it.
        eps: the accuracy that may be lost, a fraction; None: 1%, or the next that can be certified.
        labels: names of the classes; empty: none.
        version: None: the one after the latest.
    """

    name: str
    stages: tuple[StageRecipe, ...]
    samples: Path | None = None
    x_key: str = "x"
    y_key: str = "y"
    eps: float | None = None
    labels: tuple[str, ...] = ()
    version: int | None = None

    @property
    def gated(self) -> bool:
        """Whether an answer may leave before the last stage."""
        return any(stage.metric for stage in self.stages)

    @property
    def fits(self) -> bool:
        """Whether any temperature is fitted."""
        return any(stage.temperature == AUTO for stage in self.stages)


def read_stages(
    stages: Sequence[str],
    *,
    reads: Mapping[str, str],
    gates: Sequence[str],
    scores: Mapping[str, str],
    temperatures: Sequence[str] = (),
) -> tuple[StageRecipe, ...]:
    """Read the stages of a command line.

    Args:
        stages: `NAME=MODEL[,MODEL...]` each, in order.
        reads: stage -> what it reads.
        gates: metrics, each `METRIC` for every stage before the last, or `STAGE=METRIC`; `none` is
            no gate. Without any, every stage before the last has `max_prob`.
        scores: stage -> output with its class scores.
        temperatures: a number or `auto` each, for every stage that answers, or `STAGE=NUMBER`.

    Raises:
        BuildError: a word is not understood, or the stages do not make a cascade.
        TopicError: a name is none.
    """
    models = [_read_stage(words) for words in stages]
    names = [name for name, _ in models]
    for name in names:
        if names.count(name) > 1:
            raise BuildError(f"cannot build: stage {name!r} stands twice")
    for option, named in (("--reads", reads), ("--scores", scores)):
        _check_known(option, named, names)
    metrics = _read_gates(gates, names)
    degrees = _read_temperatures(temperatures, names, metrics)
    made = tuple(
        StageRecipe(
            name,
            found,
            reads.get(name, "request"),
            metrics.get(name),
            scores.get(name),
            degrees.get(name, 1.0),
        )
        for name, found in models
    )
    _check_reads(made)
    return made


def read_eps(words: str) -> float:
    """Read a share: `1%` or `0.01`.

    Raises:
        BuildError: it is none.
    """
    try:
        value = float(words.removesuffix("%")) / (100 if words.endswith("%") else 1)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise BuildError(f"cannot use eps {words!r}: want a share such as 1% or 0.01")
    return value


def read_labels(words: str) -> tuple[str, ...]:
    """Read names of classes: from a file, one a line, or from `a,b,c`.

    Raises:
        BuildError: there is no such file, or it is no text.
    """
    path = Path(words)
    try:
        if path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines()
            return tuple(line.strip() for line in lines if line.strip())
    except (OSError, UnicodeError) as error:
        raise BuildError(f"cannot read labels {words}: {error}") from error
    if "," not in words:
        raise BuildError(f"cannot read labels {words!r}: no such file, and no list a,b,c")
    return tuple(label.strip() for label in words.split(","))


def _read_stage(words: str) -> tuple[str, tuple[str, ...]]:
    name, equals, rest = words.partition("=")
    models = (rest,) if Path(rest).is_file() else tuple(filter(None, rest.split(",")))
    if not equals or not models:
        raise BuildError(f"cannot read stage {words!r}: want NAME=MODEL[,MODEL...]")
    return check_name(name, "stage"), models


def _read_gates(gates: Sequence[str], names: Sequence[str]) -> dict[str, Metric]:
    before_last = names[:-1]
    chosen: dict[str, str] = dict.fromkeys(before_last, "max_prob")
    for words in sorted(gates, key=lambda gate: "=" in gate):  # those for one stage go last
        stage, equals, metric = words.rpartition("=")
        if metric not in _METRICS and metric != _NO_GATE:
            raise BuildError(
                f"cannot use gate {words!r}: want {', '.join(get_args(Metric))} or {_NO_GATE}, "
                "or STAGE=METRIC"
            )
        if not equals:
            chosen.update(dict.fromkeys(before_last, metric))
            continue
        _check_known("--gate", {stage: metric}, names)
        if stage not in before_last and metric != _NO_GATE:
            raise BuildError(f"cannot gate {stage!r}: the last stage always answers")
        chosen[stage] = metric
    return {stage: metric for stage, metric in chosen.items() if _is_metric(metric)}


def _read_temperatures(
    temperatures: Sequence[str], names: Sequence[str], metrics: Mapping[str, Metric]
) -> dict[str, Temperature]:
    """Return the temperatures that are not said to be 1, by stage.

    Raises:
        BuildError: one is no number above 0, or its stage answers nothing.
    """
    answering = [*metrics, names[-1]] if metrics else []
    chosen: dict[str, Temperature] = {}
    for words in sorted(temperatures, key=lambda one: "=" in one):  # those for one stage go last
        stage, equals, number = words.rpartition("=")
        degrees = _read_temperature(words, number)
        if not answering:
            raise BuildError(
                f"cannot use temperature {words!r}: no stage has a gate, and without one the "
                "answer is what the model gives"
            )
        if not equals:
            chosen.update(dict.fromkeys(answering, degrees))
            continue
        _check_known("--temperature", {stage: number}, names)
        if stage not in answering:
            raise BuildError(f"cannot use temperature {words!r}: {stage} has no gate")
        chosen[stage] = degrees
    return chosen


def _read_temperature(words: str, number: str) -> Temperature:
    if number == AUTO:
        return AUTO
    try:
        degrees = float(number)
    except ValueError:
        degrees = 0.0
    if not LEAST_DEGREES <= degrees <= MOST_DEGREES:
        raise BuildError(
            f"cannot use temperature {words!r}: want a number from {LEAST_DEGREES:g} to "
            f"{MOST_DEGREES:g} or {AUTO}, for one stage STAGE=NUMBER"
        )
    return degrees


def _check_reads(stages: Sequence[StageRecipe]) -> None:
    if not stages:
        raise BuildError("cannot build: no stages; give --stage NAME=MODEL")
    seen: list[str] = []
    for stage in stages:
        chained = stage.reads.startswith(_CHAINED) and stage.source in seen
        if stage.reads != "request" and not chained:
            earlier = ", ".join(f"stage:{name}" for name in seen)
            raise BuildError(
                f"cannot build: stage {stage.name!r} reads {stage.reads!r}; it may read "
                + ("request" + (f", {earlier}" if earlier else ""))
            )
        seen.append(stage.name)
    read = {stage.source for stage in stages}
    for stage in stages[:-1]:
        if stage.metric is None and stage.name not in read:
            raise BuildError(
                f"cannot build: stage {stage.name!r} has no gate and no stage reads it; give it a "
                f"gate, or --reads {stages[-1].name}=stage:{stage.name}"
            )


def _check_known(option: str, named: Mapping[str, str], names: Sequence[str]) -> None:
    for stage in named:
        if stage not in names:
            raise BuildError(
                f"cannot use {option} {stage}={named[stage]}: the stages are {', '.join(names)}"
            )


def _is_metric(word: str) -> TypeGuard[Metric]:
    return word in _METRICS
