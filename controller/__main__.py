"""`ctl`, and `python -m controller`."""

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        from controller.cli.app import app, with_globals_first  # noqa: PLC0415 - see below
    except ModuleNotFoundError as error:
        # A device has this command too, but not what only the controller needs.
        sys.exit(
            f"cannot run ctl: {error.name} is not installed; install Sluice with its extra "
            "`controller`, as deploy/README.md says"
        )
    app(with_globals_first(sys.argv[1:]), prog_name="ctl")


if __name__ == "__main__":
    main()
