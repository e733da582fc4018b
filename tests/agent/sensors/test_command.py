"""Programs that are asked: real ones, which sleep, shout, fail and leave children behind."""

import os
import threading
import time
from pathlib import Path

import pytest

from agent.errors import HungError, SensorError
from agent.sensors.command import Command, find_program
from tests.agent.sensors.machines import program, until


def command(folder: Path, script: str, limit_s: float = 10.0) -> Command:
    path = find_program("tell", program(folder, "tell", script))
    assert path is not None
    return Command(path, limit_s=limit_s)


def alive(pid_file: Path) -> bool:
    """Whether a process that wrote down its number lives; a zombie does not."""
    try:
        stat = Path(f"/proc/{int(pid_file.read_text())}/stat").read_text()
    except (OSError, ValueError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def test_what_it_prints(tmp_path: Path) -> None:
    assert command(tmp_path, "echo 1; echo 2 >&2; cat; echo 3").output() == "1\n3\n"


def test_it_is_not_installed_or_does_not_start(tmp_path: Path) -> None:
    assert find_program("tell", {"PATH": str(tmp_path)}) is None
    with pytest.raises(SensorError, match="does not start"):
        Command(str(tmp_path / "tell"), limit_s=1.0).output()


def test_it_fails_or_never_stops_printing(tmp_path: Path) -> None:
    with pytest.raises(SensorError, match="ends with code 3"):
        command(tmp_path, "echo 1; exit 3").output()
    with pytest.raises(SensorError, match="more than 64 KiB"):
        command(tmp_path, "exec yes").output()


@pytest.mark.parametrize(
    "script",
    [
        "echo $$ > {pid}; echo begun; exec sleep 60",
        "sleep 60 & echo $! > {pid}; wait",
        "sleep 60 & echo $! > {pid}; exit 0",
        "exec >&- ; echo $$ > {pid}; exec sleep 60",
        "trap '' TERM INT; echo $$ > {pid}; while :; do sleep 1; done",
    ],
    ids=["hangs", "waits for a child", "leaves a child", "closes its output", "does not obey"],
)
def test_what_hangs_is_killed_with_all_its_children(tmp_path: Path, script: str) -> None:
    pid_file = tmp_path / "pid"
    begun_s = time.monotonic()
    with pytest.raises(HungError, match=r"does not answer within 0\.5 s"):
        command(tmp_path, script.format(pid=pid_file), limit_s=0.5).output()
    assert time.monotonic() - begun_s < 5
    assert pid_file.read_text().strip()
    until(lambda: not alive(pid_file))


def test_at_the_end_nothing_is_left(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    tell = command(tmp_path, f"echo $$ > {pid_file}; exec sleep 60", limit_s=30.0)
    failures: list[Exception] = []

    def run() -> None:
        try:
            tell.output()
        except SensorError as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    until(lambda: alive(pid_file))
    tell.close()
    thread.join(10)
    assert not alive(pid_file)
    assert len(failures) == 1
    with pytest.raises(SensorError):
        tell.output()


def test_it_is_in_a_group_of_its_own(tmp_path: Path) -> None:
    text = command(tmp_path, "echo $$; cut -d ' ' -f 5 /proc/$$/stat").output()
    pid, group = map(int, text.split())
    assert pid == group != os.getpgrp()
