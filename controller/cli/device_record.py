"""`ctl device record`: a device's live telemetry, as a trace that can be replayed."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli import words
from controller.cli.context import open_home, open_session
from controller.cli.options import duration_option
from controller.cli.output import note

if TYPE_CHECKING:
    from queue import SimpleQueue

    from controller.home import Home
    from controller.simulate.files import TraceWriter
    from controller.simulate.recording import Recording
    from protocols.link import Link

TraceOut = Annotated[
    Path | None, typer.Option("--out", metavar="FILE", help="Where to.", show_default="stdout")
]
Force = Annotated[bool, typer.Option("--force", help="Take the place of a file that is there.")]

_CLOCK_SET_AFTER_S = 1.7e9
"""As the agent has it: a wall clock before this has not been set since the machine started."""
_POLL_S = 1.0


def record(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="DEVICE")],
    *,
    for_s: Annotated[
        float | None,
        duration_option("--for", "How long; without it until Ctrl-C.", "until Ctrl-C"),
    ] = None,
    out_file: TraceOut = None,
    force: Force = False,
) -> None:
    """Write a device's telemetry as a trace for ctl simulate governor, one sample a line.

    A device says how it is every 5 s, and samples every second: what passes between two lines is
    not in the trace. docs/simulation.md says what that means.

    Example: ctl device record pi-1 --for 1h --out pi-1.jsonl
    """
    from controller.compress.sources import check_free  # noqa: PLC0415
    from controller.simulate.files import TraceWriter  # noqa: PLC0415

    if out_file is not None:
        check_free([out_file], force=force)
    _check_known(ctx, name)
    with TraceWriter(out_file) as writer:
        count, last_s = _record(open_home(ctx), name, writer, for_s)
    where = f" in {out_file}" if out_file is not None else ""
    note(f"{words.count(count, 'sample')} of {words.age(last_s)}{where}.")
    if not count:
        raise TimeoutError(
            f"cannot record {name}: it has sent no telemetry in {words.age(last_s)}; is it online?"
        )


def _check_known(ctx: typer.Context, name: str) -> None:
    from controller.errors import ControllerError  # noqa: PLC0415

    with open_session(ctx) as session:
        if name not in session.fleet.devices:
            known = words.listed(sorted(session.fleet.devices)) or "none"
            raise ControllerError(f"cannot record {name}: no such device; the fleet has {known}")


def _record(
    home: "Home", name: str, writer: "TraceWriter", for_s: float | None
) -> tuple[int, float]:
    """Record until the time is over or somebody says so; return the samples and the seconds."""
    import queue  # noqa: PLC0415

    from controller.simulate.recording import Recording  # noqa: PLC0415

    inbox: SimpleQueue[bytes | str] = queue.SimpleQueue()
    recording, count, began_s = Recording(), 0, time.monotonic()
    link = _listen(home, name, inbox)
    try:
        while (left_s := _left_s(began_s, for_s)) > 0:
            try:
                item = inbox.get(timeout=min(left_s, _POLL_S))
            except queue.Empty:
                continue
            if isinstance(item, str):
                note(f"{item}; recording goes on when the broker is back")
            else:
                count += _take(item, name, recording, writer)
    except KeyboardInterrupt:
        pass
    finally:
        link.stop()
    return count, time.monotonic() - began_s


def _left_s(began_s: float, for_s: float | None) -> float:
    return _POLL_S if for_s is None else began_s + for_s - time.monotonic()


def _listen(home: "Home", name: str, inbox: "SimpleQueue[bytes | str]") -> "Link":
    """Subscribe to one device's telemetry. A session would keep the last message alone."""
    from controller.presence import controller_name  # noqa: PLC0415
    from protocols.link import Link  # noqa: PLC0415

    link = Link(
        home.broker,
        f"{home.fleet}-ctl-{controller_name(home, 'watch')}",
        lambda _topic, payload, _retained: inbox.put(payload),
        on_disconnected=inbox.put,
    )
    link.subscribe(home.topics.device(name, "telemetry"), qos=0)
    link.start()
    return link


def _take(payload: bytes, name: str, recording: "Recording", writer: "TraceWriter") -> bool:
    """Write what a message brings; whether it brought something new."""
    from protocols.device import Telemetry  # noqa: PLC0415
    from protocols.errors import MessageError  # noqa: PLC0415

    try:
        telemetry = Telemetry.decode(payload)
    except MessageError as error:
        note(f"{name}: {error}")
        return False
    if telemetry.device != name:
        note(f"{name}: cannot accept telemetry of {telemetry.device} in its place")
        return False
    line = recording.take(telemetry, _local_minute(telemetry.ts))
    if line is not None:
        writer.write(line)
    return line is not None


def _local_minute(ts: float) -> int | None:
    """Return minutes since midnight here, when the device's clock says so; None: it is not set."""
    if ts < _CLOCK_SET_AFTER_S:
        return None
    local = time.localtime(ts)
    return 60 * local.tm_hour + local.tm_min
