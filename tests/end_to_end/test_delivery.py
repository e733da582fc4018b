"""From `ctl cascade build` to a device that fetched: from the broker, packed, and by URL."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.digits import LARGE_INT8, build
from tests.end_to_end.stack import Stack
from tests.static import Static, serving


@pytest.fixture
def static() -> Iterator[Static]:
    with serving() as static:
        yield static


def serve(static: Static, folder: Path) -> None:
    for path in folder.iterdir():
        static.put(f"models/{path.name}", path.read_bytes())


def test_a_device_fetches_by_url_what_a_server_has_and_the_rest_from_the_broker(
    stack: Stack, static: Static, tmp_path: Path
) -> None:
    stack.start_ctl("serve")
    stack.start_agent("ada")
    bundle = build(stack)
    files = stack.ctl_json("cascade", "export", bundle, str(tmp_path / "www"))
    serve(static, tmp_path / "www")
    large = hashlib.sha256(LARGE_INT8.read_bytes()).hexdigest()
    listed = next(one["sha256"] for one in files if one["what"].endswith("its chunk list"))
    static.files.pop(f"/models/{listed}")
    stack.ctl("deploy", bundle, "--url", f"{static.url}/models", "--timeout", "60s")

    assert stack.observer.running("ada", "digits", 1)
    asked = {path.removeprefix("/models/") for path, _ in static.asked}
    assert asked == {one["sha256"] for one in files}
    assert static.bytes_asked > LARGE_INT8.stat().st_size
    here = tmp_path / "ada" / "artifacts"
    assert {path.name for path in here.iterdir()} == asked
    assert (here / large).read_bytes() == LARGE_INT8.read_bytes()
    assert (here / listed).stat().st_size == 32 * -(-LARGE_INT8.stat().st_size // 65536)
