"""Whether a broker does what Sluice needs of it: it must retain documents, and give them back."""

import threading
import uuid
from importlib.metadata import version

from controller.home import Home
from protocols.desired import ControllerStatus
from protocols.errors import LinkError
from protocols.link import Link

_ANSWER_S = 5.0


def retains(home: Home) -> bool:
    """Publish a retained document on a topic of our own, read it with a new session, delete it.

    Raises:
        LinkError: the broker does not confirm what is published.
    """
    name = f"doctor-{uuid.uuid4().hex[:12]}"
    topic = home.topics.controller(name)
    came, up = threading.Event(), threading.Event()
    writer = Link(home.broker, f"{name}-w", lambda *_: None, on_connected=up.set)
    reader = Link(
        home.broker, f"{name}-r", lambda _, body, kept: came.set() if body and kept else None
    )
    reader.subscribe(topic)
    writer.start()
    try:
        if not up.wait(_ANSWER_S):
            raise LinkError(f"cannot reach broker {home.broker.url}: no connection")
        writer.publish_and_wait(topic, _nobody(name), retain=True)
        reader.start()
        return came.wait(_ANSWER_S)
    finally:
        writer.publish_and_wait(topic, b"", retain=True)
        reader.stop()
        writer.stop()


def _nobody(name: str) -> bytes:
    """Return the status of a controller that is not there: whoever sees it goes on undisturbed."""
    return ControllerStatus(controller=name, online=False, version=version("sluice")).encode()
