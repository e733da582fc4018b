"""An AsyncAPI 3 document of the wire, out of the same classes and topics that the wire uses.

`python -m protocols.asyncapi > docs/asyncapi.json` writes the committed copy.
"""

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic.json_schema import models_json_schema

from protocols.audit import AuditEntry
from protocols.bundle import Bundle
from protocols.chunks import CHUNK_BYTES, WINDOW_CHUNKS
from protocols.desired import ControllerStatus, Deployment, Desired, Pins
from protocols.device import Event, Inventory, Reported, Status, Telemetry
from protocols.envelope import (
    AUDIT,
    BUNDLE,
    DEPLOYMENT,
    DESIRED,
    KEYS,
    PINS,
    ROLE_OF,
    ROLLOUT,
    ROSTER,
    Envelope,
    KeySet,
    PayloadType,
    StatementType,
)
from protocols.message import Message
from protocols.rollout import Rollout
from protocols.roster import RosterEntry
from protocols.topics import ROOT, Topics

Application = Literal["agent", "controller", "ctl"]
Json = dict[str, Any]

_TOPICS = Topics("fleet")
_SCHEMAS = "#/components/schemas/{model}"
_MQTT_BINDING = "0.2.0"


@dataclass(frozen=True, slots=True)
class Channel:
    """One topic: who writes it, who reads it, and what it carries (None: bytes of an artifact)."""

    name: str
    topic: str
    message: type[Message] | None
    about: str
    writers: tuple[Application, ...]
    readers: tuple[Application, ...]
    signed: PayloadType | StatementType | None = None
    qos: Literal[0, 1] = 1
    retain: bool = True

    @property
    def address(self) -> str:
        """The topic, with `{parameters}` in place of the names."""
        return self.topic.replace(_TOPICS.root, f"{ROOT}/{{fleet}}", 1)


CHANNELS = (
    Channel(
        "status",
        _TOPICS.device("{device}", "status"),
        Status,
        "Whether the device is there. Also the last will of its session: a will with an older "
        "boot id than the last message is of a session that has been replaced. An agent reads its "
        "own, to notice another agent of the same name.",
        ("agent",),
        ("agent", "controller", "ctl"),
    ),
    Channel(
        "inventory",
        _TOPICS.device("{device}", "inventory"),
        Inventory,
        "What the device is: cores and their classes, memory, interpreter, labels.",
        ("agent",),
        ("controller", "ctl"),
    ),
    Channel(
        "telemetry",
        _TOPICS.device("{device}", "telemetry"),
        Telemetry,
        "How the device is: a sample of its sensors, the rungs, what every stage did. "
        "Deduplicate by boot id and seq.",
        ("agent",),
        ("controller", "ctl"),
        qos=0,
        retain=False,
    ),
    Channel(
        "events",
        _TOPICS.device("{device}", "events"),
        Event,
        "Every load, unload, refusal and revert, with its cause.",
        ("agent", "controller"),
        ("controller", "ctl"),
        retain=False,
    ),
    Channel(
        "desired",
        _TOPICS.device("{device}", "desired"),
        Desired,
        "What the device should run.",
        ("controller",),
        ("agent", "controller", "ctl"),
        signed=DESIRED,
    ),
    Channel(
        "reported",
        _TOPICS.device("{device}", "reported"),
        Reported,
        "What the device runs, and why not what is desired.",
        ("agent",),
        ("controller", "ctl"),
    ),
    Channel(
        "pins",
        _TOPICS.device("{device}", "pins"),
        Pins,
        "What a person has fixed for the device's stages; the controller folds it into desired.",
        ("ctl",),
        ("controller", "ctl"),
        signed=PINS,
    ),
    Channel(
        "deployment",
        _TOPICS.deployment("{deployment}"),
        Deployment,
        "A bundle and the devices that should run it.",
        ("ctl",),
        ("controller", "ctl"),
        signed=DEPLOYMENT,
    ),
    Channel(
        "rollout",
        _TOPICS.rollout("{deployment}"),
        Rollout,
        "How far a deployment's waves have come: all that a controller has to remember of them.",
        ("controller",),
        ("controller", "ctl"),
        signed=ROLLOUT,
    ),
    Channel(
        "roster",
        _TOPICS.roster("{device}"),
        RosterEntry,
        "A person's word on who a device is, and whether it belongs to the fleet. Once there is an "
        "entry, only devices that have one are planned for.",
        ("ctl",),
        ("controller", "ctl"),
        signed=ROSTER,
    ),
    Channel(
        "keys",
        _TOPICS.keys("+").removesuffix("+") + "{version}",
        KeySet,
        "The keys that the fleet trusts, one topic a version: signed by the threshold of the "
        "release keys of the version before and of its own. A device follows them one by one.",
        ("controller", "ctl"),
        ("agent", "controller", "ctl"),
        signed=KEYS,
    ),
    Channel(
        "audit",
        _TOPICS.audit("{entry}"),
        AuditEntry,
        "Who did what, when. Of more than a thousand entries a controller clears the oldest.",
        ("controller", "ctl"),
        ("ctl",),
        signed=AUDIT,
    ),
    Channel(
        "controller",
        _TOPICS.controller("{controller}"),
        ControllerStatus,
        "Whether a controller is alive. Also the last will of its session.",
        ("controller",),
        ("controller", "ctl"),
    ),
    Channel(
        "artifact",
        _TOPICS.chunk("{sha256}", 0).removesuffix("0") + "{number}",
        None,
        f"One chunk of an artifact, at most {CHUNK_BYTES} bytes: as it is, or, where it has fewer "
        "bytes than the chunk must have, packed (protocols/packing.py). Subscribe to at most "
        f"{WINDOW_CHUNKS} exact topics at a time, never to a wildcard; a chunk that does not come "
        "is asked for again.",
        ("controller", "ctl"),
        ("agent",),
    ),
)

_PARAMETERS = {
    "fleet": "All the devices under one topic root and one set of trusted keys.",
    "device": "The device's name.",
    "deployment": "The deployment's id.",
    "controller": "The controller's id.",
    "version": "Of the key set, from 1: the first one, 0, is a file.",
    "entry": "The entry's id, which begins with its time.",
    "sha256": "The artifact's SHA-256, 64 hexadecimal digits.",
    "number": "The chunk's number, from 0.",
}


def document() -> Json:
    """Return the AsyncAPI 3.0.0 document, as JSON has it."""
    return {
        "asyncapi": "3.0.0",
        "id": "urn:sluice:v1",
        "info": {
            "title": "Sluice",
            "version": ROOT.rpartition("/v")[2],
            "description": (
                "Cascades of quantized TFLite sub-models on fleets of small devices. Payloads are "
                "JSON in UTF-8; readers ignore fields that they do not know. The broker's retained "
                "documents are the database; MQTT 3.1.1 is enough."
            ),
            "license": {
                "name": "Apache-2.0",
                "url": "https://www.apache.org/licenses/LICENSE-2.0",
            },
        },
        "defaultContentType": "application/json",
        "servers": {
            "plain": _server("mqtt", "1883"),
            "tls": _server("secure-mqtt", "8883"),
        },
        "channels": {channel.name: _channel(channel) for channel in CHANNELS},
        "operations": dict(_operations(CHANNELS)),
        "components": {
            "messages": {channel.name: _message(channel) for channel in CHANNELS},
            "schemas": _schemas(),
        },
    }


def _server(protocol: str, port: str) -> Json:
    return {
        "host": f"{{host}}:{port}",
        "protocol": protocol,
        "protocolVersion": "3.1.1",
        "variables": {"host": {"default": "localhost"}},
    }


def _channel(channel: Channel) -> Json:
    return {
        "address": channel.address,
        "description": channel.about,
        "messages": {channel.name: {"$ref": f"#/components/messages/{channel.name}"}},
        "parameters": {
            name: {"description": about}
            for name, about in _PARAMETERS.items()
            if f"{{{name}}}" in channel.address
        },
    }


def _operations(channels: Iterable[Channel]) -> Iterable[tuple[str, Json]]:
    for channel in channels:
        for action, applications in (("send", channel.writers), ("receive", channel.readers)):
            for application in applications:
                yield (
                    f"{application}_{action}_{channel.name}",
                    _operation(channel, action, application),
                )


def _operation(channel: Channel, action: str, application: Application) -> Json:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel.name}"},
        "tags": [{"name": application}],
        "bindings": {
            "mqtt": {
                "qos": channel.qos,
                "retain": channel.retain,
                "bindingVersion": _MQTT_BINDING,
            }
        },
    }


def _message(channel: Channel) -> Json:
    if channel.message is None:
        return {
            "name": channel.name,
            "contentType": "application/octet-stream",
            "payload": {"type": "string", "format": "binary", "maxLength": CHUNK_BYTES},
        }
    schema = {"$ref": _SCHEMAS.format(model=channel.message.__name__)}
    if channel.signed is None:
        return {"name": channel.name, "payload": schema}
    return {
        "name": channel.name,
        "description": (
            f"A DSSE envelope, signed by {_signers(channel.signed)}; its payload is the "
            f"JSON of {channel.message.__name__} in base64."
        ),
        "payload": {
            "allOf": [
                {"$ref": _SCHEMAS.format(model=Envelope.__name__)},
                {
                    "properties": {
                        "payloadType": {"const": channel.signed},
                        "payload": {
                            "contentEncoding": "base64",
                            "contentMediaType": channel.signed,
                        },
                    }
                },
            ]
        },
        "x-signed-payload": schema,
    }


def _signers(kind: PayloadType | StatementType) -> str:
    return "one key of either role" if kind == AUDIT else f"the {ROLE_OF[kind]} role"


def _schemas() -> Json:
    """Return the schema of every class that travels, also those inside of envelopes and files."""
    on_topics = [channel.message for channel in CHANNELS if channel.message is not None]
    classes: list[type[Message]] = [*on_topics, Envelope, Bundle, KeySet]
    _, found = models_json_schema([(one, "validation") for one in classes], ref_template=_SCHEMAS)
    schemas: Json = _as_draft_7(found["$defs"])
    schemas[Bundle.__name__]["x-media-type"] = BUNDLE
    return dict(sorted(schemas.items()))


def _as_draft_7(value: object) -> Any:  # noqa: ANN401 - JSON in, JSON out
    """AsyncAPI's own schemas are a superset of draft 7, which has no `prefixItems`."""
    match value:
        case dict():
            return {
                "items" if name == "prefixItems" else name: _as_draft_7(part)
                for name, part in value.items()
            }
        case list():
            return [_as_draft_7(part) for part in value]
        case _:
            return value


def main() -> None:
    """Print the document."""
    json.dump(document(), sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
