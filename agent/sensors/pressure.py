"""Pressure stall information: the share of time that tasks waited for a resource."""

import re
from dataclasses import dataclass

from agent.sensors.reading import within
from agent.sensors.tree import Tree, as_number

_LINE = re.compile(r"^(some|full) avg10=(\S+)", re.MULTILINE)
_TOTAL_US = re.compile(r"^some .*total=(\d+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Pressure:
    """Percent of the last 10 s in which some, or all, tasks waited. None: not known.

    `some_s`: the time since the boot in which some waited.
    """

    some_avg10: float | None = None
    full_avg10: float | None = None
    some_s: float | None = None


def read_pressure(tree: Tree, resource: str) -> Pressure:
    """Return the pressure on `cpu` or `memory`.

    The file is missing, or refuses to be read, where the kernel was started without `psi=1`.
    """
    text = tree.text(f"proc/pressure/{resource}") or ""
    values = {kind: within(as_number(value), 0, 100) for kind, value in _LINE.findall(text)}
    total_us = _TOTAL_US.search(text)
    some_s = float(total_us[1]) / 1e6 if total_us else None
    return Pressure(values.get("some"), values.get("full"), some_s)
