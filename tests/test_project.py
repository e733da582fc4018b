"""The project's own promises: what is installed is what is imported, and what is locked holds."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
OURS = {"agent", "controller", "protocols", "tests"}
MODULE_OF = {"paho-mqtt": "paho"}
"""Distributions whose module has another name than theirs."""
LOCKS = ("requirements.lock", "requirements-agent.lock")


def imported(*folders: str) -> set[str]:
    """Return the top-level modules that the code in some folders imports, wherever it does."""
    return (
        {
            name.partition(".")[0]
            for folder in folders
            for path in (ROOT / folder).rglob("*.py")
            for name in _imports(ast.parse(path.read_text()))
        }
        - OURS
        - sys.stdlib_module_names
    )


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def modules(requirements: list[str]) -> set[str]:
    """Return the modules that some requirements bring."""
    names = {re.split(r"[^A-Za-z0-9._-]", line)[0] for line in requirements}
    return {MODULE_OF.get(name, name.replace("-", "_")) for name in names - {"sluice"}}


BASE = modules(PROJECT["project"]["dependencies"])


def test_the_agent_installs_what_it_imports_and_nothing_else() -> None:
    assert imported("agent", "protocols") == BASE | modules(EXTRAS["agent"])


def test_the_controller_installs_what_it_imports_and_nothing_else() -> None:
    extras = ["controller", "demo", "compress", "train"]
    extras += [name for name in EXTRAS if name.startswith("convert-")]
    wanted = BASE | {module for extra in extras for module in modules(EXTRAS[extra])}
    interpreters = {"ai_edge_litert", "tflite_runtime"}
    found = imported("controller", "protocols") | {"numpy"}
    assert found - interpreters == wanted - interpreters


def test_the_tests_name_what_they_import() -> None:
    groups: dict[str, list[str]] = PROJECT["dependency-groups"]
    named = BASE | {m for extra in EXTRAS.values() for m in modules(extra)}
    assert imported("tests") <= named | modules(groups["test"]) | {
        "annotated_types",
        "pydantic_core",
    }


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_index_and_hashes_everything(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert not re.search(r"https?://|file:|--(extra-)?index-url|--find-links", text)
    entries = re.findall(r"^(\S+?)==.*(?:\n    --hash=sha256:[0-9a-f]{64}.*)+", text, re.MULTILINE)
    assert len(entries) == len(re.findall(r"^\w", text, re.MULTILINE))
    assert len(entries) > 10


def locked(lock: str) -> dict[str, set[str]]:
    """Return the versions that a lock allows of each distribution."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^(\S+?)==(\S+)", (ROOT / lock).read_text(), re.MULTILINE):
        found.setdefault(name, set()).add(version)
    return found


def test_both_locks_agree() -> None:
    whole, agent = (locked(lock) for lock in LOCKS)
    for name, versions in agent.items():
        assert versions <= whole[name], name


def test_the_agents_lock_holds_what_it_needs_and_not_what_its_interpreter_never_imports() -> None:
    agent = locked("requirements-agent.lock")
    named = [*PROJECT["project"]["dependencies"], *EXTRAS["agent"]]
    assert {re.split(r"[^A-Za-z0-9._-]", line)[0] for line in named} <= set(agent)
    assert not set(agent) & {"tqdm", "protobuf", "flatbuffers", "ml-dtypes", "backports-strenum"}


def test_every_direct_requirement_is_locked_but_for_what_trains_or_converts() -> None:
    """Torch and TensorFlow are gigabytes that no test needs: extras without a lock."""
    groups: dict[str, list[str]] = PROJECT["dependency-groups"]
    lines = [*PROJECT["project"]["dependencies"]]
    extras = [lines for name, lines in EXTRAS.items() if not name.startswith(("train", "convert-"))]
    lines += [line for part in (*extras, *groups.values()) for line in part]
    names = {re.split(r"[^A-Za-z0-9._-]", line)[0] for line in lines} - {"sluice"}
    assert names <= set(locked("requirements.lock"))


def test_every_test_folder_is_a_package() -> None:
    folders = {path.parent for path in (ROOT / "tests").rglob("*.py")}
    assert [f for f in folders if not (f / "__init__.py").exists()] == []


def test_the_documents_name_no_package_index_install_of_ours() -> None:
    """The index has another project's `sluice`."""
    texts = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "deploy").rglob("*.md")]
    texts += [p for folder in ("agent", "controller") for p in (ROOT / folder).rglob("*.py")]
    wrong = re.compile(r"pip install [^\n]*['\" ]sluice[\[ '\"\n]")
    assert [str(path) for path in texts if wrong.search(path.read_text())] == []
