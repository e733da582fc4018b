import time

from controller.signing import key_path
from tests.controller.cli.conftest import Bench


def levels(bench: Bench, code: int = 0) -> dict[str, str]:
    """Return check -> level; the machine that tests run on has what it has."""
    return {c["name"]: c["level"] for c in bench.ctl_json("doctor", code=code)}


def test_all_is_well(bench: Bench) -> None:
    bench.shelve()
    serve = bench.start("serve")
    try:
        with bench.fleet(bench.device("pi-1")):
            deadline = time.monotonic() + 20
            while (found := levels(bench))["controllers"] != "ok":
                assert time.monotonic() < deadline
        unwell = {name for name, level in found.items() if level != "ok"}
        assert unwell <= {"embedded broker", "interpreter"}
    finally:
        serve.terminate()
        serve.communicate(timeout=20)
    assert serve.returncode == 0


def test_a_key_that_others_can_read_fails(bench: Bench) -> None:
    key_path(bench.home, "release").chmod(0o644)
    found = levels(bench, code=1)
    assert found["release key"] == "fail"
    assert found["controller key"] == "ok"


def test_a_damaged_catalog_fails(bench: Bench) -> None:
    ref = bench.shelve()
    bench.home.artifact_path(ref.artifact.sha256).write_bytes(b"not it")
    done = bench.ctl("doctor", code=1)
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("catalog"))
    assert "fail" in line
    assert "its bytes have changed" in line


def test_without_keys_and_without_a_broker(bare: Bench) -> None:
    found = levels(Bench(bare.home, "mqtt://127.0.0.1:9"), code=1)
    assert found["release key"] == "warn"
    assert found["trust"] == "fail"
    assert found["broker"] == "fail"
