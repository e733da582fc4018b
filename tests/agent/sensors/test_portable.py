"""What psutil says must be what `/proc` says where both speak."""

from pathlib import Path

import pytest

from agent.sensors import portable
from agent.sensors.memory import read_meminfo_mib
from agent.sensors.tree import Tree
from tests.agent.sensors.machines import MIB


def test_memory_is_that_of_proc() -> None:
    known = portable.memory_bytes()
    assert known is not None
    info = read_meminfo_mib(Tree(Path("/")))
    total, available = known
    assert total / MIB == info["MemTotal"]
    assert available / MIB == pytest.approx(info["MemAvailable"], rel=0.25)


def test_cpu_times_only_rise() -> None:
    before, after = portable.cpu_times(), portable.cpu_times()
    assert before is not None
    assert after is not None
    assert 0 < before[0] < before[1]
    assert after[1] >= before[1]
