"""From a desired document to answers: a real agent, a real broker, real models."""

import http.client
import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocols.schedule import Schedule
from tests.agent.picture import Picture
from tests.agent.rig import Rig, expected_top1, one_stage, rigged, two_stages
from tests.brokers import running_broker
from tests.end_to_end.clients import Load, infer
from tests.end_to_end.stack import wait_for

_numbers = itertools.count()


@pytest.fixture(scope="module")
def broker_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_broker(tmp_path_factory.mktemp("broker")) as url:
        yield url


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
        lambda: [
            c
            for c in rig.observer.telemetry[rig.name].cascades
            if c.answers == len(built.x)
        ],
    )
    cascade = rig.cascade()
    assert cascade is not None
    assert [s.state for s in cascade.stages] == ["loaded", "loaded"]
    assert cascade.fetched_bytes == cascade.total_bytes > 4_000_000
