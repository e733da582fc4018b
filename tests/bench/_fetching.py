"""A process that fetches artifacts once it is told to: as an agent does, or with bare requests.

`python -m tests.bench._fetching` reads one JSON line (`Task`), says `ready`, waits for another
line, fetches, and says in JSON how long that took and how much its memory rose.
"""

import dataclasses
import http.client
import json
import queue
import sys
import time
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agent.heap import share_heap
from agent.inbox import FetchDone, FetchFailed, FetchProgress, FetchWaits
from agent.storage.allowance import Order
from agent.storage.artifacts import ArtifactStore
from agent.storage.download import Terms
from agent.storage.fetch import Fetcher
from agent.storage.ration import Ration
from protocols.bundle import ArtifactRef
from protocols.link import Broker
from protocols.topics import Topics

Way = Literal["mqtt", "url", "bare"]

RANGE_BYTES = 8 * 65536
"""Of one bare request: as many bytes as the agent asks for at a time."""

_GIVE_UP_S = 60.0


@dataclass(frozen=True)
class Task:
    """What to fetch, and how; `warm_up` is fetched before anything is measured."""

    way: Way
    device: str
    folder: str
    broker: str
    source: str
    refs: list[str]
    warm_up: str

    @classmethod
    def read(cls, line: str) -> "Task":
        """Return the task that a line holds."""
        return cls(**json.loads(line))

    def line(self) -> str:
        """Return the line that holds it."""
        return json.dumps(dataclasses.asdict(self)) + "\n"


def main() -> None:
    """Do one task."""
    share_heap()  # as the agent does at its start
    task = Task.read(sys.stdin.readline())
    fetch = bare if task.way == "bare" else as_an_agent
    fetch(task, [ArtifactRef.model_validate_json(task.warm_up)])
    print("ready", flush=True)
    sys.stdin.readline()
    before_kib = _memory_kib()
    began_s = time.monotonic()
    fetch(task, [ArtifactRef.model_validate_json(ref) for ref in task.refs])
    took_s = time.monotonic() - began_s
    print(json.dumps({"took_s": took_s, "rose_kib": _peak_kib() - before_kib}), flush=True)


def as_an_agent(task: Task, refs: list[ArtifactRef]) -> None:
    """Fetch with the agent's own fetcher, into a store of its own."""
    said: queue.SimpleQueue[FetchDone | FetchFailed | FetchProgress | FetchWaits] = (
        queue.SimpleQueue()
    )
    folder = Path(task.folder)
    fetcher = Fetcher(
        Broker.parse(task.broker),
        Topics("bench"),
        task.device,
        ArtifactStore(folder),
        said.put,
        Terms(Ration(folder / "downloads.json"), _GIVE_UP_S),
        jitter_s=0.0,
    )
    sources = (task.source,) if task.way == "url" else ()
    fetcher.want(tuple(Order(ref, sources, small=False) for ref in refs))
    missing = {ref.sha256 for ref in refs}
    while missing:
        match said.get(timeout=_GIVE_UP_S):
            case FetchDone(ref):
                missing.discard(ref.sha256)
            case FetchFailed() as failed:
                raise SystemExit(failed.message)
            case _:
                pass
    fetcher.stop()


def bare(task: Task, refs: list[ArtifactRef]) -> None:
    """Fetch by Range requests on one connection, and write what comes to files."""
    folder = Path(task.folder)
    folder.mkdir(exist_ok=True)
    place = urllib.parse.urlsplit(task.source)
    connection = http.client.HTTPConnection(place.netloc, timeout=_GIVE_UP_S)
    for ref in refs:
        with (folder / ref.sha256).open("wb") as file:
            for start in range(0, ref.size_bytes, RANGE_BYTES):
                last = min(start + RANGE_BYTES, ref.size_bytes) - 1
                path = place.path.replace("{sha256}", ref.sha256)
                connection.request("GET", path, headers={"Range": f"bytes={start}-{last}"})
                response = connection.getresponse()
                if response.status != http.client.PARTIAL_CONTENT:
                    raise SystemExit(f"{response.status} for {path}")
                file.write(response.read())
    connection.close()


def _memory_kib() -> int:
    """Return resident memory, and let its peak be counted from now on."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status_kib("VmRSS")


def _peak_kib() -> int:
    return _status_kib("VmHWM")


def _status_kib(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])


if __name__ == "__main__":
    main()
