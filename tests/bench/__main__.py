"""Runs the benchmarks named on the command line, or all: `python -m tests.bench [NAME ...]`.

What follows the name of a benchmark with options goes to it: `... widths --no-curves`.
"""

import pkgutil
import sys
from importlib import import_module
from itertools import takewhile

from tests import bench

WITH_OPTIONS = ("delivery", "kills", "steal", "third_party", "widths")


def names() -> list[str]:
    """Return the benchmarks that there are."""
    found = (module.name for module in pkgutil.iter_modules(bench.__path__))
    return sorted(name for name in found if not name.startswith("_"))


def main(arguments: list[str]) -> int:
    """Run benchmarks one after the other; return the exit code."""
    first = arguments[:1]
    wanted = first if first and first[0] in WITH_OPTIONS else _names_in(arguments)
    options = arguments[len(wanted) :]
    if options and wanted not in ([name] for name in WITH_OPTIONS):
        able = ", ".join(WITH_OPTIONS)
        print(f"cannot take {options[0]}: options are for one benchmark of {able}", file=sys.stderr)
        return 2
    if unknown := set(wanted) - set(names()):
        there = ", ".join(names()) or "none"
        print(f"cannot run {', '.join(sorted(unknown))}: there is {there}", file=sys.stderr)
        return 2
    for name in wanted or names():
        print(f"== {name}", flush=True)
        module = import_module(f"{bench.__name__}.{name}")
        module.main(options) if name in WITH_OPTIONS else module.main()
    return 0


def _names_in(arguments: list[str]) -> list[str]:
    return list(takewhile(lambda word: not word.startswith("-"), arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
