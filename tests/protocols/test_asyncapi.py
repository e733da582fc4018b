"""The committed AsyncAPI document is the one that the classes give, and holds together."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from protocols.asyncapi import CHANNELS, document
from protocols.topics import DEVICE_KINDS, Topics

COMMITTED = Path(__file__).parents[2] / "docs" / "asyncapi.json"


def test_the_committed_document_is_current() -> None:
    assert json.loads(COMMITTED.read_bytes()) == document(), (
        "run: python -m protocols.asyncapi > docs/asyncapi.json"
    )


def test_every_topic_is_described() -> None:
    names = {
        "device": "pi-1",
        "deployment": "d-1",
        "controller": "c-1",
        "version": 1,
        "entry": "1-a",
    }
    sha = "0" * 64
    found = [
        Topics("home").parse(c.address.format(fleet="home", sha256=sha, number=0, **names)).kind
        for c in CHANNELS
    ]
    assert sorted(found) == sorted(
        [
            *DEVICE_KINDS,
            *("deployment", "rollout", "controller", "artifact", "roster", "keys", "audit"),
        ]
    )


def test_every_reference_leads_somewhere() -> None:
    whole = document()
    for reference in _references(whole):
        place: Any = whole
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


def test_draft_7_has_no_prefix_items() -> None:
    assert "prefixItems" not in json.dumps(document())


def _references(value: object) -> Iterator[str]:
    match value:
        case {"$ref": str() as reference}:
            yield reference
        case dict():
            for part in value.values():
                yield from _references(part)
        case list():
            for part in value:
                yield from _references(part)
        case _:
            return
