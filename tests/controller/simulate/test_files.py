import subprocess
import sys
from pathlib import Path

import pytest

from controller.errors import ControllerError
from controller.simulate.files import TraceWriter, read_trace
from protocols.errors import MessageError
from tests.controller.simulate.traces import line


def test_a_file_is_there_after_every_line(tmp_path: Path) -> None:
    path = tmp_path / "new" / "t.jsonl"
    with TraceWriter(path) as writer:
        for number in range(3):
            writer.write(line(float(number)))
            assert read_trace(path).lines[-1] == line(float(number))
    assert path.read_bytes().endswith(b"}\n")


def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    """The limit on a file's size stands for the disk: both let the last write in by half."""
    path = tmp_path / "t.jsonl"
    program = (
        "import resource, pathlib, sys; from controller.errors import ControllerError;"
        "from controller.simulate.files import TraceWriter;"
        "from tests.controller.simulate.traces import line;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000));"
        "w = TraceWriter(pathlib.Path(sys.argv[1])).__enter__()\n"
        "try:\n"
        "    for n in range(100): w.write(line(float(n)))\n"
        "except ControllerError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"cannot write trace {path}: there is no room left for a whole line\n"
    found = read_trace(path)
    assert [one.time_s for one in found.lines] == [float(n) for n in range(len(found.lines))]
    assert 1000 - 200 < path.stat().st_size < 1000


def test_what_cannot_be_written_or_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(ControllerError, match=r"cannot write trace .*: Is a directory"):
        TraceWriter(tmp_path).__enter__()
    with (
        TraceWriter(Path("/dev/full")) as writer,
        pytest.raises(ControllerError, match="cannot write trace /dev/full: No space left"),
    ):
        writer.write(line(1.0))
    with pytest.raises(MessageError, match=r"cannot read trace .*: No such file"):
        read_trace(tmp_path / "nowhere.jsonl")
