"""A home with keys and cascades, a real broker, a scripted fleet, and `ctl` on all of them."""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from controller.catalog import Catalog
from controller.cli.app import app
from controller.home import Home
from controller.signing import generate_keys, load_signer
from protocols.bundle import BundleRef
from tests.brokers import running_broker
from tests.controller.cascades import DIGITS, Piece, make_bundle, shelve
from tests.fleet import Device, Fleet, Script


@dataclass(frozen=True)
class Bench:
    """One home folder and fleet of its own on a broker."""

    home: Home
    broker_url: str

    def ctl(self, *arguments: str, code: int = 0) -> Result:
        """Run one command in this process and check its exit code."""
        done = CliRunner(env={"COLUMNS": "120"}).invoke(app, [*self.globals, *arguments])
        if isinstance(done.exception, Exception) and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == code, f"{arguments}: {done.exit_code}\n{done.output}"
        return done

    def ctl_json(self, *arguments: str, code: int = 0) -> Any:  # noqa: ANN401 - any document
        """Run one command with `-o json` and return what it printed."""
        return json.loads(self.ctl(*arguments, "-o", "json", code=code).stdout)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command as a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "controller", *self.globals, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "NO_COLOR": "1"},
        )

    @property
    def globals(self) -> list[str]:
        """The options before the command."""
        return [
            *("--home", str(self.home.folder)),
            *("--broker", self.broker_url),
            *("--fleet", self.home.fleet),
        ]

    def shelve(
        self, version: int = 1, *, name: str = "digits", pieces: Sequence[Piece] = DIGITS
    ) -> BundleRef:
        """Sign a bundle and put it into the catalog by name and version."""
        bundle = make_bundle(pieces, name=name, version=version)
        shelve(self.home, bundle)
        catalog = Catalog(self.home)
        envelope = load_signer(self.home, "release").sign_bundle(bundle)
        with catalog.locked():
            return catalog.save_bundle(bundle, envelope)

    def device(self, name: str, script: Script | None = None, **more: Any) -> Device:  # noqa: ANN401
        """Return a device that trusts the home's keys."""
        return Device(name, self.home.topics, self.home.trust(), script=script or Script(), **more)

    def fleet(self, *devices: Device) -> Fleet:
        """Return devices on the broker, to be used as a context manager."""
        return Fleet(self.home.broker, *devices)


@pytest.fixture(scope="session")
def shared_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a broker for all tests of these commands; each has a fleet of its own."""
    with running_broker(tmp_path_factory.mktemp("broker")) as url:
        yield url


@pytest.fixture
def bare(tmp_path: Path, shared_broker: str) -> Bench:
    """A home without keys."""
    fleet = f"f{uuid.uuid4().hex[:10]}"
    home = Home.open(tmp_path / "home", broker=shared_broker, fleet=fleet, environ={})
    return Bench(home, shared_broker)


@pytest.fixture
def bench(bare: Bench) -> Bench:
    """A home with keys."""
    generate_keys(bare.home)
    return bare
