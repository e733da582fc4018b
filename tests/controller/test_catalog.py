import threading
from pathlib import Path

import pytest

from controller.catalog import Catalog, ModelRecord, valid_name
from controller.errors import CatalogError
from controller.home import Home
from controller.signing import load_signer
from protocols.bundle import BundleRef, Needs, TensorSpec
from protocols.chunks import artifact_ref
from protocols.errors import ArtifactError, TopicError, TrustError
from tests.controller.cascades import make_bundle
from tests.controller.conftest import new_home


@pytest.fixture
def place(tmp_path: Path) -> Home:
    return new_home(tmp_path / "home")


@pytest.fixture
def catalog(place: Home) -> Catalog:
    return Catalog(place)


def record(name: str, content: bytes = b"model") -> ModelRecord:
    tensor = TensorSpec(name="x", shape=(1, 4), dtype="float32")
    return ModelRecord(
        name=name,
        artifact=artifact_ref(content),
        inputs=(tensor,),
        outputs=(tensor,),
        scores=0,
        needs=Needs(load_mib=1, load_ms=1, answer_ms=1),
        runtime="ai-edge-litert 2.3.0",
        source=f"{name}.tflite",
        added_ts=1.0,
    )


def save(place: Home, name: str, version: int) -> BundleRef:
    bundle = make_bundle(name=name, version=version)
    with Catalog(place).locked():
        return Catalog(place).save_bundle(bundle, load_signer(place, "release").sign_bundle(bundle))


def test_artifacts_are_named_by_their_bytes(catalog: Catalog, place: Home, tmp_path: Path) -> None:
    ref = catalog.add_artifact(b"some bytes")
    assert catalog.read(ref) == b"some bytes"
    assert place.artifact_path(ref.sha256).read_bytes() == b"some bytes"
    (tmp_path / "file").write_bytes(b"some bytes")
    assert catalog.add_file(tmp_path / "file") == ref
    assert [path.name for path in place.artifacts_dir.iterdir()] == [ref.sha256]


def test_changed_bytes_are_not_used_and_come_back(catalog: Catalog, place: Home) -> None:
    ref = catalog.add_artifact(b"some bytes")
    place.artifact_path(ref.sha256).write_bytes(b"other byte")
    with pytest.raises(ArtifactError, match=f"cannot use artifact {ref.sha256[:12]}: its bytes"):
        catalog.read(ref)
    catalog.add_artifact(b"some bytes")
    assert catalog.artifact_path(ref).read_bytes() == b"some bytes"


def test_what_is_not_there(catalog: Catalog, tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"cannot use artifact .* No such file"):
        catalog.read(artifact_ref(b"never added"))
    with pytest.raises(CatalogError, match="cannot find model 'small': the catalog has none"):
        catalog.model("small")
    with pytest.raises(CatalogError, match="cannot find cascade 'digits': the catalog has none"):
        catalog.bundle_ref("digits")
    with pytest.raises(CatalogError, match="No such file"):
        catalog.add_file(tmp_path / "none")
    (tmp_path / "empty").touch()
    with pytest.raises(CatalogError, match="it is empty"):
        catalog.add_file(tmp_path / "empty")
    assert catalog.models() == []
    assert catalog.bundle_names() == []
    assert catalog.find_model("small") is None


def test_models_by_name(catalog: Catalog) -> None:
    for name in ("small", "large"):
        catalog.save_model(record(name))
    catalog.save_model(record("small", b"newer"))
    assert [model.name for model in catalog.models()] == ["large", "small"]
    assert catalog.model("small") == record("small", b"newer")
    assert catalog.model("small").facts.inputs == record("small").inputs
    with pytest.raises(CatalogError, match="'tiny': the catalog has large, small; add one"):
        catalog.model("tiny")
    with pytest.raises(CatalogError, match="'smal': did you mean small; add one"):
        catalog.model("smal")


@pytest.mark.parametrize("name", ["../up", "a/b", "", "x" * 64, ".hidden", "-dash"])
def test_names_that_are_none(catalog: Catalog, name: str) -> None:
    for look in (catalog.model, catalog.bundle_ref, catalog.versions):
        with pytest.raises(TopicError):
            look(name)


def test_bundles_by_version(catalog: Catalog, place: Home) -> None:
    first, tenth = save(place, "digits", 1), save(place, "digits", 10)
    save(place, "letters", 2)
    assert catalog.bundle_names() == ["digits", "letters"]
    assert catalog.versions("digits") == [1, 10]
    assert catalog.bundle_ref("digits") == tenth
    assert catalog.bundle_ref("digits", 1) == first
    keys = place.trust()
    assert catalog.find_bundle("digits", keys).bundle.version == 10
    assert catalog.find_bundle("digits@1", keys).ref == first
    with pytest.raises(CatalogError, match="digits@3: its versions are 1, 10"):
        catalog.find_bundle("digits@3", keys)
    for words in ("digits@", "digits@x", "digits@-1", "digits@1.5"):
        with pytest.raises(CatalogError, match="want NAME or NAME@VERSION"):
            catalog.find_bundle(words, keys)


def test_a_version_never_changes(catalog: Catalog, place: Home) -> None:
    ref = save(place, "digits", 1)
    with pytest.raises(CatalogError, match="versions never change"):
        save(place, "digits", 1)
    assert catalog.bundle_ref("digits") == ref


def test_only_one_at_a_time_takes_a_version(catalog: Catalog, place: Home) -> None:
    def build() -> None:
        mine = Catalog(place)
        with mine.locked():
            version = max(mine.versions("digits"), default=0) + 1
            bundle = make_bundle(version=version)
            mine.save_bundle(bundle, load_signer(place, "release").sign_bundle(bundle))

    threads = [threading.Thread(target=build) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert catalog.versions("digits") == list(range(1, 9))


def test_a_bundle_of_somebody_else(catalog: Catalog, place: Home, tmp_path: Path) -> None:
    bundle = make_bundle()
    stranger = load_signer(new_home(tmp_path / "other"), "release")
    with catalog.locked():
        catalog.save_bundle(bundle, stranger.sign_bundle(bundle))
    with pytest.raises(TrustError):
        catalog.find_bundle("digits", place.trust())


def test_faults(catalog: Catalog, place: Home) -> None:
    catalog.save_model(record("small"))
    catalog.add_artifact(b"model")
    assert catalog.faults(place.trust()) == []
    place.artifact_path(artifact_ref(b"model").sha256).write_bytes(b"xxxxx")
    place.models_dir.joinpath("bad.json").write_text("{")
    save(place, "digits", 1)  # its artifacts are not there
    faults = catalog.faults(place.trust())
    assert len(faults) == 3
    assert all(fault.startswith("cannot ") for fault in faults)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("small", "small"),
        ("my model (v2)", "my-model-v2"),
        ("..x", "x"),
        ("é", "model"),
        ("x" * 99, "x" * 63),
    ],
)
def test_valid_names(words: str, name: str) -> None:
    assert valid_name(words) == name
