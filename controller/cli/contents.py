"""What an envelope holds, for a person who is about to sign it."""

import json

from controller.cli import words
from protocols.errors import MessageError

_TERMS = {"variants", "schedule", "wishes", "sources", "strategy", "paused", "promoted"}
"""What a deployment may say besides what, where and by whom."""


def describe(envelope: bytes) -> str:
    """Say what an envelope holds, whoever has signed it.

    Raises:
        MessageError: it is none, or holds what nobody signs by hand.
    """
    from protocols.bundle import Bundle  # noqa: PLC0415
    from protocols.desired import Deployment  # noqa: PLC0415
    from protocols.envelope import (  # noqa: PLC0415
        BUNDLE,
        DEPLOYMENT,
        KEYS,
        KeySet,
        open_unverified,
    )

    kind, body = open_unverified(envelope)
    if kind == BUNDLE:
        bundle = Bundle.decode(body)
        stages = ", ".join(stage.name for stage in bundle.stages)
        return f"bundle {bundle.name}@{bundle.version}, stages {stages}"
    if kind == DEPLOYMENT:
        one = Deployment.decode(body)
        labels = " ".join(f"{key}={value}" for key, value in one.selector.items())
        where = " with ".join(filter(None, (", ".join(one.devices), labels)))
        verb = "abort of deployment" if one.aborted else "deployment"
        return (
            f"{verb} {one.id} of {words.ref(one.bundle)} "
            f"({one.bundle.artifact.sha256[:12]}) to {where or 'all devices'}, by {one.by}"
        )
    if kind == KEYS:
        keys = KeySet.decode(body)
        held = ", ".join(f"{key.role} {key.key_id}" for key in keys.keys)
        need = ", ".join(f"{count} {role}" for role, count in sorted(keys.threshold.items()))
        return f"key set {keys.version} of fleet {keys.fleet}: {held}; must sign: {need}"
    raise MessageError(f"cannot sign this: it holds {kind[:80]!r}")


def terms(envelope: bytes) -> list[str]:
    """Say what else a deployment's envelope holds, a line each; of a part, what is no default.

    In JSON, because all of it is signed, and nothing in it can pass for another line.

    Raises:
        MessageError: it is no envelope, or no deployment is in it.
    """
    from protocols.desired import Deployment  # noqa: PLC0415
    from protocols.envelope import DEPLOYMENT, open_unverified  # noqa: PLC0415

    kind, body = open_unverified(envelope)
    if kind != DEPLOYMENT:
        return []
    said = Deployment.decode(body).model_dump(mode="json", include=_TERMS, exclude_defaults=True)
    return [f"  {name}: {json.dumps(value)}" for name, value in said.items()]
