"""`ctl`, and `python -m controller`."""

import sys

from controller.cli.app import app, with_globals_first


def main() -> None:
    """Run the command line and exit with its code."""
    app(with_globals_first(sys.argv[1:]), prog_name="ctl")


if __name__ == "__main__":
    main()
