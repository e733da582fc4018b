"""Does it go into memory, and does it stay there."""

from agent.cascades.fit import leaves_room
from protocols.device import Sample
from protocols.schedule import DEFAULT_THRESHOLDS


def test_what_is_left_must_not_ask_for_the_worse_rung_again() -> None:
    line = DEFAULT_THRESHOLDS["memory_available_percent"]
    sample = Sample(time_s=0, memory_total_mib=1000, memory_available_mib=300)
    assert leaves_room(sample, 20, 0, line)  # 28 % left, R1 begins at 25 %
    assert not leaves_room(sample, 40, 0, line)
    assert leaves_room(sample, 149, 2, line)  # 15.1 % left, R3 begins at 13 %
    assert not leaves_room(sample, 150, 2, line)
    assert leaves_room(Sample(time_s=0), 1e6, 0, line)
    assert leaves_room(sample, 1e6, 0, None)
