"""Where artifacts can be had by HTTP(S): templates of URLs, one for all artifacts. No I/O."""

from typing import Annotated

from pydantic import Field

_SHA256 = "{sha256}"

Source = Annotated[str, Field(pattern=r"^https?://[^\s/?#@]+([/?][^\s#]*)?$", max_length=1024)]
"""`https://cdn.example/models/{sha256}`; without the braces, `/<sha256>` is appended.

No `user:password@`: whoever may read deployments would read it.
"""

Sources = Annotated[tuple[Source, ...], Field(max_length=8)]


def artifact_url(source: str, sha256: str) -> str:
    """Return the URL of an artifact, or of a chunk list, in a source."""
    if _SHA256 in source:
        return source.replace(_SHA256, sha256)
    return f"{source.rstrip('/')}/{sha256}"
