"""`ctl`, and `python -m controller`."""

from controller.cli.app import app


def main() -> None:
    """Run the command line and exit with its code."""
    app(prog_name="ctl")


if __name__ == "__main__":
    main()
