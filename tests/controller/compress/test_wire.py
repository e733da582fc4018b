import lzma
import zlib

from controller.compress.wire import wire
from protocols.packing import sent_bytes
from tests import models


def test_every_form() -> None:
    content = models.classifier(models.random_layers(64, 64, 10))
    found = wire(content)
    assert found.raw_bytes == len(content)
    assert found.sent_bytes == sent_bytes(content) < len(content)
    assert found.zlib_bytes == len(zlib.compress(content, 9))
    assert found.lzma_bytes == len(lzma.compress(content))
    assert found.zstd_bytes is None or 0 < found.zstd_bytes < len(content)


def test_zeros_travel_light() -> None:
    found = wire(bytes(10_000))
    assert found.lzma_bytes < 200
    assert found.sent_bytes < 50
