"""What can go wrong on the device; every text reads "cannot X: why"."""

from protocols.errors import SluiceError


class AgentError(SluiceError):
    """Base of the agent's own errors."""


class StartError(AgentError):
    """The agent cannot start: configuration, trust, an address in use. Exit code 2."""


class RefusalError(AgentError):
    """A desired document that the device does not act on."""

    def __init__(self, message: str, generation: int | None = None) -> None:
        super().__init__(message)
        self.generation = generation


class UnfitError(AgentError):
    """A cascade that cannot run here as the desired document wants it: names, or needs."""


class StoreError(AgentError):
    """The artifact store cannot take or give something: no room, a disk that fails."""


class SourceError(AgentError):
    """A static server that an artifact should come from does not give it."""


class WaitError(AgentError):
    """Something that goes on by itself, later; its text says what it waits for."""


class ChildError(AgentError):
    """A child process of the agent cannot be started or does not do its work."""


class SensorError(AgentError):
    """A source of readings that fails: it raises, ends badly or says what nobody understands."""


class HungError(SensorError):
    """A source of readings that does not answer in time."""
