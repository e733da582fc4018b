"""URLs of artifacts: templates, and what is none."""

import pytest

from protocols.bundle import ArtifactRef, BundleRef
from protocols.desired import DesiredCascade
from protocols.sources import artifact_url

NAME = "ab" * 32
BUNDLE = BundleRef(name="digits", version=1, artifact=ArtifactRef(sha256="0" * 64, size_bytes=1))


@pytest.mark.parametrize(
    ("source", "url"),
    [
        ("https://cdn.example/models", f"https://cdn.example/models/{NAME}"),
        ("https://cdn.example/models/", f"https://cdn.example/models/{NAME}"),
        ("https://cdn.example", f"https://cdn.example/{NAME}"),
        ("http://10.0.0.1:8080/{sha256}.bin?v=1", f"http://10.0.0.1:8080/{NAME}.bin?v=1"),
        ("https://h/{sha256}/{sha256}", f"https://h/{NAME}/{NAME}"),
        ("https://h/a@b/?c=@", f"https://h/a@b/?c=@/{NAME}"),
    ],
)
def test_every_artifact_has_an_url_in_a_source(source: str, url: str) -> None:
    assert artifact_url(source, NAME) == url
    assert DesiredCascade(bundle=BUNDLE, variants={}, sources=(source,)).sources == (source,)


@pytest.mark.parametrize(
    "source",
    [
        "",
        "cdn.example/x",
        "file:///etc/passwd",
        "ftp://host/x",
        "https:///x",
        "http://h/a b",
        "https://user:secret@host/x",
        "https://user@host",
    ],
)
def test_what_is_no_url_is_no_source(source: str) -> None:
    with pytest.raises(ValueError, match="sources"):
        DesiredCascade(bundle=BUNDLE, variants={}, sources=(source,))


def test_where_it_comes_from_makes_no_other_cascade() -> None:
    plain = DesiredCascade(bundle=BUNDLE, variants={"only": "int8"})
    assert plain.with_(sources=("https://h/x",)).identity == plain.identity
