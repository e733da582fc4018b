"""Our place at the broker: the session, its last will, and the status that others see."""

import logging
import uuid

from agent.config import Config
from agent.inbox import Connected, Disconnected, Inbox, Received
from agent.reporting.inventory import agent_version
from agent.reporting.publisher import Publisher
from agent.sensors.cores import Cores
from protocols.device import Inventory, Status
from protocols.link import Link, Will
from protocols.profile import StageProfile
from protocols.topics import Topics

log = logging.getLogger("sluice.session")


class Session:
    """Holds the MQTT session of one run of the agent; what comes goes into the inbox."""

    def __init__(self, config: Config, inventory: Inventory, inbox: Inbox) -> None:
        self._inventory = inventory
        self._connected = self._contradicted = self._rival = False
        self.topics = Topics(config.fleet)
        self.desired_topic = self.topics.device(config.id, "desired")
        self.status_topic = self.topics.device(config.id, "status")
        self.keys_topic = ""
        self._broker = config.session()
        self._will = Status(
            device=config.id, online=False, boot_id=uuid.uuid4().hex, version=agent_version()
        )
        self._link = Link(
            self._broker,
            f"sluice-{config.fleet}-{config.id}",
            lambda topic, payload, _retained: inbox.put(Received(topic, payload)),
            on_connected=lambda: inbox.put(Connected()),
            on_disconnected=lambda reason: inbox.put(Disconnected(reason)),
            will=Will(self.status_topic, self._will.encode()),
        )
        self._link.subscribe(self.desired_topic, self.status_topic)
        self.publisher = Publisher(self._link.publish, self.topics, self._will)

    @property
    def boot_id(self) -> str:
        """Of this run of the agent."""
        return self._will.boot_id

    @property
    def introduction(self) -> str:
        """Who we are and where we answer, for a person."""
        it = self._inventory
        where = " and ".join(it.endpoints) or "no endpoint"
        return (
            f"agent {it.agent_version} of {it.device}, {it.runtime or 'no interpreter installed'}, "
            f"answers at {where}"
        )

    def follow_keys(self, version: int) -> None:
        """Hear of the key set that follows this version: one topic, which need not be a filter."""
        if self.keys_topic:
            self._link.unsubscribe(self.keys_topic)
        self.keys_topic = self.topics.keys(version + 1)
        self._link.subscribe(self.keys_topic)

    def start(self) -> None:
        """Connect in the background, whenever the broker can be reached."""
        self._link.start()

    def connected(self) -> None:
        """Say who we are: after connecting, so that no will of an older session comes later."""
        log.info("connected to %s", self._broker.url)
        self._connected = True
        self.publisher.connected(self._inventory)

    def learned(self, profiles: tuple[StageProfile, ...]) -> None:
        """Say what has been measured of the models, now and at every later connection."""
        self._describe(self._inventory.with_(profiles=profiles))

    def uses(self, cores: Cores) -> None:
        """Say which CPUs may be used, now and at every later connection."""
        self._describe(self._inventory.with_(cores=cores.classes, cores_source=cores.source))

    def found_battery(self) -> None:
        """Say that the device has a battery: some are told of by a program, after the start."""
        if not self._inventory.has_battery:
            self._describe(self._inventory.with_(has_battery=True))

    def _describe(self, inventory: Inventory) -> None:
        if inventory != self._inventory:
            self._inventory = inventory
            self.publisher.describe(inventory)

    def disconnected(self, reason: str) -> None:
        """Keep what there is to say."""
        log.warning("%s", reason)
        self._connected = False
        self.publisher.disconnected()

    def saw_status(self, payload: bytes) -> None:
        """Read what the broker says of us.

        The will of a session that the broker has only now given up may come after our own status:
        it is contradicted at the next `insist`.

        Raises:
            MessageError: it is no status.
        """
        if not payload:
            self._contradicted = True
            return
        status = Status.decode(payload)
        self._contradicted = not status.online
        if status.online and status.boot_id != self.boot_id and self._connected:
            if not self._rival:
                log.warning("another agent uses the name %r: give one of them an id", status.device)
            self._rival = True

    def insist(self) -> None:
        """Say that we are online if the broker says otherwise; at most once a call."""
        if self._contradicted and self._connected:
            self._contradicted = False
            self.publisher.say_online()

    def leave(self) -> None:
        """Write out what is queued and go; the last will stays silent."""
        self._link.stop()
