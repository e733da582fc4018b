"""All that tells of this machine, as one sample."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from agent.sensors.added import Added
from agent.sensors.linux import Linux
from agent.sensors.network import Network
from agent.sensors.provider import Provider
from agent.sensors.raspberry_pi import RaspberryPi
from agent.sensors.reading import Reading, sample_of
from agent.sensors.termux import Termux
from agent.sensors.tree import Tree
from protocols.device import Sample

_DISCOVER_EVERY_S = 60.0


def no_runners() -> tuple[int, ...]:
    """Return no pid: an agent that has no runners yet."""
    return ()


class Sensors:
    """The sensors of the machine below `sysroot`; one thread at a time may use them.

    Args:
        sysroot: the folder that has `proc` and `sys`.
        own_pids: the runners' processes, whose CPU time is not foreign. That of the process that
            samples never is, and children that have ended are found in their parent's.
        added: names of providers that the user has added; where several know a thing, they count
            before the machine's own, in this order.
        metered: what the user says of the link; None: nothing.
        environ: the environment, where Termux shows itself and programs are looked for.
    """

    def __init__(
        self,
        sysroot: Path = Path("/"),
        own_pids: Callable[[], Iterable[int]] = no_runners,
        *,
        added: Sequence[str] = (),
        metered: bool | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        tree = Tree(sysroot)
        network = [Network(tree, environ)] if metered is None else []
        self._providers = (
            *(Added(name) for name in added),
            *_of_its_own(tree, own_pids, environ),
            *network,
        )
        self._told = Reading(metered=metered)
        self._discovered_s: float | None = None

    def sample(self, now_s: float) -> Sample:
        """Read all sensors; None for what the machine has not, hides, or tells nonsense about.

        CPU use is that since the sample before, so the first sample has none. A sample that
        follows within 0.2 s repeats it and reads everything else afresh, but for what takes a
        program or a provider of the user's: that is as fresh as such a source can be.

        Args:
            now_s: monotonic clock, which becomes the sample's time.
        """
        self._discover(now_s)
        readings = [provider.read(now_s) for provider in self._providers]
        return sample_of([self._told, *readings], now_s)

    def complaints(self) -> tuple[str, ...]:
        """Return which sources have been lost since this was last asked, each once."""
        return tuple(text for provider in self._providers for text in provider.complaints())

    def close(self) -> None:
        """Leave no process behind."""
        for provider in self._providers:
            provider.close()

    def _discover(self, now_s: float) -> None:
        last = self._discovered_s
        if last is None or not 0 <= now_s - last < _DISCOVER_EVERY_S:
            for provider in self._providers:
                provider.discover()
            self._discovered_s = now_s


def _of_its_own(
    tree: Tree, own_pids: Callable[[], Iterable[int]], environ: Mapping[str, str]
) -> tuple[Provider, ...]:
    """Return the platforms, all of them: what a machine is not tells nothing and costs nothing."""
    return Linux(tree, own_pids), RaspberryPi(tree, environ), Termux(tree, environ)
