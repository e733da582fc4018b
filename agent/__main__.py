"""`sluice-agent`: the agent's command line."""

import argparse
import faulthandler
import logging
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from agent.config import Config, read_toml
from agent.errors import StartError
from agent.reporting.inventory import agent_version

CANNOT_START = 2


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit with its code."""
    asked = _parser().parse_args(arguments)
    if asked.command == "version":
        sys.stdout.write(f"sluice-agent {agent_version()}\n")
        sys.exit(0)
    _log_to_stderr(asked.verbose)
    faulthandler.enable()
    try:
        sys.exit(_COMMANDS[asked.command](asked))
    except StartError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(CANNOT_START)


def _run(asked: argparse.Namespace) -> int:
    from agent.heap import share_heap  # noqa: PLC0415 - after the arguments are known good
    from agent.supervisor import Supervisor  # noqa: PLC0415

    share_heap()
    return Supervisor(_config(asked)).run()


def _check(asked: argparse.Namespace) -> int:
    from agent.check import check  # noqa: PLC0415 - `run` never needs it

    good = True
    for finding in check(lambda: _config(asked)):
        sys.stdout.write(f"{'ok  ' if finding.good else 'FAIL'} {finding.text}\n")
        good = good and finding.good
    return 0 if good else CANNOT_START


def _tune(asked: argparse.Namespace) -> int:
    from agent.tune import tune_device, tune_files  # noqa: PLC0415 - `run` never needs it

    as_json = asked.output == "json"
    if asked.files:
        return tune_files(asked.files, asked.watts_per_cpu, as_json=as_json)
    return tune_device(_config(asked), as_json=as_json)


def _enroll(asked: argparse.Namespace) -> int:
    from agent.enroll import enroll  # noqa: PLC0415 - `run` never needs it

    return enroll(asked.file, asked.dir, asked.state, force=asked.force)


_COMMANDS = {"run": _run, "check": _check, "tune": _tune, "enroll": _enroll}


def _config(asked: argparse.Namespace) -> Config:
    """Read the configuration file, if one is named; options go before what it says.

    Raises:
        StartError: it does not fit.
    """
    if asked.config is None and not (asked.broker and asked.id):
        raise StartError("cannot start: give --config FILE, or --broker URL and --id NAME")
    if asked.broker and urlsplit(asked.broker).password:
        raise StartError(
            "cannot start: no password on a command line, where `ps` shows it: [broker] username "
            "and password_file of --config FILE take it"
        )
    document = {} if asked.config is None else read_toml(asked.config)
    options = {
        "id": asked.id,
        "fleet": asked.fleet,
        "trust": asked.trust,
        "state_dir": asked.state,
        "broker": asked.broker and _section(document, "broker") | {"url": asked.broker},
        "inference": asked.listen and _section(document, "inference") | {"tcp": asked.listen},
    }
    document |= {key: value for key, value in options.items() if value}
    return Config.parse(document, "command line" if asked.config is None else str(asked.config))


def _section(document: dict[str, Any], name: str) -> dict[str, Any]:
    section = document.get(name)
    return section if isinstance(section, dict) else {}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sluice-agent", description="Sluice on the device.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("run", "run until SIGTERM"),
        ("check", "say what would keep it from running"),
        ("tune", "measure how the models of this device, or FILEs, run best"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--config", type=Path, metavar="FILE", help="agent.toml")
        command.add_argument("--broker", metavar="URL", help="mqtt://host[:port] or mqtts://")
        command.add_argument("--id", metavar="NAME", help="of this device")
        command.add_argument("--fleet", metavar="NAME", help="default: home")
        command.add_argument("--trust", metavar="FILE", help="the fleet's trust.json")
        command.add_argument("--state", metavar="DIR", help="where artifacts and state are kept")
        command.add_argument("--listen", metavar="HOST:PORT", help="default: 127.0.0.1:8000")
        command.add_argument("-v", "--verbose", action="store_true", help="log more")
    tune = commands.choices["tune"]
    tune.add_argument("files", nargs="*", type=Path, metavar="FILE", help="a .tflite file")
    tune.add_argument("-o", "--output", choices=("table", "json"), default="table")
    tune.add_argument(
        "--watts-per-cpu", type=float, metavar="W", help="estimate energy (FILEs): of a busy CPU"
    )
    text = "become a member of a fleet, by the file that `ctl device add` wrote"
    enroll = commands.add_parser("enroll", help=text, description=text)
    enroll.add_argument("file", type=Path, metavar="FILE", help="used once, then deleted")
    enroll.add_argument(
        "--dir", type=Path, metavar="DIR", help="default: /etc/sluice, or ~/.config/sluice-agent"
    )
    enroll.add_argument("--state", type=Path, metavar="DIR", help="where artifacts are kept")
    enroll.add_argument("--force", action="store_true", help="replace another device's identity")
    enroll.add_argument("-v", "--verbose", action="store_true", help="log more")
    commands.add_parser("version", help="print the version")
    return parser


def _log_to_stderr(verbose: bool) -> None:  # noqa: FBT001 - a flag of the command line
    stamp = "" if "JOURNAL_STREAM" in os.environ else "%(asctime)s "
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format=f"{stamp}%(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )


if __name__ == "__main__":
    main()
