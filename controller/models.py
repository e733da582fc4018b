"""Adding model files to the catalog: all of them, or none."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from controller.catalog import Catalog, ModelRecord, valid_name
from controller.errors import BuildError
from controller.inspect import inspect_model, scores_index
from controller.trial import TrialError
from protocols.chunks import artifact_ref
from protocols.topics import check_name


@dataclass(frozen=True, slots=True)
class NewModel:
    """A file that should become a model of the catalog.

    Attributes:
        path: the `.tflite` file.
        name: None: as the file is called.
        scores: name or number of the output with the class scores; None: not said.
        sample_shape: of one sample, where the file leaves its shape open; None: it does not.
        replace: take the place of another model of that name.
    """

    path: Path
    name: str | None = None
    scores: str | None = None
    sample_shape: tuple[int, ...] | None = None
    replace: bool = False


def add_models(
    catalog: Catalog,
    models: Sequence[NewModel],
    on_model: Callable[[str], None] = lambda _: None,
    clock: Callable[[], float] = time.time,
) -> list[ModelRecord]:
    """Look at every file, then add all of them to the catalog. The same file again is no fault.

    Args:
        catalog: where to.
        models: the files.
        on_model: told the name of each before it is looked at.
        clock: Unix time in seconds.

    Raises:
        BuildError: a file is no model that this runtime can run, or its name is taken.
        CatalogError: the folder cannot be written.
        TopicError: a name is none.
    """
    records: dict[str, ModelRecord] = {}
    for model in models:
        on_model(model.path.name)
        record = _record(model, clock())
        _check_free(catalog, model, record, records.get(record.name))
        records[record.name] = record
    for model, record in zip(models, records.values(), strict=True):
        if catalog.add_file(model.path) != record.artifact:
            raise BuildError(f"cannot add model {record.name}: {model.path} has changed meanwhile")
    for record in records.values():
        catalog.save_model(record)
    return list(records.values())


def _record(model: NewModel, now_s: float) -> ModelRecord:
    path = model.path
    name = valid_name(path.stem) if model.name is None else check_name(model.name, "model")
    try:
        facts = inspect_model(path, model.sample_shape)
        scores = scores_index(facts.outputs, model.scores)
        content = path.read_bytes()
    except TrialError as error:
        raise BuildError(f"cannot add model {name}: {error.why}") from error
    except (ValueError, OSError) as error:
        raise BuildError(f"cannot add model {name}: {error}") from error
    return ModelRecord(
        name=name,
        artifact=artifact_ref(content),
        inputs=facts.inputs,
        outputs=facts.outputs,
        scores=scores,
        needs=facts.needs,
        runtime=facts.runtime,
        source=path.name,
        added_ts=now_s,
    )


def _check_free(
    catalog: Catalog, model: NewModel, new: ModelRecord, before: ModelRecord | None
) -> None:
    if before is not None:
        raise BuildError(
            f"cannot add model {new.name}: {before.source} and {new.source} would have the same "
            "name; add them one by one with --name"
        )
    known = catalog.find_model(new.name)
    if known is not None and known.artifact != new.artifact and not model.replace:
        raise BuildError(
            f"cannot add model {new.name}: the catalog has another file of that name "
            f"({known.source}, {known.artifact.sha256[:12]}); use --name, or --replace (bundles "
            "keep the file that they were built with)"
        )
