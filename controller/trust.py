"""The fleet's keys as they change: the next key set, and the home folder that follows it."""

import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from controller.errors import HomeError
from controller.fleet import Fleet
from controller.home import Home
from protocols.envelope import MAX_KEYS, KeySet, PublicKey, Role
from protocols.errors import TrustError
from protocols.trust import check_usable

_VERSION = re.compile(r"[0-9]{1,9}")


def successor(
    keys: KeySet,
    *,
    add: Sequence[PublicKey] = (),
    remove: Sequence[PublicKey] = (),
    threshold: dict[Role, int] | None = None,
) -> KeySet:
    """Return the next version of a key set.

    Args:
        keys: the one that is trusted now.
        add: keys that are trusted from then on.
        remove: keys that are trusted no more.
        threshold: per role, where it changes.

    Raises:
        HomeError: nothing would change, or nobody could sign with what would be left.
    """
    present = [key for key in keys.keys if key not in remove]
    found = (*present, *(key for key in add if key not in present))
    if len(found) > MAX_KEYS:
        raise HomeError(f"cannot change the keys: {len(found)}, at most {MAX_KEYS} are possible")
    new = keys.with_(
        version=keys.version + 1,
        keys=found,
        threshold={**keys.threshold, **(threshold or {})},
        former=tuple(dict.fromkeys((*keys.former, *remove)))[-MAX_KEYS:],
    )
    if new.with_(version=keys.version) == keys:
        raise HomeError("cannot change the keys: they are so already")
    try:
        check_usable(new)
    except TrustError as error:
        why = str(error).removeprefix("cannot trust keys: ")
        raise HomeError(f"cannot change the keys: {why}") from error
    return new


def check_next(fleet: Fleet, new: KeySet, envelope: bytes) -> None:
    """Check that a fleet has no key set of this version yet: two of one would split it for good.

    Args:
        fleet: as it is now.
        new: what is about to be published.
        envelope: the same, signed; that this very one is there already does no harm.

    Raises:
        TrustError: it has one.
    """
    there = fleet.key_sets.get(new.version)
    if fleet.keys is not None and fleet.keys.version >= new.version:
        why = "this home follows it now: look at ctl keys ls, and make the change anew"
    elif there is not None and there != envelope:
        why = (
            f"another one, which does not follow from this home's keys: is its trust.json an old "
            f"copy? If nobody made that one, clear {fleet.topics.keys(new.version)}"
        )
    else:
        return
    raise TrustError(
        f"cannot publish key set {new.version}: the fleet has version {new.version} already; {why}"
    )


def keep_keys(home: Home, new: KeySet, envelope: bytes) -> None:
    """Make the home folder trust a verified key set, unless it trusts a later one already.

    Args:
        home: whose `trust.json` and chain are written.
        new: the keys.
        envelope: as they came; others get it from here where the broker has lost it.

    Raises:
        HomeError: the home has another one of that version, its own file cannot be read, or the
            folder not be written.
    """
    path = home.chain_dir / f"{new.version}.json"
    try:
        if not path.exists():
            write_public(path, envelope)
        elif path.read_bytes() != envelope:
            raise HomeError(
                f"cannot keep key set {new.version}: {path} is another one of that version; if it "
                "was never published, ctl publish it, or move it away"
            )
        if home.trust().version < new.version:
            write_public(home.trust_file, new.model_dump_json(indent=2).encode() + b"\n")
    except OSError as error:
        raise HomeError(f"cannot write {home.trust_file}: {error}") from error


def chain(home: Home) -> dict[int, bytes]:
    """Return the envelopes of the key sets that the home has followed, by version.

    Raises:
        HomeError: one cannot be read.
    """
    try:
        return {
            int(path.stem): path.read_bytes()
            for path in home.chain_dir.glob("*.json")
            if _VERSION.fullmatch(path.stem)
        }
    except OSError as error:
        raise HomeError(f"cannot read {home.chain_dir}: {error}") from error


def write_public(path: Path, content: bytes) -> None:
    """Replace a file that everybody may read: whole or not at all, and for good.

    Raises:
        OSError: it cannot be written; what was there is there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
        file.write(content)
        file.flush()
        os.fchmod(file.fileno(), 0o644)
        os.fsync(file.fileno())
    Path(file.name).replace(path)
    handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
