import stat

from controller.signing import key_path
from tests.controller.cli.conftest import Bench


def test_makes_keys_and_says_where_trust_must_go(bare: Bench) -> None:
    done = bare.ctl("keygen")
    assert str(bare.home.trust_file) in done.stdout
    assert f"Copy {bare.home.trust_file} to every device" in done.stderr
    for role in ("release", "controller"):
        assert stat.S_IMODE(key_path(bare.home, role).stat().st_mode) == 0o600


def test_json_has_public_keys_only(bare: Bench) -> None:
    made = bare.ctl_json("keygen")
    assert made["fleet"] == bare.home.fleet
    assert {key["role"] for key in made["keys"]} == {"release", "controller"}
    assert key_path(bare.home, "release").read_text().strip() not in str(made)


def test_overwrites_nothing(bench: Bench) -> None:
    before = bench.home.trust_file.read_bytes()
    done = bench.ctl("keygen", code=1)
    assert done.stderr.startswith("cannot generate keys")
    assert bench.home.trust_file.read_bytes() == before
