import io
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from agent.runner import blackbox
from agent.runner.admission import RefusedError
from agent.runner.blackbox import BlackBox
from agent.runner.control import CascadePlan, Residence, StageChanged
from agent.runner.jobs import StageError
from agent.runner.prepare import prepare
from agent.runner.room import Room
from agent.runner.walk import InferenceError
from protocols.bundle import CONFIDENCE_BINS, Bundle, TensorSpec
from protocols.inference.tensors import real
from tests import models
from tests.agent.picture import Picture
from tests.agent.runner.cascades import Built, Piece, build
from tests.agent.runner.harness import wait_for
from tests.agent.runner.samples import samples

X = samples(24, 8, 8)
SMALL = models.classifier(models.random_layers(64, 10, seed=1), sample_shape=(8, 8, 1), form="int8")
LARGE = models.classifier(models.random_layers(64, 32, 10, seed=2))
THRESHOLD = 0.3
OUT: Residence = "out"

Start = Callable[..., "Running"]


class Running:
    """A prepared cascade and what it reported."""

    def __init__(self, built: Built, plan: CascadePlan, *dropped: str) -> None:
        self.built = built
        self.events: list[StageChanged] = []
        fd = blackbox.create()
        self.picture = Picture(built.folder / "machine")
        self.cascade = prepare(
            built.assignment(*dropped),
            plan,
            BlackBox(fd),
            Room(self.picture.root),
            self.events.append,
            lambda: None,
        )
        os.close(fd)

    def apply(self, plan: CascadePlan, cause: str = "test") -> None:
        self.cascade.set_plan(plan, cause)
        self.cascade.shrink()
        self.cascade.grow()

    def loaded(self) -> list[str]:
        return [s.name for s in self.cascade.stats().stages if s.loaded]

    def changes(self) -> list[tuple[str, str]]:
        return [(event.change, event.stage) for event in self.events]

    def close(self) -> None:
        self.apply(self.built.plan(*(OUT for _ in self.built.bundle.stages)))


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[Running] = []

    def _start(built: Built, plan: CascadePlan | None = None, *dropped: str) -> Running:
        started.append(Running(built, plan or built.plan(), *dropped))
        return started[-1]

    yield _start
    for running in started:
        running.close()


@pytest.fixture
def gated(tmp_path: Path) -> Built:
    pieces = [Piece("small", SMALL, "max_prob", THRESHOLD), Piece("large", LARGE)]
    return build(tmp_path, pieces, X)


def unsure(built: Built) -> list[int]:
    """Return the samples that the first stage does not answer surely."""
    return [n for n in range(len(X)) if built.chances("small", n).max() < THRESHOLD]


def test_each_sample_leaves_where_its_gate_says(gated: Built, start: Start) -> None:
    answers = start(gated).cascade.answer(X)
    later = unsure(gated)
    assert 0 < len(later) < len(X)
    for number, answer in enumerate(answers):
        stage = "large" if number in later else "small"
        assert answer.stage == (1 if number in later else 0)
        assert not answer.degraded
        assert answer.values.dtype == np.float32
        assert np.array_equal(answer.values, gated.chances(stage, number))


def test_statistics_count_samples(gated: Built, start: Start) -> None:
    running = start(gated)
    running.cascade.answer(X)
    stats = running.cascade.stats()
    later = len(unsure(gated))
    small, large = stats.stages
    assert (stats.answers, stats.escalated, stats.degraded) == (len(X), later, 0)
    assert (small.answers, large.answers) == (len(X) - later, later)
    assert small.runs == 2 * len(X)  # the golden samples as well
    assert small.p50_ms is not None
    assert small.p95_ms is not None
    assert small.p95_ms >= small.p50_ms > 0
    assert stats.p50_ms is not None
    assert small.cpu_s > 0


def test_how_sure_the_first_gate_was_is_counted(gated: Built, start: Start) -> None:
    running = start(gated)
    running.cascade.answer(X)
    running.cascade.answer(X[:5])
    small, large = running.cascade.stats().stages
    sure = [gated.chances("small", n).max() for n in [*range(len(X)), *range(5)]]
    counts, _ = np.histogram(sure, bins=CONFIDENCE_BINS, range=(0, 1))
    assert small.confidence == tuple(counts)
    assert large.confidence is None


def test_the_ladder_index_lowers_the_threshold(gated: Built, start: Start) -> None:
    running = start(gated, gated.plan(threshold_index=1))
    stages = {answer.stage for answer in running.cascade.answer(X)}
    assert stages == {0}


def test_a_stage_that_is_out_degrades_the_answers_that_wanted_it(
    gated: Built, start: Start
) -> None:
    running = start(gated, gated.plan("resident", "out"))
    answers = running.cascade.answer(X)
    assert running.loaded() == ["small"]
    assert [n for n, answer in enumerate(answers) if answer.degraded] == unsure(gated)
    assert running.cascade.stats().degraded == len(unsure(gated))
    assert running.cascade.unready() is None


def test_a_dropped_stage_is_out_for_good(gated: Built, start: Start) -> None:
    running = start(gated, gated.plan(), "large")
    assert [s.name for s in running.cascade.stats().stages] == ["small"]
    assert sum(a.degraded for a in running.cascade.answer(X)) == len(unsure(gated))


def test_the_last_stage_answers_alone_if_the_first_is_out(gated: Built, start: Start) -> None:
    answers = start(gated, gated.plan("out", "resident")).cascade.answer(X)
    assert {(answer.stage, answer.degraded) for answer in answers} == {(1, False)}


def test_nothing_loaded_is_a_refusal(gated: Built, start: Start) -> None:
    running = start(gated, gated.plan("out", "out", retry_after_s=9))
    assert running.loaded() == []
    assert running.cascade.unready() is not None
    with pytest.raises(RefusedError, match=r"^cannot infer: digits: ") as caught:
        running.cascade.answer(X[:1])
    assert caught.value.retry_after_s == 9
    assert running.cascade.stats().refused == 1


def test_a_pause_says_its_reason(gated: Built, start: Start) -> None:
    running = start(gated)
    running.apply(gated.plan(paused="compute: battery 6% (C4)"))
    assert running.loaded() == ["small", "large"]
    with pytest.raises(RefusedError, match="battery 6%"):
        running.cascade.answer(X[:1])


def test_on_demand_comes_with_the_request_and_leaves_when_idle(gated: Built, start: Start) -> None:
    running = start(gated, gated.plan("resident", "on_demand", idle_unload_s=60))
    assert running.loaded() == ["small"]
    running.events.clear()
    number = unsure(gated)[0]
    assert running.cascade.answer(X[number : number + 1])[0].stage == 1
    assert running.changes() == [("loaded", "large")]
    due_s = running.cascade.tidy(time.monotonic())
    assert due_s is not None
    assert 0 < due_s - time.monotonic() <= 60
    assert running.cascade.tidy(due_s - 1) == due_s
    assert running.loaded() == ["small", "large"]
    assert running.cascade.tidy(due_s) is None
    assert running.loaded() == ["small"]
    event = running.events[-1]
    assert event.cause == "unused for 60 s; assigned"
    assert event.returned_bytes is not None


def test_one_at_a_time_never_holds_two(gated: Built, start: Start) -> None:
    running = start(gated, gated.plan("on_demand", "on_demand", one_at_a_time=True))
    threads = [threading.Thread(target=running.cascade.answer, args=(X,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert running.cascade.stats().answers == 4 * len(X)
    assert running.cascade.stats().degraded == 0
    loaded = 0
    for change, _stage in running.changes():
        loaded += {"loaded": 1, "unloaded": -1}[change]
        assert loaded <= 1


def test_escalations_beyond_the_rate_keep_the_answer_they_have(gated: Built, start: Start) -> None:
    running = start(gated, gated.plan(escalations_per_s=0.001))
    answers = running.cascade.answer(X)
    assert sum(answer.stage == 1 for answer in answers) == 1
    assert sum(answer.degraded for answer in answers) == len(unsure(gated)) - 1


def test_requests_are_spaced_and_too_many_are_refused(gated: Built, start: Start) -> None:
    running = start(gated, gated.plan(request_interval_s=9.0))
    outcomes: list[str] = []

    def request() -> None:
        try:
            running.cascade.answer(X[:1])
            outcomes.append("answered")
        except RefusedError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=request) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_for("one answer and two refusals", lambda: len(outcomes) == 3)
    running.cascade.hurry()
    for thread in threads:
        thread.join()
    assert outcomes[-1] == "answered"
    assert sum("9 s apart" in outcome for outcome in outcomes) == 2


def test_other_threads_are_a_new_worker_and_no_request_notices(gated: Built, start: Start) -> None:
    running = start(gated)
    stop, answers = threading.Event(), []

    def ask() -> None:
        while not stop.is_set():
            answers.append(running.cascade.answer(X[:4]))

    asking = threading.Thread(target=ask)
    asking.start()
    for threads, nice in ((1, 5), (2, 5), (1, 0)):
        running.apply(gated.plan(threads=threads, nice=nice), "C1")
    stop.set()
    asking.join()
    assert all(len(answer) == 4 for answer in answers)
    allowed = min(2, len(os.sched_getaffinity(0)))
    seen = [(e.stage, e.threads) for e in running.events if e.change == "threads"]
    assert seen[0] == ("small", 1)
    assert ("large", allowed) in seen
    assert running.cascade.stats().stages[0].threads == 1
    runs = running.cascade.stats().stages[0].runs
    assert runs == len(X) + 4 * len(answers)


def test_what_holds_is_said_where_less_holds_than_was_asked(gated: Built, start: Start) -> None:
    usable = tuple(sorted(os.sched_getaffinity(0)))
    impossible = (max(usable) + 1, max(usable) + 2)
    running = start(gated, placed(gated, 64, (*usable, *impossible)))
    for stage in running.cascade.stats().stages:
        assert (stage.threads, stage.cpus) == (len(usable), usable)
    note = f"assigned; 64 threads asked for, {len(usable)} CPUs to use"
    assert [event.cause for event in running.events] == [note, note]
    running.events.clear()
    running.apply(placed(gated, 64, impossible), "C1")  # nothing that it could change to
    assert running.events == []
    assert all(not answer.degraded for answer in running.cascade.answer(X))
    running.apply(placed(gated, 1, impossible, nice=5), "C3")
    for event in running.events:
        assert (event.change, event.threads, event.cpus) == ("threads", 1, usable)
        assert event.cause == "C3; nice 0 -> 5"


def placed(built: Built, threads: int, cpus: tuple[int, ...], nice: int = 0) -> CascadePlan:
    plan = built.plan(threads=threads, nice=nice)
    return plan.with_(stages=tuple(target.with_(cpus=cpus) for target in plan.stages))


def test_a_stage_in_use_is_not_idle(gated: Built, start: Start) -> None:
    running = start(gated, gated.plan("resident", "on_demand", idle_unload_s=5))
    with running.cascade._residency.using(1):
        due_s = running.cascade.tidy(time.monotonic() + 100)
        assert due_s is not None
        assert due_s > time.monotonic() + 100
        assert running.loaded() == ["small", "large"]
    assert running.cascade.tidy(time.monotonic() + 100) is None
    assert running.loaded() == ["small"]


def test_a_worker_that_waits_for_its_last_request_still_counts(gated: Built, start: Start) -> None:
    running = start(gated)
    slot = running.cascade._residency.slots[0]
    assert slot is not None
    before = slot.stats()
    with running.cascade._residency.using(0):
        moving = threading.Thread(target=running.apply, args=(gated.plan(nice=1),))
        moving.start()
        wait_for("the new one is in its place", lambda: slot._leaving is not None)
        between = slot.stats()
    moving.join()
    after = slot.stats()
    assert before.runs == between.runs == after.runs == len(X)
    assert before.cpu_s <= between.cpu_s <= after.cpu_s


def test_a_request_that_a_plan_has_overtaken_goes_by_the_new_one(
    gated: Built, start: Start
) -> None:
    running = start(gated, gated.plan("out", "on_demand"))
    answers: list[int] = []
    asking = threading.Thread(
        target=lambda: answers.extend(a.stage for a in running.cascade.answer(X[:1]))
    )
    with running.cascade._residency._moving:
        asking.start()
        wait_for("it is inside", lambda: running.cascade._admission._inside == 1)
        running.cascade.set_plan(gated.plan("on_demand", "out"), "R3")
    asking.join()
    assert answers == [0]


@pytest.mark.parametrize("paused", [None, "battery 6%"])
def test_who_waits_for_a_turn_hears_at_once_of_a_new_plan(
    gated: Built, start: Start, paused: str | None
) -> None:
    running = start(gated, gated.plan(request_interval_s=9.0))
    running.cascade.answer(X[:1])
    outcomes: list[str] = []

    def request() -> None:
        try:
            outcomes.append(str(running.cascade.answer(X[:1])[0].degraded))
        except RefusedError as error:
            outcomes.append(str(error))

    waiting = threading.Thread(target=request)
    waiting.start()
    wait_for("it waits", lambda: running.cascade._admission._waiting == 1)
    running.apply(gated.plan(paused=paused, request_interval_s=9.0 if paused else 0.0))
    waiting.join(5)
    assert outcomes == [f"cannot infer: digits: {paused}" if paused else "False"]


def test_a_model_whose_answers_are_not_finite_is_not_the_clients_fault(
    tmp_path: Path, start: Start
) -> None:
    loud = [(np.full((48, 64), 3e38, np.float32), np.zeros(48, np.float32))]
    pieces = [
        Piece("small", SMALL, "max_prob", 2.0),
        Piece("head", models.classifier(loud, head="logits")),
        Piece(
            "tail", models.classifier(models.random_layers(48, 10), form="int8"), reads="stage:head"
        ),
    ]
    running = start(build(tmp_path, pieces, X * np.float32(1e-40)))
    ones = np.ones_like(X[:2])
    assert {(a.stage, a.degraded) for a in running.cascade.answer(ones)} == {(0, True)}
    running.apply(running.built.plan("out", "resident", "resident"))
    with pytest.raises(InferenceError, match=r"digits/head.*infinite"):
        running.cascade.answer(ones)
    assert running.cascade.stats().failed == 1


def test_whatever_is_wrong_with_a_cascade_its_stages_leave_memory(gated: Built) -> None:
    golden = io.BytesIO()
    np.savez(golden, x=X, top1_large=np.array(["seven"] * len(X)))
    digest = gated.bundle.golden.artifact.sha256
    (gated.folder / digest).write_bytes(golden.getvalue())
    with pytest.raises(TypeError):
        Running(gated, gated.plan())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("digits/")]


def test_a_file_that_has_gone_bad_degrades_and_is_reported(gated: Built, start: Start) -> None:
    running = start(gated, gated.plan("resident", "on_demand"))
    digest = gated.bundle.stages[1].variants[0].artifact.sha256
    (gated.folder / digest).unlink()
    (gated.folder / digest).write_bytes(b"no model")
    answers = running.cascade.answer(X)
    assert sum(answer.degraded for answer in answers) == len(unsure(gated))
    failed = [event for event in running.events if event.change == "failed"]
    assert len(failed) == 1
    assert failed[0].cause.startswith("cannot load digits/large: ")


def test_one_stage_gives_its_scores_as_they_are(tmp_path: Path, start: Start) -> None:
    built = build(tmp_path, [Piece("only", SMALL)], X)
    answers = start(built).cascade.answer(X)
    for answer, outputs in zip(answers, built.outputs["only"], strict=True):
        assert answer.values.dtype == np.int8
        assert answer.values.shape == (10,)
        assert np.array_equal(answer.values, outputs[0][0])


def test_a_quantized_input_is_the_models_own_or_real_values(tmp_path: Path, start: Start) -> None:
    ints = np.random.default_rng(0).integers(-128, 128, (8, 64)).astype(np.int8)
    small = models.classifier(models.random_layers(64, 10, seed=1), form="int8")
    built = build(tmp_path, [Piece("small", small, "margin", 0.5), Piece("large", LARGE)], ints)
    cascade = start(built).cascade
    spec = built.bundle.stages[0].variants[0].inputs[0]
    own = cascade.answer(ints)
    values = cascade.answer(real(ints, spec))
    assert [a.stage for a in own] == [a.stage for a in values]
    for a, b in zip(own, values, strict=True):
        assert np.allclose(a.values, b.values)


def split(folder: Path, form: models.Form) -> Built:
    layers = models.random_layers(64, 48, 10, seed=5)
    head = models.classifier(layers[:1], head="features", form=form)
    tail = models.classifier(layers[1:], form=form, input_range=(0, 6))
    return build(folder, [Piece("head", head), Piece("tail", tail, reads="stage:head")], X)


@pytest.mark.parametrize("form", ["float32", "int8", "uint8"])
def test_the_parts_of_a_split_model(tmp_path: Path, start: Start, form: models.Form) -> None:
    built = split(tmp_path, form)
    answers = start(built).cascade.answer(X)
    for answer, outputs in zip(answers, built.outputs["tail"], strict=True):
        assert answer.stage == 1
        assert np.array_equal(answer.values, outputs[0][0])


def test_half_a_split_model_is_no_answer(tmp_path: Path, start: Start) -> None:
    built = split(tmp_path, "float32")
    running = start(built, built.plan("resident", "out"))
    with pytest.raises(RefusedError):
        running.cascade.answer(X[:1])


def changed(bundle: Bundle, **changes: object) -> Bundle:
    return bundle.with_(**changes)


def rejected(built: Built, bundle: Bundle) -> str:
    with pytest.raises(StageError) as caught:
        Running(Built(bundle, built.folder, built.x), built.plan())
    return str(caught.value)


def test_a_model_that_is_not_the_manifests_is_rejected(gated: Built) -> None:
    small, large = gated.bundle.stages
    tensor = TensorSpec(name="x", shape=(1, 8, 8), dtype="float32")
    variant = large.variants[0].with_(inputs=(tensor,))
    stages = (small, large.with_(variants=(variant,)))
    assert rejected(gated, changed(gated.bundle, stages=stages)) == (
        "cannot load digits/large: the manifest says input [1,8,8] float32, "
        "the model has [1,64] float32"
    )


def test_a_model_that_answers_otherwise_is_rejected(tmp_path: Path, gated: Built) -> None:
    other = models.classifier(models.random_layers(64, 32, 10, seed=9))
    pieces = [Piece("small", SMALL, "max_prob", THRESHOLD), Piece("large", other)]
    wrong = build(tmp_path, pieces, X)
    message = rejected(gated, changed(wrong.bundle, golden=gated.bundle.golden))
    assert message.startswith("cannot serve digits/large: it answers ")
    assert "golden samples of bundle version 1" in message


def test_a_model_with_two_inputs_cannot_read_a_request(tmp_path: Path) -> None:
    x = samples(3, 4)
    built = build(tmp_path, [Piece("only", models.classifier(models.random_layers(4, 4)))], x)
    stage = built.bundle.stages[0]
    tensor = TensorSpec(name="a", shape=(1, 4), dtype="float32")
    variant = stage.variants[0].with_(inputs=(tensor, tensor))
    message = rejected(built, changed(built.bundle, stages=(stage.with_(variants=(variant,)),)))
    assert message == (
        "cannot load digits/only: its inputs hold [4, 4] elements, the request has [4]"
    )


def test_missing_files_are_rejected(gated: Built) -> None:
    digest = gated.bundle.stages[1].variants[0].artifact.sha256
    (gated.folder / digest).unlink()
    assert rejected(gated, gated.bundle).startswith("cannot load digits/large: there is no file")
    (gated.folder / gated.bundle.golden.artifact.sha256).unlink()
    assert rejected(gated, gated.bundle).startswith("cannot read the golden samples of digits")
