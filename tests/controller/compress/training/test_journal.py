from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from controller.compress.training.journal import Journal  # noqa: E402


def test_what_was_kept_is_found_again(tmp_path: Path) -> None:
    network = torch.nn.Linear(2, 3)
    Journal(tmp_path, network, "a").put("one", (network, 5))

    again, number = Journal(tmp_path, network, "a").get("one")

    assert torch.equal(again.weight, network.weight)
    assert number == 5


def test_another_network_or_other_settings_find_nothing(tmp_path: Path) -> None:
    network = torch.nn.Linear(2, 3)
    Journal(tmp_path, network, "a").put("one", 1)

    assert Journal(tmp_path, torch.nn.Linear(2, 3), "a").get("one") is None
    assert Journal(tmp_path, network, "b").get("one") is None
    assert Journal(None, network, "a").get("one") is None


def test_what_is_damaged_counts_as_not_there(tmp_path: Path) -> None:
    network = torch.nn.Linear(2, 3)
    journal = Journal(tmp_path, network)
    journal.put("one", 1)
    (path,) = tmp_path.rglob("one.pt")
    path.write_bytes(path.read_bytes()[:20])

    assert journal.get("one") is None
