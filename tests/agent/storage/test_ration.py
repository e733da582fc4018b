"""Bytes counted on disk, across restarts, days and full disks."""

import contextlib
import errno
from pathlib import Path

import pytest

from agent.errors import WaitError
from agent.storage.allowance import DAY_S, Limits
from agent.storage.files import Disk
from agent.storage.ration import Free, Ration

MIB = 1 << 20
NOON_S = 20_000 * DAY_S + DAY_S / 2


class Clock:
    def __init__(self) -> None:
        self.ts, self.now_s = NOON_S, 100.0

    def ration(self, path: Path, limits: Limits, disk: Disk | None = None) -> Ration:
        found = Ration(path, disk or Disk(), lambda: self.now_s, lambda: self.ts)
        found.limits = limits
        return found


def _left_bytes(ration: Ration) -> int:
    """Use the rest of the day up, a KiB at a time; return how much it was."""
    left = 0
    with contextlib.suppress(WaitError):
        while ration.may_take(1024):
            left += 1024
    return left


def test_the_day_s_bytes_survive_a_restart_and_end_with_the_day(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "downloads.json"
    first = clock.ration(path, Limits(mib_per_day=3))
    assert first.may_take(2 * MIB)
    first.settle()
    second = clock.ration(path, Limits(mib_per_day=3))
    assert second.may_take(MIB)
    with pytest.raises(WaitError, match=r"^waits: the 3 MiB of this day are used up"):
        second.may_take(1)
    clock.ts += DAY_S / 2
    assert second.may_take(3 * MIB)
    with pytest.raises(WaitError):
        second.may_take(1)


def test_a_kill_leaves_at_most_a_mib_uncounted(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "downloads.json"
    killed = clock.ration(path, Limits(mib_per_day=100))
    for _ in range(200):
        killed.may_take(64 * 1024)
    after = clock.ration(path, Limits(mib_per_day=12.5))
    counted = MIB * 12.5 - _left_bytes(after)
    assert 11.5 * MIB <= counted <= 12.5 * MIB


def test_what_came_packed_counts_as_it_came(tmp_path: Path) -> None:
    ration = Clock().ration(tmp_path / "downloads.json", Limits(mib_per_day=1))
    for _ in range(100):
        assert ration.may_take(64 * 1024)
        ration.correct(8 * 1024 - 64 * 1024)
    assert _left_bytes(ration) == pytest.approx(MIB - 100 * 8 * 1024, abs=1024)


def test_bytes_a_second(tmp_path: Path) -> None:
    clock = Clock()
    ration = clock.ration(tmp_path / "downloads.json", Limits(kib_per_s=128))
    assert ration.may_take(64 * 1024)
    assert ration.may_take(64 * 1024)
    assert not ration.may_take(64 * 1024)
    clock.now_s += 0.5
    assert ration.may_take(64 * 1024)
    assert not ration.may_take(1)


def test_what_is_small_is_counted_and_never_refused(tmp_path: Path) -> None:
    ration = Clock().ration(tmp_path / "downloads.json", Limits(kib_per_s=1, mib_per_day=1))
    free = Free(ration)
    assert all(free.may_take(MIB) for _ in range(3))
    with pytest.raises(WaitError):
        ration.may_take(1)


def test_a_full_disk_and_a_damaged_file_stop_nothing(tmp_path: Path) -> None:
    class Full(Disk):
        def sync(self, file: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device", file)

    path = tmp_path / "downloads.json"
    ration = Clock().ration(path, Limits(mib_per_day=9), Full())
    assert ration.may_take(5 * MIB)
    ration.settle()
    assert list(tmp_path.iterdir()) == []
    path.write_text("{")
    assert Clock().ration(path, Limits(mib_per_day=1)).may_take(MIB)
