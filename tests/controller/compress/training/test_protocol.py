from importlib.util import find_spec
from pathlib import Path

import pytest

from controller.compress.errors import CompressError
from controller.compress.training.protocol import PACKAGES, load_task

BLOBS = Path(__file__).parent / "blobs.py"
HAS_ALL = all(find_spec(name) is not None for name in PACKAGES)
needs_torch = pytest.mark.skipif(not HAS_ALL, reason="the extra `train` is not installed")

GOOD = """
import torch

def model():
    return torch.nn.Linear(3, 2)

def train_loader():
    return [(torch.zeros(4, 3), torch.tensor([0, 1, 0, 1]))]

validation_loader = train_loader
"""


@pytest.mark.skipif(HAS_ALL, reason="the extra `train` is installed")
def test_what_is_not_installed_is_named() -> None:
    with pytest.raises(CompressError, match=r"cannot train: torch.* pip install '\.\[train\]'"):
        load_task(str(BLOBS))


@needs_torch
def test_a_module_that_keeps_to_the_protocol_is_a_task() -> None:
    task = load_task(str(BLOBS))

    assert task.name == "blobs"
    assert task.classes == 4
    assert tuple(task.example.shape) == (1, 8, 8)
    assert task.first_stage is None
    assert task.test is task.validation
    assert len(list(task.train)) == len(list(task.train)) == 10


@needs_torch
@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("def model", "def modell"), "it has no function model"),
        (("import torch", "import torhc"), "no module 'torhc'"),
        (("import torch\n", "import torch\n1 / 0\n"), "cannot import .*division by zero"),
        (("return torch.nn.Linear(3, 2)", "return 3"), "gave int, want torch.nn.Module"),
        (("return torch.nn.Linear(3, 2)", "return 1 / 0"), "failed: division by zero"),
        (("Linear(3, 2)", "Linear(5, 2)"), "does not take torch.float32"),
        (("Linear(3, 2)", "Flatten(0)"), r"gave torch.float32 \[3\], want logits"),
        (("[0, 1, 0, 1]", "[0, 1, 2, 1]"), "classes 0 to 2 .* tells 2 apart"),
        (("[0, 1, 0, 1]", "[0, 1]"), "want x float32"),
        (("zeros(4, 3)", "zeros(4, 3).double()"), "want x float32"),
        (("zeros(4, 3)", "full((4, 3), torch.nan)"), "NaN or infinity"),
        (("return [(", "return iter([("), None),
        (("return [(torch.zeros(4, 3), torch.tensor([0, 1, 0, 1]))]", "return []"), "no batch"),
        (("return [(torch.zeros(4, 3), torch.tensor([0, 1, 0, 1]))]", "return 3"), "no batches"),
    ],
)
def test_what_cannot_be_used_is_said(
    tmp_path: Path, change: tuple[str, str], why: str | None
) -> None:
    text = GOOD.replace(*change)
    if why is None:
        text, why = text.replace(")]", ")])"), "an iterator, which is empty after one pass"
    path = tmp_path / f"module_{abs(hash(change))}.py"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(CompressError, match=why):
        load_task(str(path))


@needs_torch
@pytest.mark.parametrize("where", ["/no/such/file.py", "no_such_module"])
def test_a_module_that_is_not_there_is_said(where: str) -> None:
    with pytest.raises(CompressError, match=f"{where}.*: (there is no such file|no module)"):
        load_task(where)
