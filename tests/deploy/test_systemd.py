"""The units: systemd knows every key, they are hardened, and they start what is there."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent.config import Config, read_toml

SYSTEMD = Path(__file__).parents[2] / "deploy" / "systemd"
COMMANDS = Path(sys.executable).parent
"""Where the console scripts of the environment under test are."""

every_unit = pytest.mark.parametrize("name", ["sluice-agent", "sluice-controller"])


def unit(name: str) -> str:
    return (SYSTEMD / f"{name}.service").read_text()


def installed(name: str, folder: Path) -> Path:
    """Return a copy of a unit whose commands are those of this environment."""
    copy = folder / f"{name}.service"
    copy.write_text(unit(name).replace("/opt/sluice/bin", str(COMMANDS)))
    return copy


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


@every_unit
def test_systemd_knows_every_key(name: str, tmp_path: Path) -> None:
    done = analyze("verify", "--recursive-errors=no", installed(name, tmp_path))
    assert (done.returncode, done.stderr) == (0, "")


def test_the_check_above_would_notice(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.service"
    wrong.write_text("[Service]\nExecStart=/bin/true\nWatchDogSeconds=1\n")
    done = analyze("verify", "--recursive-errors=no", wrong)
    assert "Unknown key" in done.stderr


@every_unit
def test_the_exposure_is_low(name: str, tmp_path: Path) -> None:
    unit_file = installed(name, tmp_path)
    done = analyze("security", "--offline=yes", "--threshold=20", "--no-pager", unit_file)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "line",
    [
        "Type=notify",
        "WatchdogSec=60",
        "Restart=always",
        "StartLimitIntervalSec=0",
        "OOMPolicy=continue",
        "StateDirectory=sluice",
        "RuntimeDirectory=sluice",
    ],
)
def test_the_agent_survives(line: str) -> None:
    assert line in unit("sluice-agent").splitlines()


@pytest.mark.parametrize("line", ["ProcSubset=pid", "SystemCallFilter=~@resources"])
def test_what_breaks_the_agent_is_left_out(line: str) -> None:
    assert line not in unit("sluice-agent").splitlines()
    assert "AF_NETLINK" in unit("sluice-agent")


@every_unit
def test_the_command_is_one_that_there_is(name: str) -> None:
    found = re.search(r"^ExecStart=(.+)$", unit(name), re.MULTILINE)
    assert found is not None
    program, subcommand, *options = found[1].split()
    command = [COMMANDS / Path(program).name, subcommand, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(option in done.stdout for option in options if option.startswith("--"))


def test_the_example_configuration_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/sluice")
    config = Config.parse(read_toml(SYSTEMD / "agent.toml"), "agent.toml")
    assert config.state_dir == Path("/var/lib/sluice")
    assert config.unix_path() == Path("/run/sluice/infer.sock")
    assert config.session().url == "mqtt://broker.lan:1883"


def test_what_the_example_configuration_has_commented_out_is_valid_too(tmp_path: Path) -> None:
    text = (SYSTEMD / "agent.toml").read_text()
    whole = re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE)
    assert whole.count("# ") < text.count("# ")
    (tmp_path / "agent.toml").write_text(whole)
    config = Config.parse(read_toml(tmp_path / "agent.toml"), "agent.toml")
    assert config.broker.username == "pi-1"
    assert config.broker.password_file is not None
    assert "LoadCredential=mqtt-password:" in unit("sluice-agent")
    assert config.broker.password_file.name == "mqtt-password"
