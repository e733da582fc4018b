"""Whether the link costs, where NetworkManager knows it. Android tells it to apps alone."""

from collections.abc import Mapping

from agent.errors import SensorError
from agent.sensors.background import Background, Pace, Report
from agent.sensors.command import Command, find_program
from agent.sensors.provider import Quiet
from agent.sensors.reading import NOTHING, Reading
from agent.sensors.tree import Tree

_RUNS = "run/NetworkManager"
_PACE = Pace(every_s=60.0, limit_s=2.0)
_SERVICE = "org.freedesktop.NetworkManager"
_QUESTION = (
    *("--system", "get-property", _SERVICE),
    *("/org/freedesktop/NetworkManager", _SERVICE, "Metered"),
)
_WORDS = {"u 1": True, "u 2": False, "u 3": True, "u 4": False}
"""NMMetered: 0 unknown, 1 yes, 2 no, 3 and 4 yes and no as it guesses."""


class Network(Quiet):
    """What NetworkManager says of the primary connection, asked once a minute.

    That it says nothing is no loss: nothing is held up by what is not known.
    """

    def __init__(self, tree: Tree, environ: Mapping[str, str]) -> None:
        program = find_program("busctl", environ) if tree.has(_RUNS) else None
        self._command = Command(program, *_QUESTION, limit_s=_PACE.limit_s) if program else None
        self._asked = Background("NetworkManager", self._take, _PACE) if program else None

    def read(self, now_s: float) -> Reading:
        """Return what is known of the link, and nothing else."""
        return self._asked.latest(now_s) if self._asked else NOTHING

    def close(self) -> None:
        """End a question that is under way."""
        if self._command:
            self._command.close()

    def _take(self) -> Report:
        if self._command is None:
            return Report(NOTHING)
        return Report(parse_metered(self._command.output()))


def parse_metered(text: str) -> Reading:
    """Read a property as busctl prints it.

    Raises:
        SensorError: it is none.
    """
    if text.strip() == "u 0":
        return NOTHING
    try:
        return Reading(metered=_WORDS[text.strip()])
    except KeyError:
        raise SensorError(f"busctl says {text[:40]!r}") from None
