"""The device's power, asked for and waited for: for who measures, and has the time."""

import os
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from agent.sensors.added import Added
from agent.sensors.power import PowerMeter
from agent.sensors.rails import InputMeter
from agent.sensors.raspberry_pi import RaspberryPi
from agent.sensors.termux import Termux
from agent.sensors.tree import Tree
from protocols.profile import EnergyMethod

Source = tuple[EnergyMethod, Callable[[], float | None]]


class PowerReader:
    """Reads the best source that tells something now, and that one alone from then on.

    Args:
        sysroot: the folder that has `proc` and `sys`.
        added: names of providers that the user has added.
        environ: where Termux shows itself and programs are looked for.
        first_within_s: a source that takes longer at first is none.
    """

    def __init__(
        self,
        sysroot: Path = Path("/"),
        added: Sequence[str] = (),
        environ: Mapping[str, str] = os.environ,
        *,
        first_within_s: float = 12.0,
    ) -> None:
        sources = _sources(Tree(sysroot), added, environ)
        self._source = next((one for one in sources if _answers(one, first_within_s)), None)

    @property
    def method(self) -> EnergyMethod | None:
        """By which power is found; None: nothing tells it."""
        return self._source[0] if self._source else None

    def watts(self) -> float | None:
        """Return what the whole device takes now; None: it is not told, or was nonsense."""
        return _asked(self._source) if self._source else None


def _sources(tree: Tree, added: Sequence[str], environ: Mapping[str, str]) -> tuple[Source, ...]:
    """Return what may tell it, the most trusted first: meters, rails, then batteries."""
    board, phone = RaspberryPi(tree, environ), Termux(tree, environ)
    into_the_board, battery = InputMeter(tree), PowerMeter(tree)
    into_the_board.discover()
    battery.discover()
    meters = (Added(name) for name in added)
    return (
        *(("meter", lambda meter=meter: meter.take().reading.power_w) for meter in meters),
        ("rail", into_the_board.watts),
        ("rail", lambda: board.take().reading.power_w),
        ("battery", lambda: battery.read().watts),
        ("battery", lambda: phone.take().reading.power_w),
    )


def _answers(source: Source, within_s: float) -> bool:
    """Whether a source tells power, and in time: a stranger's may never answer."""
    said: queue.SimpleQueue[float | None] = queue.SimpleQueue()
    threading.Thread(target=lambda: said.put(_asked(source)), daemon=True).start()
    try:
        return said.get(timeout=within_s) is not None
    except queue.Empty:
        return False


def _asked(source: Source) -> float | None:
    try:
        return source[1]()
    except Exception:  # noqa: BLE001 - a stranger's code among them; there is no figure then
        return None
