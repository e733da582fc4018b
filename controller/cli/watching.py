"""Watching a deployment until nothing is under way any more, or the person has seen enough."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from controller.cli import words
from controller.cli.exits import ExitCode
from controller.cli.live import Changing
from controller.cli.output import Column, Format, error_line, note, print_json
from controller.cli.views import phase_style
from controller.progress import DeviceProgress, Outcome, outcome, progress
from controller.session import Session
from protocols.bundle import Bundle
from protocols.desired import Deployment

_LOOK_S = 0.2
_AT_ONCE_S = 600.0
_CALM = frozenset({"running", "offline"})


def _bytes(one: DeviceProgress) -> str | None:
    if not one.total_bytes:
        return None
    return f"{words.size(one.fetched_bytes)} of {words.size(one.total_bytes)}"


PROGRESS_COLUMNS: list[Column[DeviceProgress]] = [
    Column("DEVICE", lambda p: p.device),
    Column("PHASE", lambda p: p.phase, style=lambda p: phase_style(p.phase)),
    Column("FETCHED", _bytes, right=True),
    Column("MESSAGE", lambda p: p.message, wrap=True),
]


@dataclass(frozen=True, slots=True)
class Watched:
    """How a deployment stood when the watching ended."""

    devices: tuple[DeviceProgress, ...]
    outcome: Outcome
    timed_out: bool

    @property
    def code(self) -> ExitCode:
        """The exit code of a command that ends with it."""
        return ExitCode(self.outcome.exit_code)


def watch_to_the_end(
    session: Session,
    deployment: Deployment,
    bundle: Bundle | None,
    timeout_s: float | None,
    output: Format,
) -> ExitCode:
    """Watch a deployment, in waves or at once, say how it ended, and return the exit code.

    Args:
        session: that plans meanwhile, if nobody serves.
        deployment: as it was published.
        bundle: of it; without it nothing is said of what cannot fit.
        timeout_s: None: ten minutes, and for ever where there are waves.
        output: how the end is printed.
    """
    from controller.cli import rollout_watch  # noqa: PLC0415

    warn_without_controller(session)
    try:
        if deployment.strategy is not None:
            found = rollout_watch.watch_rollout(session, deployment, timeout_s)
            return rollout_watch.finish(found, output)
        watched = watch(session, deployment, bundle, _AT_ONCE_S if timeout_s is None else timeout_s)
        return finish(deployment, watched, output)
    except KeyboardInterrupt:
        return interrupted(session, deployment)


def watch(
    session: Session, deployment: Deployment, bundle: Bundle | None, timeout_s: float
) -> Watched:
    """Show how far the devices are until all is settled or the time is over.

    Ctrl-C comes out as KeyboardInterrupt, with the view put away.
    """
    deadline = time.monotonic() + timeout_s
    head = f"{words.ref(deployment.bundle)}, deployment {deployment.id}"
    with Changing(
        PROGRESS_COLUMNS,
        key=lambda p: p.device,
        line=_line,
        title=lambda rows: f"{head}: {outcome(rows).message}",
    ) as view:
        while True:
            devices = progress(deployment, session.fleet, bundle)
            view.show(sorted(devices, key=lambda p: (p.phase in _CALM, p.device)))
            found = outcome(devices)
            if found.settled or time.monotonic() >= deadline:
                return Watched(devices, found, timed_out=not found.settled)
            time.sleep(_LOOK_S)


def finish(deployment: Deployment, watched: Watched, output: Format) -> ExitCode:
    """Say how it ended, and return the exit code."""
    if output is Format.JSON:
        print_json(document(deployment, watched.devices, watched.code))
    ref = words.ref(deployment.bundle)
    match watched.code:
        case ExitCode.DONE:
            note(f"{ref} runs on {words.count(len(watched.devices), 'device')}.", style="green")
        case ExitCode.PENDING:
            state = "was not there in time" if watched.timed_out else "is pending"
            note(f"{ref} {state}: {watched.outcome.message}. It goes on by itself.")
            note(how_to_go_on(deployment))
        case _:
            error_line(f"{ref} does not run everywhere: {watched.outcome.message}.")
    return watched.code


def interrupted(session: Session, deployment: Deployment) -> ExitCode:
    """Say what Ctrl-C has ended, and what not."""
    note(f"Stopped watching; deployment {deployment.id} goes on.")
    if not session.fleet.alive("serve"):
        note("No `ctl serve` is alive: devices not told yet follow once one runs, or you watch.")
    note(how_to_go_on(deployment))
    return ExitCode.PENDING


def how_to_go_on(deployment: Deployment) -> str:
    """Return the commands that watch and abort a deployment."""
    group = "rollout" if deployment.strategy is not None else "deployment"
    return (
        f"Watch it: ctl {group} watch {deployment.id}   Abort it: ctl {group} abort {deployment.id}"
    )


def warn_without_controller(session: Session) -> None:
    """Say so where nobody would tell the devices."""
    if not session.acting and not session.fleet.alive("serve"):
        note(
            "No controller is alive and there is no controller key here: the devices follow once "
            "`ctl serve` runs.",
            style="yellow",
        )


def document(
    deployment: Deployment, devices: Sequence[DeviceProgress], code: ExitCode
) -> dict[str, object]:
    """Return a deployment and its devices as JSON has them."""
    return {
        "deployment": deployment,
        "devices": devices,
        "exit_code": int(code),
        "outcome": outcome(devices).message,
    }


def _line(one: DeviceProgress) -> str:
    message = f": {one.message}" if one.message else ""
    return f"{one.device} {one.phase}{message}"
