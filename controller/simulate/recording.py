"""Live telemetry, folded into the lines of a trace. Pure."""

from controller.simulate.trace import TraceLine
from protocols.device import Telemetry


class Recording:
    """Tells what is new: QoS 0 may repeat a message, or bring one late."""

    def __init__(self) -> None:
        self._last: Telemetry | None = None
        self._runs: set[str] = set()

    def take(self, telemetry: Telemetry, local_minute: int | None) -> TraceLine | None:
        """Return the line of a message; None: it brings no new sample.

        That is one that came before (boot id and seq), an earlier one that comes late, or one that
        repeats the sample of the message before: a device may read its sensors more rarely.

        Args:
            telemetry: of the one device that is recorded.
            local_minute: minutes since midnight on the device; None: not known.
        """
        last = self._last
        if last is not None and telemetry.boot_id == last.boot_id:
            if telemetry.seq <= last.seq or telemetry.sample.time_s <= last.sample.time_s:
                return None
        elif telemetry.boot_id in self._runs:
            return None
        self._last = telemetry
        self._runs.add(telemetry.boot_id)
        return TraceLine(
            **dict(iter(telemetry.sample)),
            ts=telemetry.ts,
            local_minute=local_minute,
            device=telemetry.device,
            boot_id=telemetry.boot_id,
            seq=telemetry.seq,
            rungs=telemetry.rungs,
            cascades=telemetry.cascades,
        )
