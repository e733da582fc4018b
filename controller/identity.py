"""Who we are, for people: it stands in deployments, pins and the audit trail."""

import getpass
import socket


def whoami() -> str:
    """Return who gives this command, as user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in containers
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
