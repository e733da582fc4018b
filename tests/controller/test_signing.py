import stat
from pathlib import Path

import pytest

from controller.errors import HomeError
from controller.home import Home
from controller.signing import generate_keys, has_key, key_path, load_signer
from protocols.desired import Desired, Pins
from protocols.envelope import DESIRED, PINS, verify
from protocols.errors import TrustError
from protocols.schedule import Schedule
from tests.controller.conftest import FLEET, new_home

DESIRED_DOCUMENT = Desired(fleet=FLEET, device="pi", generation=1, schedule=Schedule())


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return new_home(tmp_path)


def test_keys_are_for_their_owner_alone_and_trusted(home: Home) -> None:
    for role in ("release", "controller"):
        path = key_path(home, role)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert has_key(home, role)
        assert load_signer(home, role).key_id in {key.key_id for key in home.trust().keys}
    assert stat.S_IMODE(home.keys_dir.stat().st_mode) == 0o700


def test_nothing_is_overwritten(home: Home) -> None:
    before = key_path(home, "release").read_bytes()

    with pytest.raises(HomeError, match="exists"):
        generate_keys(home)

    assert key_path(home, "release").read_bytes() == before


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
def test_a_key_that_others_may_touch_is_refused(home: Home, mode: int) -> None:
    path = key_path(home, "release")
    path.chmod(mode)

    with pytest.raises(HomeError, match=f"mode {mode:04o}, want 0600"):
        load_signer(home, "release")


@pytest.mark.parametrize(("content", "said"), [("", "0 bytes"), ("!!", "cannot use key")])
def test_a_damaged_key_is_refused(home: Home, content: str, said: str) -> None:
    key_path(home, "release").write_text(content)

    with pytest.raises(HomeError, match=said):
        load_signer(home, "release")


def test_a_missing_key_says_what_to_do(home: Home) -> None:
    key_path(home, "controller").unlink()

    with pytest.raises(HomeError, match="ctl keygen"):
        load_signer(home, "controller")


def test_a_key_that_nobody_trusts_is_refused(home: Home, tmp_path: Path) -> None:
    other = new_home(tmp_path / "other")
    key_path(home, "controller").write_bytes(key_path(other, "controller").read_bytes())

    with pytest.raises(HomeError, match="does not trust"):
        load_signer(home, "controller")


def test_what_is_signed_verifies_and_roles_are_kept_apart(home: Home) -> None:
    release, controller = load_signer(home, "release"), load_signer(home, "controller")
    pins = Pins(fleet=FLEET, device="pi")

    assert Pins.decode(verify(release.sign_pins(pins), PINS, home.trust())) == pins
    envelope = controller.sign_desired(DESIRED_DOCUMENT)
    assert Desired.decode(verify(envelope, DESIRED, home.trust())) == DESIRED_DOCUMENT
    with pytest.raises(HomeError, match="needs the release key"):
        controller.sign_pins(pins)
    with pytest.raises(HomeError, match="needs the controller key"):
        release.sign_desired(DESIRED_DOCUMENT)


def test_a_fleet_does_not_trust_another_ones_keys(home: Home, tmp_path: Path) -> None:
    envelope = load_signer(new_home(tmp_path / "other"), "controller").sign_desired(
        DESIRED_DOCUMENT
    )

    with pytest.raises(TrustError, match="0 of 1"):
        verify(envelope, DESIRED, home.trust())


def test_a_key_never_shows(home: Home) -> None:
    signer = load_signer(home, "release")

    assert repr(signer) == f"Signer(release {signer.key_id})"
