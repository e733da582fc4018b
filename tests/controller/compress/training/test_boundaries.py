"""Which layers a network can be cut behind: the choice among them, and finding them in a file."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controller.compress.errors import CompressError
from controller.compress.training.boundaries import Boundary, boundary, distinct, spread

ONE = Boundary("block.0", "tensor", channels_last=False, shape=(1, 4), share=0.1)
HERE = Path(__file__).parent


def several(*shares: float) -> list[Boundary]:
    return [
        replace(ONE, layer=f"block.{number}", tensor=f"tensor {number}", share=share)
        for number, share in enumerate(shares)
    ]


def test_of_the_layers_that_stand_for_one_tensor_the_shortest_name_is_taken() -> None:
    block = replace(ONE, layer="block")
    other = replace(ONE, layer="other", tensor="another", share=0.05)
    assert distinct([ONE, block, other]) == (other, block)


def test_candidates_are_spread_over_what_may_lie_before_them() -> None:
    found = several(0.0, 0.1, 0.11, 0.12, 0.3, 0.5, 0.9)
    assert [one.share for one in spread(found, 0.6, 3)] == [0.1, 0.3, 0.5]
    assert [one.share for one in spread(found, 0.6, 9)] == [0.1, 0.11, 0.12, 0.3, 0.5]
    assert spread(found, 0.05, 3) == ()


def _torch() -> Any:  # noqa: ANN401 - where it is installed
    pytest.importorskip("litert_torch")
    return pytest.importorskip("torch")


def test_every_layer_that_hands_over_alone_is_found_in_the_file() -> None:
    torch = _torch()
    from controller.compress.training.boundaries import boundaries  # noqa: PLC0415
    from controller.compress.training.export import to_tflite  # noqa: PLC0415

    torch.manual_seed(0)
    nn = torch.nn
    first = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
    network = nn.Sequential(
        first, nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4)
    ).eval()
    x = torch.rand(4, 1, 8, 8)
    content = to_tflite(network, x, "it")

    found = {one.layer: one for one in boundaries(network, x, content, "it")}

    # What the converter folds into one operator (convolution, batch norm) is no boundary.
    assert set(found) == {"0", "0.2", "2", "3"}
    assert found["0"].tensor == found["0.2"].tensor
    assert (found["0"].channels_last, found["0"].shape) == (True, (1, 4, 4, 8))
    assert (found["3"].channels_last, found["3"].shape) == (False, (1, 48))
    assert 0 < found["0"].share < found["2"].share < 1
    assert boundary(list(found.values()), "2", network) == found["2"]
    with pytest.raises(CompressError, match=r"behind '1': no tensor .* can be cut behind: 0, 2, 3"):
        boundary(list(found.values()), "1", network)
    with pytest.raises(CompressError, match="behind 'nowhere': there is no such layer"):
        boundary(list(found.values()), "nowhere", network)
