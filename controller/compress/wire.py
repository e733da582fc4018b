"""How many bytes a model takes over the air, and what other ways would make of it.

Delivery packs each chunk of 64 KiB by itself (`protocols.packing`); the others see the whole file:
zlib at its highest level, lzma (the .xz format) at its default level and zstd at 19. Zeros and
repeated values, as pruning and clustering make them, pay off here.
"""

import importlib
import importlib.util
import lzma
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from protocols.packing import sent_bytes

_ZLIB_LEVEL = 9
_ZSTD_LEVEL = 19
_ZSTD_MODULES = ("compression.zstd", "backports.zstd", "zstandard")
"""Python 3.14's own, its backport, and the package that came before; all have `compress`."""


@dataclass(frozen=True, slots=True)
class Wire:
    """Bytes of one file in each form.

    Attributes:
        raw_bytes: as it is.
        sent_bytes: as a device gets it from the broker, chunk list included.
        zlib_bytes: deflated.
        lzma_bytes: as .xz.
        zstd_bytes: None: this Python has no zstd.
    """

    raw_bytes: int
    sent_bytes: int
    zlib_bytes: int
    lzma_bytes: int
    zstd_bytes: int | None


def wire(content: bytes) -> Wire:
    """Compress a file, of whatever kind, in every way that there is here, and count."""
    zstd = _zstd()
    return Wire(
        raw_bytes=len(content),
        sent_bytes=sent_bytes(content),
        zlib_bytes=len(zlib.compress(content, _ZLIB_LEVEL)),
        lzma_bytes=len(lzma.compress(content)),
        zstd_bytes=None if zstd is None else len(zstd(content, _ZSTD_LEVEL)),
    )


def _zstd() -> Callable[[bytes, int], bytes] | None:
    for name in _ZSTD_MODULES:
        package = name.partition(".")[0]
        if importlib.util.find_spec(package) is None:
            continue
        try:
            compress: Callable[[bytes, int], bytes] = importlib.import_module(name).compress
        except (ImportError, AttributeError):
            continue
        return compress
    return None
