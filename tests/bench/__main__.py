"""Runs the benchmarks named on the command line, or all: `python -m tests.bench [NAME ...]`."""

import pkgutil
import sys
from importlib import import_module

from tests import bench


def names() -> list[str]:
    """Return the benchmarks that there are."""
    return sorted(m.name for m in pkgutil.iter_modules(bench.__path__) if m.name != "__main__")


def main(wanted: list[str]) -> int:
    """Run benchmarks one after the other; return the exit code."""
    if unknown := set(wanted) - set(names()):
        there = ", ".join(names()) or "none"
        print(f"cannot run {', '.join(sorted(unknown))}: there is {there}", file=sys.stderr)
        return 2
    for name in wanted or names():
        print(f"== {name}", flush=True)
        import_module(f"{bench.__name__}.{name}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
