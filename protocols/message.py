"""The base of everything that travels: a frozen pydantic class with a version and a codec."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from protocols.errors import MessageError

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
"""A name that may stand in a topic, a file name and a command line: devices, fleets, cascades."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""A SHA-256 digest in lower-case hexadecimal."""


def explain(error: ValidationError) -> str:
    """Say in one line what is wrong with a message: the first faults, with their places."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    shown = [
        f"{'.'.join(map(str, f['loc'])) or 'document'}: {_fault(f['msg'])}" for f in faults[:3]
    ]
    more = f" (and {len(faults) - 3} more)" if len(faults) > len(shown) else ""
    return "; ".join(shown) + more


def _fault(words: str) -> str:
    """Return what is wrong without pydantic's name for the kind of a validator's own error."""
    return words.removeprefix("Value error, ")


class Part(BaseModel):
    """A piece of a message. Readers ignore fields they do not know: fleets are mixed-version."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", allow_inf_nan=False, ser_json_bytes="base64"
    )

    def with_(self, **changes: Any) -> Self:  # noqa: ANN401 - the fields of any message
        """Return a copy with some fields replaced, validated anew."""
        fields = dict(iter(self))  # dict(self) would call a field that is named `keys`
        return type(self).model_validate({**fields, **changes})


class Message(Part):
    """A whole payload: one JSON object in UTF-8, with `v`."""

    KIND: ClassVar[str] = "message"
    MAX_BYTES: ClassVar[int] = 1 << 20

    v: Literal[1] = 1

    def encode(self) -> bytes:
        """Return the message as compact UTF-8 JSON."""
        return self.model_dump_json(exclude_defaults=False).encode()

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Read a message from its bytes.

        Raises:
            MessageError: the bytes are too many, not JSON, or not this message.
        """
        if len(payload) > cls.MAX_BYTES:
            raise MessageError(
                f"cannot read {cls.KIND}: {len(payload)} bytes, at most {cls.MAX_BYTES} are allowed"
            )
        try:
            return cls.model_validate_json(payload)
        except ValidationError as error:
            raise MessageError(f"cannot read {cls.KIND}: {explain(error)}") from error
