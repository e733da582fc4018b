import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from controller.cli.app import with_globals_first
from tests.controller.cli.conftest import Bench

HEAVY = ("numpy", "paho", "pydantic", "cryptography", "ai_edge_litert", "psutil")


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from typer.testing import CliRunner; from controller.cli.app import app;"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0;"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    "command",
    ["deploy", "plan", "events", "top", "doctor", "serve", "broker", "threads", "keygen"],
)
def test_every_help_has_an_example(bench: Bench, command: str) -> None:
    assert f"Example: ctl {command}" in bench.ctl(command, "--help").stdout.replace(
        "--fleet home ", ""
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("device ls --fleet home -o json", "--fleet home device ls -o json"),
        ("deploy x --broker=mqtt://a:1 --debug", "--broker=mqtt://a:1 --debug deploy x"),
        ("events -- --fleet", "events -- --fleet"),
        ("--home /x doctor", "--home /x doctor"),
        ("doctor --home", "--home doctor"),
        ("model ls --json", "model ls --output=json"),
        ("x -- --json", "x -- --json"),
        ("", ""),
    ],
)
def test_global_options_may_stand_anywhere(words: str, expected: str) -> None:
    assert with_globals_first(words.split()) == expected.split()


def test_version(bench: Bench) -> None:
    assert bench.ctl("--version").stdout.startswith("ctl ")


def test_an_unknown_option_is_code_2(bench: Bench) -> None:
    assert bench.ctl("device", "ls", "--nonsense", code=2)


def test_debug_shows_where_an_error_came_from(bench: Bench) -> None:
    assert "Traceback" not in bench.ctl("deploy", "nothing", code=2).stderr
    assert "Traceback" in bench.ctl("--debug", "deploy", "nothing", code=2).stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [("ctl deploy di", ["digits"]), ("ctl plan digits@", ["digits@1", "digits@2"])],
)
def test_a_shell_completes_cascades_of_the_catalog(
    bench: Bench, words: str, expected: list[str]
) -> None:
    bench.shelve(1)
    bench.shelve(2)
    done = subprocess.run(
        [sys.executable, "-m", "controller"],
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "SLUICE_HOME": str(bench.home.folder),
            "SLUICE_FLEET": bench.home.fleet,
            "_CTL_COMPLETE": "complete_zsh",
            "_TYPER_COMPLETE_ARGS": words,
        },
    )
    assert all(f'"{name}"' in done.stdout for name in expected), done.stdout + done.stderr


def test_broker_runs_until_it_is_told_to_stop(bare: Bench, tmp_path: Path) -> None:
    process = bare.start("broker", "--port", "0", "--data", str(tmp_path / "b"), "-o", "json")
    assert process.stdout is not None
    running = json.loads(process.stdout.readline())
    try:
        assert Bench(bare.home, running["url"]).ctl_json("device", "ls") == []
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    assert process.returncode == 0


def test_serve_carries_out_what_was_published_while_nobody_served(bench: Bench) -> None:
    bench.shelve()
    key = bench.home.keys_dir / "controller.key"
    hidden = key.rename(bench.home.keys_dir / "elsewhere.key")
    with bench.fleet(bench.device("pi-1")) as fleet:
        bench.ctl("deploy", "digits", "--detach")
        hidden.rename(key)
        serve = bench.start("serve", "--revise-after", "1m", "-o", "json")
        assert serve.stdout is not None
        try:
            assert json.loads(serve.stdout.readline())["fleet"] == bench.home.fleet
            deadline = time.monotonic() + 20
            while not fleet.devices["pi-1"].cascades:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        finally:
            serve.terminate()
            serve.communicate(timeout=20)
    assert serve.returncode == 0


def test_output_that_nobody_reads_any_more(bench: Bench) -> None:
    with bench.fleet(bench.device("pi-1")) as fleet:
        process = bench.start("events", "-f")
        assert process.stdout is not None
        process.stdout.close()
        deadline = time.monotonic() + 20
        while process.poll() is None:
            fleet.say("pi-1", "loaded", "again")
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
        process.stderr.close()
