"""A few kills in the middle of a fetch and of an exchange; `tests.bench kills` does many more."""

from pathlib import Path

import pytest

from controller.broker import find_mosquitto
from tests.agent.rig import rigged
from tests.brokers import running_broker
from tests.end_to_end.kills import LOG_EVERY_CHUNK, Killer, faults

KILLS = 3


@pytest.mark.skipif(find_mosquitto() is None, reason="counts chunks in mosquitto's log")
def test_a_killed_agent_goes_on_where_it_was(tmp_path: Path) -> None:
    with running_broker(tmp_path, more=LOG_EVERY_CHUNK) as url, rigged(tmp_path, url, "pi") as rig:
        (log,) = tmp_path.glob("mosquitto-*.log")
        rig.start()
        killer = Killer(rig, tmp_path, log, seed=1)
        killer.settle()
        within_s = killer.settle()
        for number in range(KILLS):
            kill = killer.kill(within_s if number % 2 else None)
            assert faults(kill, killer.version) == []
