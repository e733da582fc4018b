"""Real agents that fetch: by URL, in parts, with limits, and onto a full disk."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocols.bundle import ArtifactRef
from protocols.chunks import CHUNK_BYTES, chunk_count, with_lists
from protocols.desired import DesiredCascade
from protocols.device import WRONG_BYTES, ReportedCascade
from protocols.schedule import Downloads
from tests.agent.picture import Picture
from tests.agent.rig import CALM, Rig, one_stage, rigged, small_model, two_stages
from tests.agent.runner.cascades import Built, Piece, build
from tests.agent.runner.samples import samples
from tests.end_to_end.clients import Load
from tests.end_to_end.stack import wait_for
from tests.models import classifier, random_layers
from tests.static import Static, serving

_numbers = itertools.count()


@pytest.fixture
def rig(tmp_path: Path, broker_url: str) -> Iterator[Rig]:
    with rigged(tmp_path, broker_url, f"delivery-{next(_numbers)}") as rig:
        yield rig


@pytest.fixture
def static() -> Iterator[Static]:
    with serving() as static:
        yield static


def publish_by_url(rig: Rig, static: Static, built: Built) -> DesiredCascade:
    """Put a bundle on a static server, and nothing but its manifest on the broker."""
    cascade = rig.ship(built)
    refs = with_lists(built.bundle.artifacts)
    for ref in refs:
        static.put(ref.sha256, (built.folder / ref.sha256).read_bytes())
    clear(rig, refs)
    return cascade.with_(sources=(static.url,))


def clear(rig: Rig, refs: tuple[ArtifactRef, ...]) -> None:
    for ref in refs:
        for number in range(chunk_count(ref.size_bytes)):
            rig.link.publish(rig.topics.chunk(ref.sha256, number), b"", retain=True)


def wide_stages(folder: Path, *, version: int) -> Built:
    """Return a cascade whose large stage has another last layer in each version."""
    folder.mkdir()
    layers = random_layers(16, 1024, 1024, 4, seed=7)
    last = random_layers(16, 1024, 1024, 4, seed=version)[-1]
    large = Piece("large", classifier([*layers[:-1], last]))
    small = Piece("small", small_model(1), metric="max_prob", threshold=1.5)
    return build(folder, [small, large], samples(8, 16), version=version)


def test_a_new_version_by_url_sends_only_what_is_new(
    rig: Rig, static: Static, tmp_path: Path
) -> None:
    first, second = (wide_stages(tmp_path / f"v{version}", version=version) for version in (1, 2))
    rig.start()
    rig.desire(publish_by_url(rig, static, first))
    rig.wait_running(1)
    whole = static.bytes_asked
    assert whole > first.bundle.stages[1].variants[0].artifact.size_bytes > 4_000_000
    static.asked.clear()
    rig.desire(publish_by_url(rig, static, second))
    rig.wait_running(2)
    assert static.bytes_asked < 0.1 * whole
    asked = {path.removeprefix("/") for path, _ in static.asked}
    assert second.bundle.stages[0].variants[0].artifact.sha256 not in asked, "it is here"


def test_a_large_download_waits_for_the_charger_and_says_so(rig: Rig, tmp_path: Path) -> None:
    built = two_stages(tmp_path / "built")
    picture = Picture(tmp_path / "picture")
    picture.battery(20, plugged=False)
    rig.start(picture)
    schedule = CALM.with_(downloads=Downloads(large_mib=1))
    rig.desire(rig.ship(built), schedule=schedule)
    why = "waits: 4 MiB to fetch is a large download, and the battery is below 30 % and not plugged"
    assert rig.wait_event("fetching", why).cascade == "digits"
    waiting = rig.wait_phase("fetching")
    assert waiting.message == why
    assert waiting.fetched_bytes < 100_000, "the manifest alone"
    picture.battery(20, plugged=True)
    rig.wait_running(1)
    assert rig.wait_phase("running").message == ""


def test_a_day_s_bytes_are_used_up_and_the_device_says_so(rig: Rig, tmp_path: Path) -> None:
    built = two_stages(tmp_path / "built")
    rig.start(extra="[fetch]\njitter_s = 0\nmib_per_day = 2\n")
    rig.desire(rig.ship(built))
    rig.wait_event("fetching", "waits: the 2 MiB of this day are used up")

    def said() -> ReportedCascade | None:
        cascade = rig.cascade()
        return cascade if cascade and cascade.message.startswith("waits: the 2 MiB") else None

    waiting = wait_for("the device's word", said)
    assert waiting.phase == "fetching"
    assert 0 < waiting.fetched_bytes < waiting.total_bytes
    assert rig.stop() == 0
    rig.start(extra="[fetch]\njitter_s = 0\nmib_per_day = 3\n")
    wait_for(
        "a MiB more",
        lambda: (c := rig.cascade()) is not None and c.fetched_bytes > waiting.fetched_bytes,
    )
    assert rig.stop() == 0
    rig.start()
    rig.wait_running(1)


def test_a_full_disk_is_said_and_the_deployment_completes_once_there_is_room(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = tmp_path / "full"
    monkeypatch.setenv("FULL_DISK", str(full))
    first, second = one_stage(tmp_path / "one"), two_stages(tmp_path / "two", version=2)
    rig.start(module="tests.agent.full_disk")
    rig.desire(rig.ship(first))
    rig.wait_running(1)
    wanted = rig.ship(second)
    missing = with_lists(second.bundle.artifacts)
    clear(rig, missing)
    with Load(rig.address(), "digits", first.x) as load:
        rig.desire(wanted)
        rig.wait_phase("fetching")
        wait_for("the manifest", lambda: (c := rig.cascade()) is not None and c.stages)
        full.touch()
        for ref in missing:
            rig.put((second.folder / ref.sha256).read_bytes(), ref)
        refused = rig.wait_phase("refused")
        assert refused.message.startswith("cannot store artifact ")
        assert "No space left on device" in refused.message
        assert refused.running is not None
        assert refused.running.version == 1
        rig.wait_event("refused", "No space left on device")
        full.unlink()
        rig.wait_running(2)
    assert not load.broken


def test_what_came_in_part_leaves_for_the_manifest_that_the_disk_has_no_room_for(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = tmp_path / "full"
    monkeypatch.setenv("FULL_DISK", str(full))
    large, small = two_stages(tmp_path / "two"), one_stage(tmp_path / "one", version=2)
    rig.start(module="tests.agent.full_disk")
    wanted = rig.ship(large)
    clear(rig, with_lists(large.bundle.artifacts))
    rig.desire(wanted)
    reserved = max(large.bundle.artifacts, key=lambda ref: ref.size_bytes)
    partial = rig.state_dir / "partial" / reserved.sha256
    wait_for("its room", lambda: partial.exists() and partial.stat().st_size)
    full.write_text("1000000")  # less than what is reserved: there is no room at all
    rig.desire(rig.ship(small))
    rig.wait_running(2)
    assert not partial.exists()


def test_wrong_bytes_are_tried_again_by_themselves(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FULL_DISK", str(tmp_path / "never"))  # for its short waits
    built = two_stages(tmp_path / "built")
    rig.start(module="tests.agent.full_disk")
    wanted = rig.ship(built)
    model = max(built.bundle.artifacts, key=lambda ref: ref.size_bytes)
    wrong = rig.topics.chunk(model.sha256, 3)
    rig.link.publish_and_wait(wrong, bytes(CHUNK_BYTES), retain=True)
    rig.desire(wanted)
    rejected = rig.wait_phase("rejected")
    assert rejected.message.startswith(f"{WRONG_BYTES}chunk 3 of {model.sha256[:12]}")
    rig.put((built.folder / model.sha256).read_bytes(), model)
    rig.wait_running(1)
