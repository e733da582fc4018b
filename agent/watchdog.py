"""Telling systemd that we live: sd_notify by hand, nothing where there is no NOTIFY_SOCKET."""

import os
import socket


class Watchdog:
    """Sends notifications; `ping` is due every `interval_s`, None if systemd does not ask for it.

    The protocol is one datagram of KEY=value lines (sd_notify(3)).
    """

    def __init__(self) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "").replace("@", "\0", 1)
        microseconds = os.environ.get("WATCHDOG_USEC", "")
        mine = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        asked = bool(self._address) and microseconds.isdecimal() and mine
        self.interval_s = int(microseconds) / 1e6 / 3 if asked else None

    def ready(self, status: str) -> None:
        """Say that the start is complete."""
        self._send(f"READY=1\nSTATUS={status}")

    def ping(self) -> None:
        """Say that the work loop still turns."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Say that we end on purpose."""
        self._send("STOPPING=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            try:
                sender.sendto(text.encode(), self._address)
            except OSError:
                return  # systemd restarts; the next ping reaches it
