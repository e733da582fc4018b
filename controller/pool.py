"""A pool of models for a search: run over the same samples, and what each costs."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from controller.catalog import Catalog, valid_name
from controller.compress.graph import Graph
from controller.compress.measure import ModelFile, clock
from controller.compress.scorer import Scorer
from controller.compress.sources import find_model, is_path
from controller.errors import BuildError
from controller.inspect import inspect_model
from controller.samples import Samples
from controller.scores import gate_record
from controller.search import METRICS, Member, check_size
from controller.trial import TrialError
from protocols.inference.gate import score_kind
from protocols.profile import EnergyMethod

Cost = Literal["latency", "cpu", "energy", "bytes"]

_METHODS: tuple[EnergyMethod, ...] = get_args(EnergyMethod)

_US_IN_MS, _S_IN_MS = 1e-3, 1e3

OnStep = Callable[[str, int, int], None]
"""Takes what runs, how much is done, and how much there is."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One model of a pool.

    Attributes:
        words: as it was asked for; what `ctl cascade build` takes.
        name: distinct in the pool.
        path: its file.
        scores: number of the output with its class scores.
    """

    words: str
    name: str
    path: Path
    scores: int


@dataclass(frozen=True, slots=True)
class Costs:
    """What an answer of each model costs.

    Attributes:
        kind: latency (ms), cpu (CPU ms), energy (mJ) or bytes (of the file).
        values: by name.
        source: where the figures come from, for people.
        method: how energy was found; None: it was not.
    """

    kind: Cost
    values: Mapping[str, float]
    source: str
    method: EnergyMethod | None = None


def find_pool(catalog: Catalog, models: Sequence[str]) -> tuple[Entry, ...]:
    """Find the models of a pool.

    Raises:
        BuildError: they are too few or too many, two are the same, or one has several outputs
            and nobody has said which one counts.
        CatalogError, ArtifactError: a name is not in the catalog, or its file is damaged.
    """
    check_size(len(models))
    entries: list[Entry] = []
    for words in models:
        path, name = find_model(catalog, words)
        for other in entries:
            if other.path.read_bytes() == path.read_bytes():
                raise BuildError(f"cannot search: {other.words} and {words} are the same file")
        taken = {other.name for other in entries}
        if name in taken:
            name = valid_name(f"{path.parent.name}-{name}")
        if name in taken:
            raise BuildError(f"cannot search: two models are called {name}; rename one's file")
        entries.append(Entry(words, name, path, _scores(catalog, words, path)))
    return tuple(entries)


def recorded_costs(catalog: Catalog, pool: Sequence[Entry]) -> Costs:
    """Return the latencies that were measured when models were added to the catalog.

    Raises:
        BuildError: one is a file that cannot be measured.
        CatalogError: a name is not in the catalog.
    """
    values = {}
    for entry in pool:
        try:
            facts = (
                inspect_model(entry.path)
                if is_path(entry.words)
                else catalog.model(entry.words).facts
            )
        except TrialError as error:
            raise BuildError(f"cannot search with {entry.words}: {error.why}") from error
        values[entry.name] = facts.needs.answer_ms
    return Costs("latency", values, "as recorded in the catalog, one thread")


def measured_costs(
    kind: Cost,
    pool: Sequence[Entry],
    sample_shape: tuple[int, ...],
    on_step: OnStep = lambda *_: None,
    watts: float | None = None,
) -> Costs:
    """Measure the pool: time and CPU in one run of a child process, the models in turns.

    Args:
        kind: what is measured.
        pool: the models.
        sample_shape: of one sample.
        on_step: told how far it is.
        watts: what one busy CPU draws; energy is CPU time times that.

    Raises:
        BuildError: energy is asked for, and nobody says what a CPU draws.
        CompressError: a model does not run.
    """
    if kind == "energy" and watts is None:
        raise BuildError(
            "cannot estimate energy: give --watts, what one busy CPU draws, or --profile FILE with "
            "energy_mj and energy_method of each model"
        )
    if kind == "bytes":
        sizes = {entry.name: float(entry.path.stat().st_size) for entry in pool}
        return Costs(kind, sizes, "sizes of the files")
    found = clock(
        [ModelFile(entry.name, entry.path) for entry in pool],
        sample_shape=sample_shape,
        on_runs=lambda share: on_step("Timing, in turns", round(share * 100), 100),
    )
    if kind == "latency":
        figures = [one.median * _US_IN_MS for one in found.timings]
    else:
        figures = [seconds * _S_IN_MS for seconds in found.cpu_s]
    runs = found.timings[0].count
    values = {entry.name: value for entry, value in zip(pool, figures, strict=True)}
    which = "median" if kind == "latency" else "mean CPU time"
    costs = Costs(kind, values, f"{which} of {runs} runs in turns, one thread, here")
    return _times_watts(costs, watts) if kind == "energy" and watts is not None else costs


def _times_watts(costs: Costs, watts: float) -> Costs:
    """Return energy, mJ, of CPU times, ms: an estimate, never closer than 30%."""
    values = {name: cpu_ms * watts for name, cpu_ms in costs.values.items()}
    return Costs("energy", values, f"{costs.source}, times {watts:g} W: an estimate", "model")


def profile_costs(
    kind: Cost, pool: Sequence[Entry], path: Path, watts: float | None = None
) -> Costs:
    """Read costs from a file: `{"MODEL": {"latency_ms": 3.1, "cpu_ms": 3.0, "bytes": 7088}}`.

    Energy is `"energy_mj": 9.5, "energy_method": "rail"` (meter, rail, battery or model), or with
    `watts` the `cpu_ms` times these.

    Raises:
        BuildError: it cannot be read, lacks a model of the pool, or mixes methods.
    """
    if kind == "energy" and watts is not None:
        return _times_watts(profile_costs("cpu", pool, path), watts)
    keys = {"latency": "latency_ms", "cpu": "cpu_ms", "energy": "energy_mj", "bytes": "bytes"}
    key, method = keys[kind], None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        values = {entry.name: float(document[entry.name][key]) for entry in pool}
        if kind == "energy":
            method = _method(path, [document[entry.name]["energy_method"] for entry in pool])
    except OSError as error:
        raise BuildError(f"cannot read profile {path}: {error.strerror or error}") from error
    except KeyError as error:
        more = f', "energy_method": {"|".join(_METHODS)}' if kind == "energy" else ""
        raise BuildError(
            f"cannot use profile {path}: no {error.args[0]!r}; it takes "
            f'{{"MODEL": {{"{key}": NUMBER{more}}}}} for each of {", ".join(e.name for e in pool)}'
        ) from error
    except (ValueError, TypeError, UnicodeError) as error:
        raise BuildError(f"cannot use profile {path}: {error}") from error
    wrong = [name for name, value in values.items() if not 0 < value < float("inf")]
    if wrong:
        raise BuildError(f"cannot use profile {path}: {key} of {wrong[0]} is not positive")
    return Costs(kind, values, f"from {path}", method)


def _method(path: Path, said: Sequence[object]) -> EnergyMethod:
    """Return the one method that all figures were found by."""
    for method in _METHODS:
        if all(one == method for one in said):
            return method
    shown = ", ".join(sorted({str(one) for one in said}))
    raise BuildError(
        f"cannot use profile {path}: energy_method is {shown}; want one of {', '.join(_METHODS)}, "
        "the same for all models: figures of two methods cannot be compared"
    )


def run_pool(
    pool: Sequence[Entry],
    samples: Samples,
    costs: Costs,
    on_step: OnStep = lambda *_: None,
) -> tuple[Member, ...]:
    """Run every model over the samples.

    Raises:
        BuildError: a model does not run on them, the labels are none of its classes, or the
            models tell different classes apart.
    """
    y, members, classes = labels(samples), [], dict[str, int]()
    for number, entry in enumerate(pool):
        on_step(f"Running {entry.name}", number, len(pool))
        with Scorer(samples, entry.scores) as scorer:
            rows = scorer.rows(entry.path.read_bytes(), entry.name)
        classes[entry.name] = max(2, rows.shape[1])
        _check_classes(classes, entry.name)
        samples.check_classes(classes[entry.name])
        members.append(member(entry.name, rows, y, costs.values[entry.name]))
    return tuple(members)


def member(name: str, rows: NDArray[np.float32], y: NDArray[np.int64], cost: float) -> Member:
    """Return what a model did, from its real-valued scores, [n, scores].

    Raises:
        BuildError: the scores cannot be compared.
    """
    broken = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if broken.size:
        raise BuildError(
            f"cannot use {name}: NaN or infinite scores for {broken.size} of {len(rows)} samples, "
            f"the first is sample {broken[0]}"
        )
    kind = score_kind(rows)
    records = {metric: gate_record(rows, kind, metric, y) for metric in METRICS}
    confidence = {metric: record.confidence for metric, record in records.items()}
    return Member(name, cost, records[METRICS[0]].right, confidence)


def labels(samples: Samples) -> NDArray[np.int64]:
    """Return the labels of samples.

    Raises:
        BuildError: they have none.
    """
    if samples.y is None:
        raise BuildError(
            f"cannot use {samples.source}: it has no labels; name their array with --y-key"
        )
    return samples.y


def _scores(catalog: Catalog, words: str, path: Path) -> int:
    known = None if is_path(words) else catalog.model(words).scores
    if known is not None:
        return known
    outputs = len(Graph.read(path.read_bytes(), words).outputs)
    if outputs > 1:
        raise BuildError(
            f"cannot search with {words}: it has {outputs} outputs; say which one holds the class "
            f"scores: ctl model add {path} --scores NUMBER, then search with its name"
        )
    return 0


def _check_classes(classes: Mapping[str, int], name: str) -> None:
    first, *_ = classes
    if classes[first] != classes[name]:
        raise BuildError(
            f"cannot search: {first} tells {classes[first]} classes apart, {name} {classes[name]}"
        )
