"""A fleet changes its keys while it works: controller, device and people go on."""

from pathlib import Path

from controller.catalog import Catalog
from controller.home import Home
from controller.signing import load_signer
from tests.end_to_end.stack import FLEET, Stack, wait_for
from tests.end_to_end.test_refusals import add, made

DEVICE = "ada"


def test_both_keys_are_rotated_under_a_serving_fleet(stack: Stack, tmp_path: Path) -> None:
    stack.start_ctl("serve")
    agent = stack.start_agent(DEVICE)
    stack.endpoint(DEVICE)
    stack.ctl("deploy", add(stack, made(tmp_path / "v1", 1)), "--timeout", "40s")
    runner = agent.runner_pid()
    home = Home.open(stack.home, broker=stack.broker_url, fleet=FLEET)
    before = home.trust()
    stack.ctl("keys", "rotate", "release", "--yes")
    stack.ctl("keys", "rotate", "controller", "--yes")

    def follows() -> bool:
        reported = stack.observer.reported.get(DEVICE)
        return reported is not None and reported.keys_version == 2

    wait_for("the device follows", follows)
    assert not {key.key_id for key in before.keys} & {key.key_id for key in home.trust().keys}
    assert stack.observer.running(DEVICE, "digits", 1)
    assert agent.runner_pid() == runner, "nothing was stopped"
    stack.ctl("deploy", add(stack, made(tmp_path / "v2", 2)), "--timeout", "40s")
    assert stack.observer.running(DEVICE, "digits", 2)
    acts = [entry["act"] for entry in stack.ctl_json("audit")]
    assert acts == ["deployed", "keys-changed", "keys-changed", "deployed"]
    assert stack.ctl_json("keys", "ls")["devices"] == {DEVICE: 2}
    assert load_signer(home, "release").public in home.trust().keys
    assert Catalog(home).faults(home.trust())[0].startswith("cannot trust bundle")
