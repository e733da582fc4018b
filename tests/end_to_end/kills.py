"""An agent that is killed while it fetches and applies a bundle, again and again."""

import collections
import hashlib
import http.client
import random
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from protocols.chunks import WINDOW_CHUNKS
from tests.agent.rig import CLASSES, FEATURES, Rig, small_model
from tests.agent.runner.cascades import Built, Piece, build
from tests.agent.runner.samples import samples
from tests.end_to_end.clients import infer
from tests.end_to_end.stack import wait_for
from tests.models import classifier, random_layers

Where = Literal["before the fetch", "in the fetch", "after the fetch", "after the switch"]

LOG_EVERY_CHUNK = "log_type debug\n"
"""For mosquitto's configuration: it then says of every chunk to whom it was sent."""

_CHUNKS = 60
"""Of a few more that a version of `heavy` has."""

_SENT = re.compile(
    r"Sending PUBLISH to (\S+) \(d\d, q\d, r1, m\d+, '\S+/artifacts/([0-9a-f]{64})/(\d+)', "
    r"\.\.\. \(([1-9]\d*) bytes\)\)"
)


@dataclass(frozen=True)
class Kill:
    """What one kill led to.

    Attributes:
        where: how far the agent was.
        again: chunks that the broker sent to it more than once in this deployment.
        answered: the version that answered first after the restart.
        torn: files of the store whose bytes are not those that their names promise.
        back_s: from the restart until the new version ran.
    """

    where: Where
    again: int
    answered: int
    torn: tuple[str, ...]
    back_s: float


def heavy(folder: Path, version: int) -> Built:
    """Return a bundle of 4 MiB whose bytes are all other than those of every other version's."""
    folder.mkdir()
    small = Piece("small", small_model(version), metric="max_prob", threshold=1.5)
    layers = random_layers(FEATURES, 1024, 1024, CLASSES, seed=version)
    large = Piece("large", classifier(layers))
    return build(folder, [small, large], samples(4, FEATURES), version=version)


class Killer:
    """Deploys one version after the other to a rig's agent, which runs version 1.

    Args:
        rig: its broker must have been told `LOG_EVERY_CHUNK`.
        folder: for the bundles.
        log: the broker's.
        seed: of the moments at which it kills.
    """

    def __init__(self, rig: Rig, folder: Path, log: Path, seed: int) -> None:
        self._rig, self._folder, self._log = rig, folder, log
        self._random = random.Random(seed)  # noqa: S311 - no secret
        self._version = 0

    def settle(self) -> float:
        """Deploy a version without a kill; return how many seconds that took."""
        self._ship()
        began_s = time.monotonic()
        self._await()
        return time.monotonic() - began_s

    def kill(self, within_s: float | None = None) -> Kill:
        """Deploy a version, kill the agent, and start it again.

        Args:
            within_s: at a moment of the next so many seconds; None: at a chunk of the fetch.
        """
        read = self._log.stat().st_size
        self._ship()
        if within_s is None:
            self._await_chunk(read, self._random.randrange(_CHUNKS))
        else:
            time.sleep(self._random.uniform(0.0, within_s))
        where = self._where(read)
        self._rig.stop(signal.SIGKILL)
        self._rig.start()
        answered = self._answered()
        began_s = time.monotonic()
        self._await()
        back_s = time.monotonic() - began_s
        return Kill(where, self._sent_again(read), answered, tuple(self._torn()), back_s)

    @property
    def version(self) -> int:
        """The version that was deployed last."""
        return self._version

    def _ship(self) -> None:
        self._version += 1
        built = heavy(self._folder / f"v{self._version}", self._version)
        self._rig.desire(self._rig.ship(built))

    def _await(self) -> None:
        self._rig.wait_running(self._version)

    def _where(self, read: int) -> Where:
        if self._rig.observer.running(self._rig.name, "digits", self._version):
            return "after the switch"
        if not self._sent(read):
            return "before the fetch"
        return "in the fetch" if list(self._partial.iterdir()) else "after the fetch"

    @property
    def _partial(self) -> Path:
        return self._rig.state_dir / "partial"

    def _await_chunk(self, read: int, number: int) -> None:
        """Wait until so many chunks were sent, or there are no more."""
        wait_for("chunks", lambda: self._sent(read).total() > number, timeout_s=30.0)

    def _answered(self) -> int:
        """Return which version answers first."""
        connection = http.client.HTTPConnection(*self._rig.address(), timeout=30)
        try:
            sample = samples(1, FEATURES)[0]
            return int(infer(connection, "digits", sample, "FP32").version)
        finally:
            connection.close()

    def _sent_again(self, read: int) -> int:
        sent = self._sent(read)
        return sent.total() - len(sent)

    def _sent(self, read: int) -> collections.Counter[tuple[str | Any, ...]]:
        """Return how often each chunk was sent, by the log from a place on."""
        with self._log.open(errors="replace") as file:
            file.seek(read)
            found = (_SENT.search(line) for line in file)
            return collections.Counter(match.group(2, 3) for match in found if match)

    def _torn(self) -> Iterator[str]:
        for path in (self._rig.state_dir / "artifacts").iterdir():
            if hashlib.sha256(path.read_bytes()).hexdigest() != path.name:
                yield path.name


def faults(kill: Kill, version: int) -> list[str]:
    """Say what a kill led to that it must not."""
    found = []
    if kill.again > WINDOW_CHUNKS:
        found.append(f"{kill.again} chunks were sent again, a window is {WINDOW_CHUNKS}")
    if kill.answered not in {version - 1, version}:
        found.append(f"version {kill.answered} answered in place of {version - 1} or {version}")
    if kill.torn:
        found.append(f"torn in the store: {', '.join(kill.torn)}")
    return found
