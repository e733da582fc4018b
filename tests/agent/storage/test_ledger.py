"""What the device remembers, and what a disk does to it."""

from pathlib import Path

import pytest

from agent.errors import StoreError
from agent.storage.ledger import Ledger, LedgerFile
from protocols.bundle import BundleRef
from protocols.chunks import artifact_ref
from protocols.desired import DesiredCascade


def cascade(version: int, name: str = "digits", variant: str = "int8") -> DesiredCascade:
    ref = BundleRef(name=name, version=version, artifact=artifact_ref(f"{name}{version}".encode()))
    return DesiredCascade(bundle=ref, variants={"only": variant})


def test_the_ledger_lasts(tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    file = LedgerFile(path)
    file.write(file.now.with_(generation=7, desired="{}"))
    file.note(file.now.with_good((cascade(1),), frozenset({"digits"})))
    again = LedgerFile(path).now
    assert again == file.now
    assert again.generation == 7
    path.with_name(".ledger.json.new").write_bytes(b"half a ledg")  # a write that was cut off
    assert LedgerFile(path).now == again


def test_a_damaged_ledger_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    path.write_bytes(b"{")
    file = LedgerFile(path)
    assert file.now == Ledger()
    assert file.damage.startswith("cannot read ledger: ")
    assert path.with_suffix(".damaged").read_bytes() == b"{"
    file.write(Ledger(generation=1))
    assert LedgerFile(path).damage == ""


def test_a_disk_that_fails_is_told(tmp_path: Path) -> None:
    file = LedgerFile(tmp_path / "nowhere" / "ledger.json")
    with pytest.raises(StoreError, match="cannot write"):
        file.write(Ledger(generation=1))
    assert file.now.generation == 0
    file.note(Ledger(generation=1))
    assert file.now.generation == 1
    file.settle()
    (tmp_path / "nowhere").mkdir()
    file.settle()
    assert LedgerFile(tmp_path / "nowhere" / "ledger.json").now.generation == 1


def test_good_ones_are_kept_newest_first_and_at_most_two() -> None:
    ledger = Ledger()
    for served in (cascade(1), cascade(2), cascade(2, variant="fp32"), cascade(3)):
        ledger = ledger.with_good((served, cascade(1, "other")), frozenset({"digits", "other"}))
    assert [c.bundle.version for c in ledger.good["digits"]] == [3, 2]
    assert ledger.good["digits"][1].variants == {"only": "fp32"}
    ledger = ledger.with_good((cascade(3),), frozenset({"digits"}))
    assert set(ledger.good) == {"digits"}
