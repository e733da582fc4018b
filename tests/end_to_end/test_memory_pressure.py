"""Memory runs short while clients ask: the big stage leaves, and no answer is wrong."""

from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import pytest

from protocols.device import Event, EventKind
from protocols.schedule import (
    DEFAULT_THRESHOLDS,
    CascadeSchedule,
    Dwell,
    Schedule,
    default_cascade_schedule,
)
from tests.agent.picture import Picture
from tests.agent.rig import Rig, rigged
from tests.agent.runner.cascades import Built, Piece, build
from tests.agent.runner.samples import samples
from tests.brokers import running_broker
from tests.end_to_end.clients import Answer, Load
from tests.end_to_end.stack import wait_for
from tests.models import classifier, random_layers

CLIENTS = 6
TOTAL_MIB = 256
X = samples(24, 64)
SMALL = classifier(random_layers(64, 10, seed=1))
BIG = classifier(random_layers(64, 2048, 2048, 10, seed=2))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A cascade that answers about half of the samples at its small stage."""
    folder = tmp_path_factory.mktemp("built")
    first = build(folder, [Piece("small", SMALL, "max_prob"), Piece("big", BIG)], X)
    sure = float(np.median([first.chances("small", n).max() for n in range(len(X))]))
    parts = [Piece("small", SMALL, "max_prob", sure), Piece("big", BIG)]
    return build(folder, parts, X)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Picture:
    return Picture(tmp_path_factory.mktemp("machine"), total_mib=TOTAL_MIB)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory, machine: Picture, built: Built) -> Iterator[Rig]:
    """An agent on the scripted machine that serves the cascade, quick to act and to recover.

    Each test leaves it at R0 with both stages loaded.
    """
    folder = tmp_path_factory.mktemp("rig")
    with running_broker(folder) as url, rigged(folder, url, "pressed") as rig:
        rig.start(machine)
        rig.desire(rig.ship(built), schedule=schedule(built))
        rig.wait_running(1)
        yield rig


def schedule(built: Built) -> Schedule:
    names = tuple(stage.name for stage in built.bundle.stages)
    rows: CascadeSchedule = default_cascade_schedule(names, 1, idle_unload_s=0.3)
    return Schedule(
        thresholds={"memory_available_percent": DEFAULT_THRESHOLDS["memory_available_percent"]},
        dwell=Dwell(hold_s=0.3, recover_s=0.3, up_moves_per_hour=1000),
        cascades={"digits": rows},
    )


def wants_big(built: Built, number: int) -> bool:
    """Whether the small stage is not sure of a sample."""
    gate = built.bundle.certificates[0].gates["small"][0].threshold
    return bool(built.chances("small", number).max() < gate)


def kind(built: Built, number: int, answer: Answer) -> str:
    """Check one answer against the bare models; return what it was."""
    if answer.status == 503:
        assert answer.document["error"].startswith("cannot infer: digits: ")
        return "refused"
    assert answer.status == 200, answer
    told = answer.document["parameters"]
    degraded = bool(told.get("degraded"))
    stage = "big" if wants_big(built, number) and not degraded else "small"
    assert told["stage"] == stage
    assert degraded <= wants_big(built, number)
    values = np.array(answer.document["outputs"][0]["data"], np.float32)
    assert np.array_equal(values, built.chances(stage, number))
    return "degraded" if degraded else "whole"


def kinds(built: Built, load: Load, since: int = 0) -> list[str]:
    """Check every answer of a client; return what they were."""
    return [kind(built, number, answer) for number, answer in list(load.answers)[since:]]


def latest(built: Built, load: Load) -> list[str]:
    """Check a client's last turn of answers; return what they were."""
    return kinds(built, load, max(0, len(load.answers) - len(X)))


def told(rig: Rig, since: int, what: EventKind, words: str) -> Event:
    """Wait for an event that came after others."""

    def look() -> Event | None:
        events = list(rig.observer.events)[since:]
        return next((e for e in events if e.kind == what and words in e.message), None)

    return wait_for(f"{what} {words}", look)


def test_the_big_stage_leaves_at_the_hard_line_while_requests_wait(
    rig: Rig, machine: Picture, built: Built
) -> None:
    since = len(rig.observer.events)
    with ExitStack() as clients:
        loads = [clients.enter_context(Load(rig.address(), "digits", X)) for _ in range(CLIENTS)]
        wait_for("whole answers", lambda: all(len(load.answers) > 10 for load in loads))
        machine.memory(12)  # 4.7 %
        gone = told(rig, since, "unloaded", "digits/big")
        assert "(hard)" in gone.message
        assert gone.returned_bytes is not None
        assert gone.returned_bytes > len(BIG)
        told(rig, since, "unloaded", "digits/small")
        marks = [len(load.answers) for load in loads]
        wait_for(
            "refusals",
            lambda: all(
                "refused" in kinds(built, load, mark)
                for load, mark in zip(loads, marks, strict=True)
            ),
        )
        machine.memory(30)  # 11.7 %: R3, the small one alone
        wait_for(
            "degraded answers",
            lambda: all("degraded" in latest(built, load) for load in loads),
        )
        assert [e.kind for e in rig.observer.events[since:] if e.stage == "big"] == ["unloaded"]
        machine.memory(200)
        told(rig, since, "rung", "R1 -> R0")
        wait_for(
            "whole answers again",
            lambda: all(set(latest(built, load)) == {"whole"} for load in loads),
        )
    for load in loads:
        found = kinds(built, load)
        assert {"whole", "degraded", "refused"} <= set(found)
        assert found[-1] == "whole"
        assert not load.broken
        assert load.refused == 0
    assert not [e for e in rig.observer.events if e.kind == "runner-died"]


def test_a_load_that_would_cross_the_line_is_refused_and_comes_later(
    rig: Rig, machine: Picture, built: Built
) -> None:
    needs_mib = 2 * len(BIG) / 2**20
    left_mib = 47
    assert 18 < 100 * left_mib / TOTAL_MIB < 25  # R1: the big one is loaded when it is asked for
    assert 100 * (left_mib - needs_mib) / TOTAL_MIB < 8
    since = len(rig.observer.events)
    machine.memory(left_mib)
    told(rig, since, "rung", "R0 -> R1")
    assert "unused for 0.3 s" in told(rig, since, "unloaded", "digits/big").message
    with Load(rig.address(), "digits", X) as load:
        refused = told(rig, since, "rejected", "cannot load digits/big: it needs")
        assert "8 % of the memory" in refused.message
        mark = len(load.answers)
        wait_for("degraded answers", lambda: "degraded" in kinds(built, load, mark))
        assert "refused" not in kinds(built, load)
        events = len(rig.observer.events)
        machine.memory(200)
        told(rig, events, "loaded", "digits/big")
        told(rig, events, "rung", "R1 -> R0")
        mark = len(load.answers) + 1
        wait_for("a turn of answers", lambda: len(load.answers) > mark + len(X))
        assert set(kinds(built, load, mark)) == {"whole"}
    assert not load.broken
    assert not [e for e in rig.observer.events if e.kind == "runner-died"]
