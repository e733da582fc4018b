"""amqtt as the embedded broker, with what is wrong in 0.12 put right. For demo and tests only.

    python -m controller.amqtt_broker HOST PORT

It speaks MQTT 3.1.1, has no working access control and keeps nothing on disk.
"""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

from amqtt.broker import Broker
from amqtt.session import Session

Subscriptions = dict[str, list[tuple[Session, int]]]


class SteadySubscriptions(dict[str, list[tuple[Session, int]]]):
    """Subscriptions that may change while amqtt walks them: it awaits inside its loops."""

    def __iter__(self) -> Iterator[str]:
        return iter(list(super().__iter__()))

    def items(self) -> Any:  # noqa: ANN401 - dict_items has no public name
        """Return the items as they are now."""
        return dict(super().items()).items()


class TightBroker(Broker):  # type: ignore[misc] # amqtt comes without types
    """Sends retained messages to those only who have subscribed to them."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self._subscriptions: Subscriptions = SteadySubscriptions()

    async def _publish_retained_messages_for_subscription(
        self, subscription: tuple[str, int], session: Session
    ) -> None:
        """On every CONNECT amqtt asks this for *every* client's filters: leave out the others'."""
        if any(subscriber is session for subscriber, _ in self._subscriptions[subscription[0]]):
            await super()._publish_retained_messages_for_subscription(subscription, session)


async def serve(host: str, port: int) -> None:
    """Run until SIGTERM or SIGINT."""
    broker = TightBroker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"{host}:{port}"}},
            "plugins": {
                "amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}
            },
        }
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        # Its own shutdown may wait for a client for ever, and there is nothing to be kept.
        asyncio.get_running_loop().add_signal_handler(number, os._exit, 0)
    await broker.start()
    await asyncio.Event().wait()


def main(host: str, port: str) -> None:
    """Run the broker quietly: its own log tells every client's every move."""
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    for name in ("amqtt", "transitions"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    asyncio.run(serve(host, int(port)))


if __name__ == "__main__":
    main(*sys.argv[1:])
