"""Which machine this is, and by which enrolment file it came."""

from pathlib import Path

from agent.config import Config
from agent.errors import StartError
from agent.sensors.tree import Tree
from protocols.enrolment import Enrolment, enrolment_of

_SERIALS = (
    "sys/firmware/devicetree/base/serial-number",
    "proc/device-tree/serial-number",
    "etc/machine-id",
)
"""The board's own number first: an SD card that is copied takes `/etc/machine-id` along."""

_NOT_GIVEN = frozenset({"", "uninitialized"})


def read_enrolment(config: Config) -> Enrolment | None:
    """Return what the device says of its enrolment; None: it came without a file.

    Raises:
        StartError: what is kept of the file cannot be read.
    """
    if config.enrolment is None:
        return None
    try:
        nonce = config.enrolment.read_text().strip()
    except (OSError, UnicodeError) as error:
        raise StartError(f"cannot start: enrolment {config.enrolment}: {error}") from error
    if not nonce:
        raise StartError(f"cannot start: enrolment {config.enrolment}: it is empty")
    return enrolment_of(nonce, machine_number(Tree(config.sensors.sysroot)))


def machine_number(tree: Tree) -> str | None:
    """Return what tells this machine from any other; None where nothing does (Android)."""
    found = (tree.text(name) or "" for name in _SERIALS)
    return next((number for number in found if number.strip("0") not in _NOT_GIVEN), None)


def kept_nonce(folder: Path) -> Path:
    """Return where the nonce of an enrolment file is kept."""
    return folder / "enrolment.nonce"
