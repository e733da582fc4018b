"""The authority on disk: made once, never lost, and secret."""

import shutil
import stat
from pathlib import Path

import pytest

from controller.enrolment.register import BrokerPlace
from controller.enrolment.store import Store, reload_command, urls
from controller.errors import EnrolmentError, HomeError
from controller.home import Home
from tests.controller.conftest import new_home

NOW_S = 1_800_000_000.0
YEAR_S = 365.25 * 86400


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return new_home(tmp_path / "home")


def place(there: Path, **more: object) -> BrokerPlace:
    return BrokerPlace.model_validate(
        {
            "hosts": ("broker.lan",),
            "port": 8883,
            "password_port": 8884,
            "written_to": there,
            "folder": str(there),
            "data": str(there / "data"),
            **more,
        }
    )


def what(written: object) -> dict[str, str]:
    return {one.path.name: one.what for one in written}  # type: ignore[attr-defined]


def test_it_is_made_once_and_says_what_it_does(home: Home, tmp_path: Path) -> None:
    store = Store(home, lambda: NOW_S)
    first = what(store.configure(place(tmp_path / "broker")))
    assert set(first.values()) == {"made"}
    ca, key = store.ca_file.read_bytes(), (home.pki_dir / "ca.key").read_bytes()
    again = what(store.configure(place(tmp_path / "broker")))
    assert set(again.values()) == {"kept"}
    renewed = what(store.configure(place(tmp_path / "broker"), renew=True))
    assert {n for n, w in renewed.items() if w == "replaced"} == {"broker.pem", "broker.key"}
    moved = what(store.configure(place(tmp_path / "broker", hosts=("other.lan",))))
    assert moved["broker.pem"] == "replaced"
    late = Store(home, lambda: NOW_S + 9.5 * YEAR_S)
    assert (
        what(late.configure(place(tmp_path / "broker", hosts=("other.lan",))))["broker.pem"]
        == "replaced"
    ), "it ends within a year"
    assert (store.ca_file.read_bytes(), (home.pki_dir / "ca.key").read_bytes()) == (ca, key)


def test_all_its_files_are_secret(home: Home, tmp_path: Path) -> None:
    store = Store(home)
    store.configure(place(tmp_path / "broker"))
    store.grant_device("pi-1", "0" * 64, password=True)
    for folder in (home.pki_dir, tmp_path / "broker"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        for path in folder.rglob("*"):
            if path.is_file():
                assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    (home.pki_dir / "ca.key").chmod(0o644)
    with pytest.raises(HomeError, match="mode 0644, want 0600"):
        store.grant_device("pi-2", "0" * 64, password=False)


def test_half_an_authority_is_not_replaced_by_another(home: Home, tmp_path: Path) -> None:
    store = Store(home)
    store.configure(place(tmp_path / "broker"))
    (home.pki_dir / "ca.key").unlink()
    with pytest.raises(EnrolmentError, match="it has only one of"):
        store.configure(place(tmp_path / "broker"))


def test_without_an_authority_nothing_is_granted(home: Home) -> None:
    with pytest.raises(EnrolmentError, match="ctl broker config"):
        Store(home).grant_device("pi-1", "0" * 64, password=False)


def test_passwords_only_where_the_broker_takes_them(home: Home, tmp_path: Path) -> None:
    store = Store(home)
    store.configure(place(tmp_path / "broker", password_port=None))
    with pytest.raises(EnrolmentError, match="--password-fallback"):
        store.grant_device("pi-1", "0" * 64, password=True)


def test_revoking_takes_everything_but_what_is_kept(home: Home, tmp_path: Path) -> None:
    store = Store(home)
    store.configure(place(tmp_path / "broker"))
    old = store.grant_device("pi-1", "1" * 64, password=True)
    new = store.grant_device("pi-1", "2" * 64, password=False)
    assert store.revoke("pi-1", keep="2" * 64)
    assert not store.revoke("pi-1", keep="2" * 64), "there is nothing more to revoke"
    left = store.register
    assert (left.revoked_serials, left.password_lines, left.shut_out) == ((), (), ())
    assert (tmp_path / "broker" / "passwords").read_text() == ""
    assert store.revoke("pi-1")
    assert store.register.shut_out == ("pi-1",)
    assert [f"{serial:x}" for serial in store.register.revoked_serials] == [new.login.serial]
    assert "user pi-1\ntopic deny #" in (tmp_path / "broker" / "acl").read_text()
    store.grant_device("pi-1", "3" * 64, password=False)
    assert not store.register.shut_out
    assert old.password is not None
    assert old.password not in repr(old)


def test_an_identity_is_of_one(home: Home, tmp_path: Path) -> None:
    store = Store(home)
    store.configure(place(tmp_path / "broker"))
    store.grant_person("server", "controller")
    with pytest.raises(EnrolmentError, match="it exists"):
        store.grant_person("server", "release")
    assert store.register.people == {"@server": "controller"}
    assert set(store.ends_in_days()) == {"@server", "broker"}


def test_a_broker_folder_that_is_gone_costs_nothing(home: Home, tmp_path: Path) -> None:
    store = Store(home)
    store.configure(place(tmp_path / "broker"))
    shutil.rmtree(tmp_path / "broker")
    granted = store.grant_device("pi-1", "0" * 64, password=False)
    store.revoke("pi-1")
    store.configure(place(tmp_path / "broker"))
    assert granted.issued is not None
    assert store.register.revoked_serials == (granted.issued.serial,)
    assert (tmp_path / "broker" / "crl.pem").read_bytes() == (home.pki_dir / "crl.pem").read_bytes()


def test_a_damaged_register_is_said_and_kept(home: Home, tmp_path: Path) -> None:
    store = Store(home)
    store.configure(place(tmp_path / "broker"))
    (home.pki_dir / "register.json").write_text('{"logins": 1}')
    with pytest.raises(EnrolmentError, match=r"^cannot read .*register.json"):
        store.grant_device("pi-1", "0" * 64, password=False)
    assert (home.pki_dir / "register.json").read_text() == '{"logins": 1}'


def test_where_devices_are_sent(tmp_path: Path) -> None:
    local = place(tmp_path, user="me", hosts=("fd00::1", "broker.lan"))
    assert urls(local) == ("mqtts://[fd00::1]:8883", "mqtts://[fd00::1]:8884")
    away = place(tmp_path, password_port=None, folder="/etc/mosquitto/sluice")
    assert urls(away) == ("mqtts://broker.lan:8883", None)
    assert "mosquitto" in reload_command(local)
    assert str(tmp_path) in reload_command(away)
