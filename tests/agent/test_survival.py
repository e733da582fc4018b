"""What the agent lives through: crashes, restarts, no broker, short memory, its own end."""

import contextlib
import itertools
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from protocols.bundle import Bundle
from protocols.chunks import CHUNK_BYTES, artifact_ref, chunk_count
from protocols.desired import StagePin
from protocols.device import Status
from protocols.schedule import DEFAULT_THRESHOLDS, Dwell, Schedule
from tests.agent.picture import Picture
from tests.agent.rig import Rig, expected_top1, one_stage, rigged, two_stages
from tests.agent.runner.cascades import Built, Piece, build
from tests.brokers import free_port, running_broker
from tests.end_to_end.clients import Load
from tests.end_to_end.stack import wait_for
from tests.models import classifier, crashing, random_layers

QUICK = Schedule(
    thresholds={"memory_available_percent": DEFAULT_THRESHOLDS["memory_available_percent"]},
    dwell=Dwell(hold_s=0.3, recover_s=0.5, up_moves_per_hour=1000),
)
_numbers = itertools.count()


@pytest.fixture
def rig(tmp_path: Path, broker_url: str) -> Iterator[Rig]:
    with rigged(tmp_path, broker_url, f"survive-{next(_numbers)}") as rig:
        yield rig


def killer(folder: Path, *, version: int) -> Built:
    """Return a bundle whose model, named like an innocent one, kills the interpreter."""
    folder.mkdir()
    honest = classifier(random_layers(4, 4, seed=1))
    x = np.zeros((1, 4), np.float32)
    built = build(folder, [Piece("only", honest)], x, version=version)
    content = crashing()
    ref = artifact_ref(content)
    (folder / ref.sha256).write_bytes(content)
    stage = built.bundle.stages[0]
    variant = stage.variants[0].with_(artifact=ref)
    built.bundle = Bundle.model_validate(
        {**dict(built.bundle), "stages": (stage.with_(variants=(variant,)),)}
    )
    return built


def test_a_bundle_that_kills_the_runner_twice_is_quarantined_for_good(
    rig: Rig, tmp_path: Path
) -> None:
    first = one_stage(tmp_path / "one")
    rig.start()
    rig.desire(rig.ship(first))
    rig.wait_running(1)
    bad = killer(tmp_path / "two", version=2)
    with Load(rig.address(), "digits", first.x) as load:
        rig.desire(rig.ship(bad))
        cascade = rig.wait_phase("quarantined")
        before = len(load.answers)
        wait_for("answers afterwards", lambda: len(load.answers) > before + 10)
    assert not load.broken
    assert {a.version for _, a in load.answers} == {"1"}
    assert "cannot run digits 2: it ended the runner" in cascade.message
    assert cascade.running is not None
    assert cascade.running.version == 1
    assert "SIGSEGV" in rig.wait_event("runner-died", "digits").message
    assert rig.wait_event("quarantined", "SIGSEGV")
    deaths = sum(event.kind == "runner-died" for event in rig.observer.events)
    assert rig.stop() == 0
    rig.observer.reported.clear()
    rig.start()
    cascade = rig.wait_phase("quarantined")
    wait_for(
        "version 1 after a restart",
        lambda: (c := rig.cascade()) is not None and c.running is not None,
    )
    assert sum(event.kind == "runner-died" for event in rig.observer.events) == deaths


def test_it_starts_and_answers_without_a_broker(tmp_path: Path) -> None:
    port = free_port()
    built = one_stage(tmp_path / "built")
    with contextlib.ExitStack() as stack:
        with running_broker(tmp_path, port) as url:
            rig = stack.enter_context(rigged(tmp_path, url, "alone"))
            rig.start()
            rig.desire(rig.ship(built))
            rig.wait_running(1)
            rig.stop(signal.SIGKILL)
        rig.start()
        with Load(rig.address(), "digits", built.x) as load:
            wait_for("answers", lambda: len(load.answers) > len(built.x))
        expected = expected_top1(built, "only")
        assert all(a.status == 200 and a.top1 == expected[n] for n, a in load.answers)
        rig.observer.reported.clear()
        stack.enter_context(running_broker(tmp_path, port))
        rig.wait_running(1)
        rig.wait_event("started")


def test_memory_pressure_unloads_and_recovery_loads_again(rig: Rig, tmp_path: Path) -> None:
    machine = Picture(tmp_path / "machine", total_mib=1024)
    built = two_stages(tmp_path / "built")
    rig.start(machine)
    rig.desire(rig.ship(built), schedule=QUICK)
    rig.wait_running(1)
    machine.memory(120)  # 11.7 %: R3
    event = rig.wait_event("unloaded", "digits/large")
    assert event.returned_bytes is not None
    assert event.returned_bytes > 1_000_000
    assert "memory available 11.7 %" in event.message
    assert rig.wait_event("rung", "R3", "memory available")
    with Load(rig.address(), "digits", built.x) as load:
        wait_for("degraded answers", lambda: len(load.answers) > 5)
    assert all(a.status == 200 for _, a in load.answers)
    assert [a.top1 for n, a in load.answers[:1]] == [
        expected_top1(built, "small")[load.answers[0][0]]
    ]
    machine.memory(50)  # 4.9 %: hard
    rig.wait_event("rung", "R4")
    with Load(rig.address(), "digits", built.x) as load:
        wait_for("refusals", lambda: len(load.answers) > 2)
    assert {a.status for _, a in load.answers} == {503}
    already = len(rig.observer.events)
    machine.memory(900)
    wait_for(
        "the large stage again",
        lambda: [
            e for e in rig.observer.events[already:] if e.kind == "loaded" and e.stage == "large"
        ],
    )
    wait_for(
        "both stages reported",
        lambda: (c := rig.cascade()) is not None and {s.state for s in c.stages} == {"loaded"},
    )


def test_a_pin_overrides_the_schedule_but_not_a_hard_line(rig: Rig, tmp_path: Path) -> None:
    machine = Picture(tmp_path / "machine", total_mib=1024)
    cascade = rig.ship(two_stages(tmp_path / "built"))
    rig.start(machine)
    rig.desire(cascade, schedule=QUICK)
    rig.wait_running(1)
    away = StagePin(cascade="digits", stage="large", loaded=False)
    rig.desire(cascade, schedule=QUICK, pins=(away,))
    rig.wait_event("unloaded", "digits/large", "generation 2")
    stays = StagePin(cascade="digits", stage="large", loaded=True, threads=2)
    rig.desire(cascade, schedule=QUICK, pins=(stays,))
    wait_for(
        "two threads",
        lambda: (c := rig.cascade()) is not None and [s.threads for s in c.stages] == [1, 2],
    )
    machine.memory(120)  # R3 would unload it
    rig.wait_event("rung", "R3")
    machine.memory(50)
    rig.wait_event("rung", "R4")
    rig.wait_event("unloaded", "digits/large", "(hard)")
    unloads = [e for e in rig.observer.events if e.kind == "unloaded" and e.stage == "large"]
    assert len(unloads) == 2


def test_where_memory_allows_no_two_runners_requests_wait(rig: Rig, tmp_path: Path) -> None:
    machine = Picture(tmp_path / "machine", total_mib=512)
    first, second = one_stage(tmp_path / "one"), one_stage(tmp_path / "two", version=2)
    rig.start(machine)
    rig.desire(rig.ship(first))
    rig.wait_running(1)
    machine.memory(60)
    with Load(rig.address(), "digits", first.x) as load:
        wait_for("some answers", lambda: len(load.answers) > 10)
        rig.desire(rig.ship(second))
        rig.wait_running(2)
        before = len(load.answers)
        wait_for("more answers", lambda: len(load.answers) > before + 10)
    assert not load.broken
    assert load.refused == 0
    assert all(a.status == 200 for _, a in load.answers)


def test_it_leaves_in_order(rig: Rig, tmp_path: Path) -> None:
    rig.start()
    rig.desire(rig.ship(one_stage(tmp_path / "built")))
    rig.wait_running(1)
    assert rig.stop() == 0
    wait_for("offline", lambda: not rig.observer.status[rig.name].online)
    assert rig.wait_event("stopping", "SIGTERM")
    assert not (rig.state_dir / "infer.sock").exists()


def test_it_leaves_in_the_middle_of_a_fetch_and_goes_on_with_it_later(
    rig: Rig, tmp_path: Path
) -> None:
    built = two_stages(tmp_path / "built")
    model = built.bundle.stages[1].variants[0].artifact
    cascade = rig.ship(built)
    last = chunk_count(model.size_bytes) - 1
    rig.link.publish_and_wait(rig.topics.chunk(model.sha256, last), b"", retain=True)
    rig.start()
    rig.desire(cascade)
    whole = sum(ref.size_bytes for ref in (*built.bundle.artifacts, cascade.bundle.artifact))
    wait_for(
        "all but the last chunk",
        lambda: (c := rig.cascade()) is not None and c.fetched_bytes >= whole - CHUNK_BYTES,
    )
    begun = time.monotonic()
    assert rig.stop() == 0
    assert time.monotonic() - begun < 5
    have = rig.state_dir / "partial" / f"{model.sha256}.have"
    assert have.read_bytes().count(1) == last
    for number in range(last):  # what is here is not asked for again
        rig.link.publish(rig.topics.chunk(model.sha256, number), b"", retain=True)
    content = (built.folder / model.sha256).read_bytes()
    rig.link.publish_and_wait(
        rig.topics.chunk(model.sha256, last), content[last * CHUNK_BYTES :], retain=True
    )
    rig.start()
    rig.wait_running(1)


def test_a_late_will_is_contradicted(rig: Rig) -> None:
    rig.start()
    status = rig.wait_online()
    late = Status(device=rig.name, online=False, boot_id="0" * 32, version="0")
    rig.link.publish(rig.topics.device(rig.name, "status"), late.encode(), retain=True)
    wait_for("the will", lambda: late in rig.observer.statuses)
    again = wait_for(
        "the contradiction",
        lambda: rig.observer.statuses[rig.observer.statuses.index(late) + 1 :],
    )
    assert again[0] == status


def test_its_last_will_says_offline_when_it_is_killed(rig: Rig) -> None:
    rig.start()
    boot_id = rig.wait_online().boot_id
    rig.stop(signal.SIGKILL)
    wait_for("the will", lambda: not rig.observer.status[rig.name].online)
    assert rig.observer.status[rig.name].boot_id == boot_id
    assert json.loads(rig.observer.raw[rig.topics.device(rig.name, "status")])["online"] is False
