from pathlib import Path

import pytest

from controller.errors import HomeError
from controller.home import Home
from controller.signing import generate_keys
from protocols.errors import LinkError, TopicError


def test_an_empty_folder_is_all_defaults(tmp_path: Path) -> None:
    home = Home.open(tmp_path, environ={})

    assert (home.fleet, home.broker.url) == ("home", "mqtt://127.0.0.1:1883")
    assert home.controller == Home.open(tmp_path, environ={}).controller
    assert home.controller != Home.open(tmp_path / "other", environ={}).controller


def test_the_folder_comes_from_the_environment(tmp_path: Path) -> None:
    assert Home.open(environ={"SLUICE_HOME": str(tmp_path)}).folder == tmp_path
    assert Home.open(environ={"XDG_CONFIG_HOME": str(tmp_path)}).folder == tmp_path / "sluice"


def test_option_before_environment_before_file(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('fleet = "file"\n[broker]\nurl = "mqtt://file"\n')
    environ = {"SLUICE_BROKER": "mqtt://env:1", "SLUICE_FLEET": "env"}

    from_file = Home.open(tmp_path, environ={})
    from_env = Home.open(tmp_path, environ=environ)
    from_option = Home.open(tmp_path, broker="mqtts://option", fleet="option", environ=environ)

    assert (from_file.fleet, from_file.broker.url) == ("file", "mqtt://file:1883")
    assert (from_env.fleet, from_env.broker.url) == ("env", "mqtt://env:1")
    assert (from_option.fleet, from_option.broker.url) == ("option", "mqtts://option:8883")


def test_credentials_of_the_file_go_to_its_own_broker_alone(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hush\n")
    (tmp_path / "secret").chmod(0o600)
    (tmp_path / "config.toml").write_text(
        '[broker]\nurl = "mqtt://file"\nusername = "ctl"\npassword_file = "secret"\n'
    )

    mine = Home.open(tmp_path, environ={}).broker
    other = Home.open(tmp_path, broker="mqtt://elsewhere", environ={}).broker

    assert (mine.username, mine.password) == ("ctl", "hush")
    assert (other.username, other.password) == (None, None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("colour = 1", "colour"),
        ("fleet = ", "config.toml"),
        ('fleet = "a/b"', "fleet"),
        ('[broker]\nurl = "mqtt://x"\nca_file = "nowhere.pem"', "no ca_file"),
        ('[broker]\npassword_file = "nowhere"', "nowhere"),
        ('[planner]\nexpire_after = "soon"', "want hours or days"),
        ('[planner]\nexpire_after = "0h"', 'at least "1h"'),
    ],
)
def test_a_wrong_configuration_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "config.toml").write_text(text)

    with pytest.raises(HomeError, match=said):
        Home.open(tmp_path, environ={})


def test_how_long_a_document_may_be_accepted(tmp_path: Path) -> None:
    assert Home.open(tmp_path, environ={}).expire_after_s is None
    (tmp_path / "config.toml").write_text('[planner]\nexpire_after = "7d"\n')

    assert Home.open(tmp_path, environ={}).expire_after_s == 7 * 86400


def test_wrong_overrides_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LinkError, match="cannot use broker"):
        Home.open(tmp_path, broker="http://x", environ={})
    with pytest.raises(TopicError, match="fleet"):
        Home.open(tmp_path, fleet="a/b", environ={})


def test_trust_is_missing_damaged_or_of_another_fleet(tmp_path: Path) -> None:
    home = Home.open(tmp_path, environ={})
    with pytest.raises(HomeError, match="ctl keygen"):
        home.trust()

    assert home.trust_file.parent.exists()
    home.trust_file.write_bytes(b"{")
    with pytest.raises(HomeError, match="cannot read trust file"):
        home.trust()

    home.trust_file.unlink()
    generate_keys(home)
    with pytest.raises(HomeError, match="--fleet home"):
        Home.open(tmp_path, fleet="other", environ={}).trust()
