"""The errors of the wire: what is wrong with something that came from the other side.

Every message reads "cannot X: why", so that it can be shown to a person as it is.
"""


class SluiceError(Exception):
    """Base of every error that Sluice raises on purpose; its text is written for a person."""


class MessageError(SluiceError):
    """A payload is not the message its topic or its reader expects."""


class TopicError(SluiceError):
    """A topic, or a name that would become part of one, is not one of ours."""


class TrustError(SluiceError):
    """An envelope is not signed as the key set demands, or is not meant for its reader."""


class ArtifactError(SluiceError):
    """An artifact's bytes are not those that its name promises."""


class LinkError(SluiceError):
    """The broker cannot be reached, or has refused us."""
