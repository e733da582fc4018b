"""From a desired document to answers: a real agent, a real broker, real models."""

import contextlib
import http.client
import itertools
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from protocols.schedule import Schedule
from tests.agent.picture import Picture
from tests.agent.rig import Rig, expected_top1, one_stage, rigged, two_stages
from tests.end_to_end.clients import Load, infer
from tests.end_to_end.stack import wait_for

_numbers = itertools.count()


@pytest.fixture
def rig(tmp_path: Path, broker_url: str) -> Iterator[Rig]:
    with rigged(tmp_path, broker_url, f"deploy-{next(_numbers)}") as rig:
        yield rig


def test_a_cascade_is_fetched_verified_and_answers(rig: Rig, tmp_path: Path) -> None:
    built = two_stages(tmp_path / "built")
    rig.start()
    rig.desire(rig.ship(built))
    rig.wait_running(1)
    connection = http.client.HTTPConnection(*rig.address())
    answers = [infer(connection, "digits", x, "FP32") for x in built.x]
    connection.close()
    assert [a.status for a in answers] == [200] * len(built.x)
    assert [a.top1 for a in answers] == expected_top1(built, "large")
    assert rig.wait_event("applied", "digits 1")
    wait_for(
        "telemetry with its answers",
        lambda: [c for c in rig.observer.telemetry[rig.name].cascades if c.answers == len(built.x)],
    )
    cascade = rig.cascade()
    assert cascade is not None
    assert [s.state for s in cascade.stages] == ["loaded", "loaded"]
    assert cascade.fetched_bytes == cascade.total_bytes > 4_000_000


def test_a_second_version_takes_over_under_load(rig: Rig, tmp_path: Path) -> None:
    first, second = one_stage(tmp_path / "one"), one_stage(tmp_path / "two", version=2)
    rig.start()
    rig.desire(rig.ship(first))
    rig.wait_running(1)
    right = {"1": expected_top1(first, "only"), "2": expected_top1(second, "only")}
    with Load(rig.address(), "digits", first.x) as load:
        _wait_for_more(load, 20)
        rig.desire(rig.ship(second))
        rig.wait_running(2)
        _wait_for_more(load, 20)
    assert not load.broken
    assert load.refused == 0
    assert all(a.status == 200 for _, a in load.answers)
    assert all(a.top1 == right[a.version][index] for index, a in load.answers)
    versions = [a.version for _, a in load.answers]
    assert versions == sorted(versions)
    assert versions[-1] == "2"


def test_a_killed_runner_comes_back_at_once_and_nothing_is_blamed(rig: Rig, tmp_path: Path) -> None:
    rig.start()
    built = one_stage(tmp_path / "built")
    rig.desire(rig.ship(built))
    rig.wait_running(1)
    waited_s = []
    with Load(rig.address(), "digits", built.x) as load:
        for round_ in range(3):
            _wait_for_more(load, 20)
            os.kill(rig.runner_pids()[0], signal.SIGKILL)
            wait_for("the cut", partial(_was_cut, load, round_ + 1))
            _wait_for_more(load, 1)
            waited_s.append(_waited_for_a_cpu_s(rig.runner_pids()[0]))
        _wait_for_more(load, 20)
    assert load.refused == 0
    assert all(a.status == 200 for _, a in load.answers)
    times = [a.at_s for _, a in load.answers]
    gaps = [min(at for at in times if at > cut) - cut for cut in load.broken]
    # The time in which the runner would have run, and the CPUs were others', is not its own.
    assert min(gap - waited for gap, waited in zip(gaps, waited_s, strict=True)) < 1.0
    assert "SIGKILL" in rig.wait_event("runner-died").message
    rig.wait_running(1)


def test_a_flipped_byte_is_rejected_and_the_old_version_serves(rig: Rig, tmp_path: Path) -> None:
    first, second = one_stage(tmp_path / "one"), one_stage(tmp_path / "two", version=2)
    rig.start()
    rig.desire(rig.ship(first))
    rig.wait_running(1)
    rig.desire(rig.ship(second, corrupt=True))
    cascade = rig.wait_phase("rejected")
    assert "cannot accept chunk 0" in cascade.message
    assert cascade.running is not None
    assert cascade.running.version == 1
    assert rig.wait_event("rejected", "cannot accept chunk 0")
    ship_again = rig.ship(second)
    rig.desire(ship_again)
    rig.wait_running(2)


def test_tensors_that_do_not_fit_are_rejected_and_the_rest_is_applied(
    rig: Rig, tmp_path: Path
) -> None:
    good, bad = one_stage(tmp_path / "good", name="good"), one_stage(tmp_path / "bad", name="bad")
    stage = bad.bundle.stages[0]
    variant = stage.variants[0]
    lying = variant.with_(inputs=(variant.inputs[0].with_(shape=(1, 17)),))
    bundle = bad.bundle.with_(
        stages=(stage.with_(variants=(lying,)),),
        input=bad.bundle.input.with_(shape=(17,)),
    )
    rig.start()
    rig.desire(rig.ship(bad, bundle=bundle), rig.ship(good))
    rig.wait_running(1, "good")
    cascade = rig.wait_phase("rejected", "bad")
    assert cascade.message.startswith("cannot ")
    assert cascade.running is None


def test_a_need_beyond_the_device_is_refused_with_advice(rig: Rig, tmp_path: Path) -> None:
    first = one_stage(tmp_path / "one")
    second = two_stages(tmp_path / "two", version=2)
    small, large = second.bundle.stages
    variant = large.variants[0]
    lean = variant.with_(name="int8", needs=variant.needs.with_(load_mib=20))
    fat = variant.with_(needs=variant.needs.with_(load_mib=500))
    bundle = second.bundle.with_(stages=(small, large.with_(variants=(fat, lean))))
    rig.start(Picture(tmp_path / "machine", total_mib=256))
    rig.desire(rig.ship(first))
    rig.wait_running(1)
    wanted = rig.ship(second, bundle=bundle)
    rig.desire(wanted)
    cascade = rig.wait_phase("refused")
    assert "cannot run digits: the stages that must be resident need 5" in cascade.message
    assert "this device has 145 MiB" in cascade.message
    assert "--variant large=int8" in cascade.message
    assert cascade.running is not None
    assert cascade.running.version == 1
    rig.desire(wanted.with_(variants={"small": "only", "large": "int8"}))
    rig.wait_running(2)


def test_the_wrong_documents_are_refused_and_nothing_stops(rig: Rig, tmp_path: Path) -> None:
    rig.start()
    cascade = rig.ship(one_stage(tmp_path / "built"))
    rig.generation = 6
    rig.desire(cascade)
    rig.wait_running(1)
    rig.desire(cascade, generation=3)
    rig.wait_event("refused", "cannot apply generation 3: generation 7 was accepted before")
    rig.desire(cascade, generation=9, key=rig.release)
    rig.wait_event("refused", "cannot trust desired", "controller key")
    rig.desire(cascade, generation=9, device="another")
    rig.wait_event("refused", "cannot apply generation 9", "'another'")
    reported = rig.observer.reported[rig.name]
    assert reported.refusal is not None
    assert reported.refusal.generation == 9
    rig.desire(schedule=Schedule(thresholds={}), generation=7)
    rig.wait_event("refused", "generation 7 was accepted before with other content")
    rig.wait_running(1)
    rig.link.publish(rig.desired_topic, b"", retain=True)
    rig.desire(cascade)
    wait_for("the refusal to be over", lambda: rig.observer.reported[rig.name].refusal is None)
    rig.wait_running(1)


def test_an_unsigned_bundle_is_refused(rig: Rig, tmp_path: Path) -> None:
    rig.start()
    rig.release = rig.controller  # the server's key cannot sign what may run
    rig.desire(rig.ship(one_stage(tmp_path / "built")))
    cascade = rig.wait_phase("refused")
    assert "cannot trust bundle: 0 of 1 needed signatures by a trusted release key" in (
        cascade.message
    )


def test_what_does_not_come_holds_nothing_else_up(rig: Rig, tmp_path: Path) -> None:
    rig.start(extra="[fetch]\ngive_up_s = 0.5\n")
    here, nowhere = (
        one_stage(tmp_path / "a", name="here"),
        one_stage(tmp_path / "b", name="nowhere", seed=9),
    )
    cascade = rig.ship(here)
    missing = rig.ship(nowhere)
    for ref in nowhere.bundle.artifacts:
        rig.link.publish(rig.topics.chunk(ref.sha256, 0), b"", retain=True)
    rig.desire(missing, cascade)
    rig.wait_running(1, "here")
    assert rig.wait_phase("fetching", "nowhere").running is None
    rig.ship(nowhere)
    rig.wait_running(1, "nowhere")


def _wait_for_more(load: Load, count: int) -> None:
    enough = len(load.answers) + count
    wait_for("more answers", lambda: len(load.answers) >= enough)


def _waited_for_a_cpu_s(pid: int) -> float:
    """Return how long threads of a process were ready to run and did not (proc(5), schedstat)."""
    with contextlib.suppress(OSError):
        tasks = Path(f"/proc/{pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[1]) for task in tasks) / 1e9
    return 0.0


def _was_cut(load: Load, times: int) -> bool:
    return len(load.broken) >= times
