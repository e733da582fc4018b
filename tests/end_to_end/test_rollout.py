"""A bundle that kills the interpreter, in waves over real agents: one device tries it, no more."""

from pathlib import Path

from controller.catalog import Catalog
from tests.end_to_end.stack import Stack
from tests.end_to_end.test_refusals import add, home_of, made
from tests.models import crashing

DEVICES = ("ada", "bob")


def test_one_device_tries_it_and_all_serve_what_they_had(stack: Stack, tmp_path: Path) -> None:
    stack.start_ctl("serve")
    for name in DEVICES:
        stack.start_agent(name)
    for name in DEVICES:
        stack.endpoint(name)
    stack.ctl("deploy", add(stack, made(tmp_path / "v1", 1)), "--timeout", "60s")
    built = made(tmp_path / "v2", 2)
    ref = Catalog(home_of(stack)).add_artifact(crashing())
    (built.folder / ref.sha256).write_bytes(crashing())
    stage = built.bundle.stages[0]
    variant = stage.variants[0].with_(artifact=ref)
    bundle = built.bundle.with_(stages=(stage.with_(variants=(variant,)),))

    done = stack.ctl(
        "deploy",
        add(stack, built, bundle),
        *("--waves", "1", "--soak", "30s", "--timeout", "80s"),
        check=False,
    )

    assert done.returncode == 3, done.stderr
    assert "digits@2: stopped in wave 1 of 2 (1 device), 0 of 2 devices run it." in done.stderr
    (said,) = [line for line in done.stderr.splitlines() if "gate bundle: " in line]
    assert "SIGSEGV" in said
    for name in DEVICES:
        assert stack.observer.running(name, "digits", 1)
    tried = {
        event.device
        for event in stack.observer.events
        if event.kind == "planned" and "digits@2 replaces" in event.message
    }
    assert len(tried) == 1, "the other one was never told"
    assert said.strip().partition(":")[0] in tried
