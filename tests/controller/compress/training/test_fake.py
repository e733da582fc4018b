from typing import TYPE_CHECKING

import numpy as np
import pytest

from controller.compress.errors import CompressError
from controller.compress.quantize import Form
from controller.compress.widths import Width, rounded

if TYPE_CHECKING:
    import torch
else:
    torch = pytest.importorskip("torch")
from torch import nn

from controller.compress.training.fake import (
    FakeQuantized,
    dynamic,
    layer_width,
    on_weights_grid,
)
from controller.compress.training.fold import Folded, folded


def a_batch(*shape: int) -> "torch.Tensor":
    return torch.from_numpy(np.random.default_rng(1).normal(size=shape).astype(np.float32))


@pytest.mark.parametrize("width", [Width.FLOAT16, Width.INT8, Width.INT8_TENSOR, Width.INT4])
@pytest.mark.parametrize("axis", [0, 1])
def test_weights_lie_where_the_quantizer_puts_them_and_stay(width: Width, axis: int) -> None:
    weight = a_batch(6, 5, 3, 3)

    near = on_weights_grid(weight, width, axis)

    expected, _ = rounded(weight.numpy(), axis, width)
    np.testing.assert_allclose(near.numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(on_weights_grid(near, width, axis).numpy(), near.numpy(), atol=1e-6)


@pytest.mark.parametrize("width", [Width.FLOAT16, Width.INT8, Width.INT4])
def test_gradients_pass_as_if_nothing_were_rounded(width: Width) -> None:
    weight = a_batch(4, 8).requires_grad_()
    factor = a_batch(4, 8) + 1

    (on_weights_grid(weight, width, 0) * factor).sum().backward()

    assert torch.equal(weight.grad, factor)


def test_each_row_or_sample_has_its_own_dynamic_grid() -> None:
    x = a_batch(3, 2, 50) * torch.tensor([1.0, 10.0, 100.0])[:, None, None]

    for per_row, spread in ((True, x.flatten(0, 1)), (False, x.flatten(1))):
        near = dynamic(x, per_row=per_row).reshape(spread.shape)
        step = (spread.amax(1) - spread.amin(1)) / 255
        assert ((near - spread).abs().amax(1) <= step * 0.51).all()


@pytest.mark.parametrize(
    ("layer", "widths"),
    [
        (nn.Conv2d(4, 8, 3), (Width.INT8, Width.INT8, Width.INT4)),
        (nn.Conv2d(4, 4, 3, groups=4), (Width.INT8, Width.FLOAT16, Width.FLOAT16)),
        (nn.ConvTranspose2d(4, 8, 2), (Width.INT8, Width.INT8, Width.INT8)),
        (nn.Linear(4, 8), (Width.INT8, Width.INT8_TENSOR, Width.INT4)),
    ],
)
def test_a_layer_has_the_width_that_its_form_gives_it(
    layer: "nn.Module", widths: tuple[Width, ...]
) -> None:
    forms = (Form.INT8, Form.DYNAMIC_INT8, Form.INT4)

    assert tuple(layer_width(layer, form) for form in forms) == widths


class Branches(nn.Module):  # type: ignore[misc, unused-ignore]  # Any without torch
    """Operations that are no modules: sums, in place too, pools, functions."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 4, 3, padding=1)
        self.last = nn.Linear(4, 3)

    def forward(self, x: "torch.Tensor") -> "torch.Tensor":
        seen = torch.relu(self.layer(x))
        total = seen + 0.5
        total.add_(seen)
        pooled = nn.functional.avg_pool2d(torch.cat([total, seen], dim=2), 2)
        answers: torch.Tensor = self.last(pooled.mean((2, 3)))
        return answers


@pytest.mark.parametrize("form", [Form.INT8, Form.DYNAMIC_INT8, Form.INT4])
def test_a_network_answers_nearly_as_before_and_can_be_taught(form: Form) -> None:
    torch.manual_seed(0)
    network, x = Branches().eval(), a_batch(16, 1, 8, 8)
    expected = network(x).detach()
    student = FakeQuantized(Folded(network), form)

    student.observe(x)
    given = student(x)

    assert 0 < (given - expected).abs().max() < 0.25 * expected.abs().max()
    student.train()
    student(x).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())
    if form is Form.INT8:
        assert len(torch.unique(given.detach())) <= 256


def test_settled_weights_answer_the_same_without_rounding_them_again() -> None:
    torch.manual_seed(0)
    network, x = Branches().eval(), a_batch(16, 1, 8, 8)
    student = FakeQuantized(Folded(network), Form.INT4)
    before = student(x).detach()

    student.settle(x[:1])

    assert len(torch.unique(network.last.weight[0])) <= 15
    torch.testing.assert_close(student(x).detach(), before, atol=1e-4, rtol=0)


def test_activations_that_are_no_numbers_end_it() -> None:
    network = Branches().eval()
    network.layer.weight.data[0] = float("inf")

    with pytest.raises(CompressError, match="cannot fine-tune: activations became"):
        FakeQuantized(Folded(network), Form.INT8).observe(a_batch(4, 1, 8, 8))


class Norms(nn.Module):  # type: ignore[misc, unused-ignore]  # Any without torch
    """Batch norms that can be folded, one that cannot: another reads the layer's output too."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.first_norm = nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4)
        self.second, self.second_norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.last, self.last_norm = nn.Linear(4, 3), nn.BatchNorm1d(3)
        for norm in (self.first_norm, self.second_norm, self.last_norm):
            norm.running_mean.uniform_(-1, 1)
            norm.running_var.uniform_(0.5, 2)

    def forward(self, x: "torch.Tensor") -> "torch.Tensor":
        seen = self.second(torch.relu(self.first_norm(self.first(x))))
        both = seen + self.second_norm(seen)
        answers: torch.Tensor = self.last_norm(self.last(both.mean((2, 3))))
        return answers


def test_batch_norms_are_folded_where_that_changes_nothing() -> None:
    torch.manual_seed(0)
    network, x = Norms().eval(), a_batch(8, 1, 6, 6)

    made = folded(network, x)

    torch.testing.assert_close(made(x), network(x), atol=1e-5, rtol=1e-4)
    kinds = {name: type(module).__name__ for name, module in made.network.named_children()}
    assert kinds["first_norm"] == kinds["last_norm"] == "Identity"
    assert kinds["second_norm"] == "BatchNorm2d"
    assert not made.train().network.second_norm.training
    assert made.network.first.training
    assert isinstance(network.first_norm, nn.BatchNorm2d)
