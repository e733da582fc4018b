"""What must not run does not: `ctl deploy` says why, and the device keeps serving what it had."""

import http.client
from pathlib import Path

import numpy as np
import pytest

from controller.catalog import Catalog
from controller.home import Home
from controller.signing import generate_keys, load_signer
from protocols.bundle import Bundle, Needs
from protocols.chunks import cut, with_lists
from protocols.desired import Desired
from protocols.envelope import DESIRED, Envelope, verify
from tests.agent.runner.cascades import Built, Piece
from tests.agent.runner.cascades import build as build_cascade
from tests.agent.runner.samples import samples
from tests.end_to_end.clients import infer
from tests.end_to_end.stack import FLEET, Stack, wait_for
from tests.models import classifier, crashing, random_layers

FEATURES, CLASSES = 8, 3
DEVICE = "ada"


def made(folder: Path, version: int, model: bytes | None = None) -> Built:
    """Return a bundle of one small model; each version answers otherwise."""
    folder.mkdir(exist_ok=True)
    model = model or classifier(random_layers(FEATURES, CLASSES, seed=version))
    return build_cascade(folder, [Piece("only", model)], samples(4, FEATURES), version=version)


def home_of(stack: Stack) -> Home:
    return Home.open(stack.home, broker=stack.broker_url, fleet=FLEET)


def add(stack: Stack, built: Built, bundle: Bundle | None = None) -> str:
    """Sign a bundle and put it into the catalog, as `ctl cascade build` does; return its name."""
    home = home_of(stack)
    catalog = Catalog(home)
    bundle = bundle or built.bundle
    for ref in with_lists(bundle.artifacts):
        catalog.add_file(built.folder / ref.sha256)
    with catalog.locked():
        catalog.save_bundle(bundle, load_signer(home, "release").sign_bundle(bundle))
    return f"{bundle.name}@{bundle.version}"


@pytest.fixture
def served(stack: Stack, tmp_path: Path) -> Stack:
    """A controller, and a device that serves version 1."""
    stack.start_ctl("serve")
    stack.start_agent(DEVICE)
    stack.endpoint(DEVICE)
    stack.ctl("deploy", add(stack, made(tmp_path / "v1", 1)), "--timeout", "40s")
    return stack


def assert_refused(stack: Stack, words: tuple[str, ...], bundle: str, codes: set[int]) -> str:
    """Deploy; check the exit code, the message, and that version 1 still answers."""
    done = stack.ctl("deploy", bundle, "--timeout", "40s", check=False)
    said = done.stdout + done.stderr
    assert done.returncode in codes, said
    assert "cannot" in said
    assert "Traceback" not in said
    for word in words:
        assert word in said, said
    assert_serves_version_1(stack)
    return said


def assert_serves_version_1(stack: Stack) -> None:
    connection = http.client.HTTPConnection(*stack.endpoint(DEVICE), timeout=10)
    answer = infer(connection, "digits", samples(1, FEATURES)[0].astype(np.float32), "FP32")
    connection.close()
    assert answer.status == 200, answer.document
    assert answer.version == "1"


def test_a_flipped_byte_in_the_catalog(served: Stack, tmp_path: Path) -> None:
    built = made(tmp_path / "v2", 2)
    name = add(served, built)
    ref = built.bundle.stages[0].variants[0].artifact
    path = Catalog(home_of(served)).artifact_path(ref)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    assert_refused(served, ("bytes",), name, {2})


def test_a_flipped_byte_at_the_broker(served: Stack, tmp_path: Path) -> None:
    built = made(tmp_path / "v2", 2, classifier(random_layers(FEATURES, 8192, CLASSES)))
    name = add(served, built)
    # For nobody yet: everything is put out, and whose last chunk is right is not sent again.
    served.ctl("deploy", name, "--detach", "-l", "nobody=here", check=False)
    ref = built.bundle.stages[0].variants[0].artifact
    first, *others = cut((built.folder / ref.sha256).read_bytes())
    assert others
    wrong = bytes([first[0] ^ 1]) + first[1:]
    topic = served.observer.topics.chunk(ref.sha256, 0)
    served.observer.link.publish_and_wait(topic, wrong, retain=True)
    assert_refused(served, ("cannot accept chunk 0 of", ref.sha256[:12]), name, {3})
    cascade = served.observer.cascade(DEVICE, "digits")
    assert cascade is not None
    assert cascade.phase == "rejected"


def test_a_wrong_signature(served: Stack, tmp_path: Path) -> None:
    stranger = Home.open(tmp_path / "stranger", broker=served.broker_url, fleet=FLEET)
    generate_keys(stranger)
    built = made(tmp_path / "v2", 2)
    home = home_of(served)
    catalog = Catalog(home)
    for ref in with_lists(built.bundle.artifacts):
        catalog.add_file(built.folder / ref.sha256)
    with catalog.locked():
        catalog.save_bundle(
            built.bundle, load_signer(stranger, "release").sign_bundle(built.bundle)
        )
    assert_refused(served, ("trust", "signature"), "digits@2", {2, 3})


def test_a_lower_generation(served: Stack, tmp_path: Path) -> None:
    home = home_of(served)
    topic = served.observer.topics.device(DEVICE, "desired")
    old = served.observer.raw[topic]
    first = Desired.decode(verify(old, DESIRED, home.trust())).generation
    served.ctl("deploy", add(served, made(tmp_path / "v2", 2)), "--timeout", "40s")
    # Somebody who has kept it plays the older document back: it is genuine, and too late.
    assert Envelope.decode(old).signatures
    served.observer.link.publish_and_wait(topic, old, retain=True)

    def refusal() -> str | None:
        reported = served.observer.reported.get(DEVICE)
        return reported.refusal.message if reported and reported.refusal else None

    said = wait_for("a refusal", refusal)
    assert said.startswith("cannot apply generation")
    assert str(first) in said
    assert served.observer.running(DEVICE, "digits", 2), "the newer one keeps serving"


def test_tensors_that_do_not_fit(served: Stack, tmp_path: Path) -> None:
    built = made(tmp_path / "v2", 2)
    stage = built.bundle.stages[0]
    variant = stage.variants[0]
    wrong = variant.inputs[0].with_(shape=(1, FEATURES + 5))
    bundle = built.bundle.with_(
        stages=(stage.with_(variants=(variant.with_(inputs=(wrong,)),)),),
        input=built.bundle.input.with_(shape=(FEATURES + 5,)),
    )
    assert_refused(served, ("digits", "input"), add(served, built, bundle), {3})


def test_a_model_that_kills_the_interpreter(served: Stack, tmp_path: Path) -> None:
    built = made(tmp_path / "v2", 2)
    catalog = Catalog(home_of(served))
    ref = catalog.add_artifact(crashing())
    (built.folder / ref.sha256).write_bytes(crashing())
    stage = built.bundle.stages[0]
    variant = stage.variants[0].with_(artifact=ref)
    bundle = built.bundle.with_(stages=(stage.with_(variants=(variant,)),))
    assert_refused(served, ("SIGSEGV",), add(served, built, bundle), {3})


def test_a_need_beyond_the_device(served: Stack, tmp_path: Path) -> None:
    built = made(tmp_path / "v2", 2)
    stage = built.bundle.stages[0]
    needs = Needs(load_mib=9e6, load_ms=1.0, answer_ms=1.0)
    variant = stage.variants[0].with_(needs=needs)
    bundle = built.bundle.with_(stages=(stage.with_(variants=(variant,)),))
    assert_refused(served, ("MiB",), add(served, built, bundle), {2})
