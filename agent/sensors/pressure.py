"""Pressure stall information: the share of time that tasks waited for a resource."""

import re
from dataclasses import dataclass

from agent.sensors.reading import within
from agent.sensors.tree import Tree, as_number

_LINE = re.compile(r"^(some|full) avg10=(\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Pressure:
    """Percent of the last 10 s in which some, or all, tasks waited. None: not known."""

    some_avg10: float | None = None
    full_avg10: float | None = None


def read_pressure(tree: Tree, resource: str) -> Pressure:
    """Return the pressure on `cpu` or `memory`.

    The file is missing, or refuses to be read, where the kernel was started without `psi=1`.
    """
    text = tree.text(f"proc/pressure/{resource}") or ""
    values = {kind: within(as_number(value), 0, 100) for kind, value in _LINE.findall(text)}
    return Pressure(values.get("some"), values.get("full"))
