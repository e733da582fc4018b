"""From an assignment to a cascade that has proved itself on its golden samples."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from agent.runner.blackbox import BlackBox
from agent.runner.control import Assignment, CascadePlan, StageChanged, StageTarget
from agent.runner.crew import Crew
from agent.runner.jobs import StageError, Tensors
from agent.runner.room import NoRoomError, Room
from agent.runner.serving import Cascade
from agent.runner.stages import Emit, Judge, StageSlot
from agent.runner.worker import Setting
from protocols.bundle import Bundle, Stage, Variant
from protocols.inference.gate import top1
from protocols.inference.runtime import ModelError
from protocols.inference.tensors import TensorError, from_sample, hand_on, real


@dataclass(frozen=True, slots=True)
class Golden:
    """The golden samples: `x` [n, *sample] and the expected class of every stage, [n], -1: none."""

    x: NDArray[Any]
    top1: dict[str, NDArray[np.int64]]


def prepare(
    assignment: Assignment,
    plan: CascadePlan,
    box: BlackBox,
    room: Room,
    emit: Emit,
    wake: Callable[[], None],
) -> Cascade:
    """Load every stage, check its answers to the golden samples, keep those that the plan keeps.

    A stage that the plan keeps out of memory is loaded for the check and leaves again. One that
    there is no room for now is checked when it is loaded for the first time, and standard error
    says so; if it answers wrongly then, that load has failed and there is no other.

    Raises:
        StageError: "cannot ...": a file is missing, tensors differ from the manifest, or a stage
            answers otherwise than it did where the bundle was built.
    """
    bundle = assignment.bundle
    chosen = {stage.name: _variant(assignment, stage) for stage in _kept(assignment)}
    _check_links(bundle, chosen)
    golden = _golden(assignment)
    held: list[StageChanged] = []
    slots = {
        name: StageSlot(
            bundle.name, name, variant, _artifact(assignment, variant.artifact.sha256), box, room
        )
        for name, variant in chosen.items()
    }
    cascade = Cascade(assignment, plan, slots, wake)
    for slot in slots.values():
        slot.emit = held.append
    try:
        _prove(assignment, plan, slots, golden)
    except Exception:
        for slot in slots.values():
            slot.unload("rejected")
        raise
    for event in held:
        if event.change == "failed" or (event.change == "loaded" and slots[event.stage].loaded):
            emit(event)
    for slot in slots.values():
        slot.emit = emit
    return cascade


def _prove(
    assignment: Assignment, plan: CascadePlan, slots: dict[str, StageSlot], golden: Golden
) -> None:
    """Load the stages one after the other and check each; those that may not stay leave."""
    bundle = assignment.bundle
    targets = {target.name: target for target in plan.stages}
    outputs: dict[str, list[Tensors]] = {}
    crowded = False
    for stage in bundle.stages:
        slot = slots.get(stage.name)
        if slot is None:
            continue
        target = targets.get(stage.name, StageTarget(name=stage.name, residence="out"))
        stays = target.residence == "resident" and not (plan.one_at_a_time and crowded)
        source = stage.reads.removeprefix("stage:")
        checked = stage.reads == "request" or source in outputs
        later = partial(_judge, assignment, stage, slots)
        if not checked:
            slot.proof = later
            _skip(slot, f"{source}, which it reads, was not checked")
        if not (checked or stays):
            continue
        try:
            slot.load(Setting.of(target), "assigned", plan.memory_floor_percent)
        except NoRoomError as error:
            slot.proof = later
            _skip(slot, str(error))
            if stays:
                slot.report_failure(error, "assigned")
            continue
        if checked:
            outputs[stage.name] = _run(slot, _inputs(bundle, stage, slots, golden, outputs))
            _compare(bundle, slot, outputs[stage.name], golden)
        if not stays:
            slot.unload("checked")
        crowded = crowded or stays


def _judge(
    assignment: Assignment,
    stage: Stage,
    slots: dict[str, StageSlot],
    setting: Setting,
    floor_percent: float,
) -> Judge:
    """Return who checks a stage on the golden samples, which are read anew for that.

    What it reads comes from the stages before it, each of which is loaded for that where it is not
    in memory. It is itself not yet: no more than one of them need be at a time.
    """
    bundle, golden = assignment.bundle, _golden(assignment)
    small = replace(setting, threads=1, asked_threads=1, layout="intra-op")
    outputs: dict[str, list[Tensors]] = {}
    for source in _sources(bundle, stage):
        slot = slots[source.name]
        with _loaded(slot, small, floor_percent):
            outputs[source.name] = _run(slot, _inputs(bundle, source, slots, golden, outputs))
    inputs = _inputs(bundle, stage, slots, golden, outputs)

    def judge(crew: Crew) -> None:
        judged = slots[stage.name]
        _compare(bundle, judged, _answers(judged, crew, inputs), golden)

    return judge


def _sources(bundle: Bundle, stage: Stage) -> list[Stage]:
    """Return what a stage reads, directly or not; the first one reads the request."""
    if stage.reads == "request":
        return []
    named = {before.name: before for before in bundle.stages}
    source = named[stage.reads.removeprefix("stage:")]
    return [*_sources(bundle, source), source]


@contextlib.contextmanager
def _loaded(slot: StageSlot, setting: Setting, floor_percent: float) -> Iterator[None]:
    brought = not slot.loaded
    if brought:
        slot.load(setting, "golden samples", floor_percent)
    try:
        yield
    finally:
        if brought:
            slot.give_way("checked")


def _inputs(
    bundle: Bundle,
    stage: Stage,
    slots: dict[str, StageSlot],
    golden: Golden,
    outputs: dict[str, list[Tensors]],
) -> list[Tensors]:
    specs = slots[stage.name].variant.inputs
    try:
        if stage.reads == "request":
            return [[from_sample(x, bundle.input, specs[0])] for x in golden.x]
        source = stage.reads.removeprefix("stage:")
        have = slots[source].variant.outputs
        return [
            [hand_on(v, h, want) for v, h, want in zip(tensors, have, specs, strict=True)]
            for tensors in outputs[source]
        ]
    except TensorError as error:
        raise StageError(f"cannot serve {bundle.name}/{stage.name}: {error}") from error


def _run(slot: StageSlot, inputs: list[Tensors]) -> list[Tensors]:
    crew = slot.enter()
    if crew is None:
        raise StageError(f"cannot check {slot.title}: it is not loaded")
    try:
        return _answers(slot, crew, inputs)
    finally:
        slot.leave(crew)


def _answers(slot: StageSlot, crew: Crew, inputs: list[Tensors]) -> list[Tensors]:
    try:
        return crew.answer(inputs)
    except ModelError as error:
        raise StageError(f"cannot serve {slot.title}: {error.why}") from error


def _compare(bundle: Bundle, slot: StageSlot, outputs: list[Tensors], golden: Golden) -> None:
    variant, expected = slot.variant, golden.top1.get(slot.name)
    if expected is None or variant.score_kind == "raw":
        return
    spec = variant.outputs[variant.scores]
    wrong = []
    for number, (tensors, want) in enumerate(zip(outputs, expected, strict=True)):
        got = top1(real(tensors[variant.scores], spec), variant.score_kind)
        if want >= 0 and got != want:
            wrong.append(f"sample {number}: class {got}, not {want}")
    if wrong:
        raise StageError(
            f"cannot serve {slot.title}: it answers {len(wrong)} of {len(outputs)} golden samples "
            f"of bundle version {bundle.version} otherwise than where it was built ({wrong[0]})"
        )


def _check_links(bundle: Bundle, chosen: dict[str, Variant]) -> None:
    """Refuse a manifest whose tensors cannot be handed from one place to the next."""
    gated = any(stage.metric for stage in bundle.stages[:-1])
    for index, stage in enumerate(bundle.stages):
        variant = chosen.get(stage.name)
        if variant is None:
            continue
        title = f"{bundle.name}/{stage.name}"
        source = chosen.get(stage.reads.removeprefix("stage:"))
        if stage.reads == "request":
            sizes, whence = [bundle.input.elements], "the request has"
        elif source is None:
            raise StageError(f"cannot load {title}: it reads {stage.reads}, which is dropped")
        else:
            sizes, whence = [spec.elements for spec in source.outputs], f"{stage.reads} gives"
        wanted = [spec.elements for spec in variant.inputs]
        if wanted != sizes:
            raise StageError(
                f"cannot load {title}: its inputs hold {wanted} elements, {whence} {sizes}"
            )
        answers = index == len(bundle.stages) - 1 or stage.metric is not None
        scores = variant.outputs[variant.scores].elements
        gives = max(2, scores) if gated else scores
        if answers and gives != bundle.output.elements:
            raise StageError(
                f"cannot load {title}: it gives {gives} scores, "
                f"the manifest's output holds {bundle.output.elements}"
            )


def _golden(assignment: Assignment) -> Golden:
    bundle = assignment.bundle
    path = _artifact(assignment, bundle.golden.artifact.sha256)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            x = arrays["x"]
            expected = {
                name.removeprefix("top1_"): arrays[name]
                for name in arrays.files
                if name.startswith("top1_")
            }
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise StageError(f"cannot read the golden samples of {bundle.name}: {error}") from error
    if x.shape[1:] != bundle.input.shape or x.dtype != bundle.input.dtype:
        raise StageError(
            f"cannot use the golden samples of {bundle.name}: they are {list(x.shape)} {x.dtype}, "
            f"the manifest's input is {list(bundle.input.shape)} {bundle.input.dtype}"
        )
    if any(classes.shape != x.shape[:1] for classes in expected.values()):
        raise StageError(f"cannot use the golden samples of {bundle.name}: not one class for each")
    return Golden(x, expected)


def _kept(assignment: Assignment) -> list[Stage]:
    return [stage for stage in assignment.bundle.stages if stage.name not in assignment.dropped]


def _variant(assignment: Assignment, stage: Stage) -> Variant:
    name = assignment.variants.get(stage.name)
    for variant in stage.variants:
        if variant.name == name:
            return variant
    raise StageError(
        f"cannot load {assignment.bundle.name}/{stage.name}: it has no variant {name!r}, only "
        + ", ".join(variant.name for variant in stage.variants)
    )


def _artifact(assignment: Assignment, sha256: str) -> Path:
    return Path(assignment.folder) / sha256


def _skip(slot: StageSlot, why: str) -> None:
    sys.stderr.write(f"{slot.title}: golden samples not checked yet: {why}\n")
