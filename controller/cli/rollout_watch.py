"""Watching a rollout until it has ended, and saying how."""

import time
from typing import TYPE_CHECKING

from controller.cli import words
from controller.cli.exits import ExitCode
from controller.cli.live import Changing
from controller.cli.output import Format, error_line, note, out, print_json, table
from controller.cli.rollout_views import (
    FINDING_COLUMNS,
    WAVE_COLUMNS,
    document,
    headline,
    hints,
    notes,
    shown_findings,
    wave_rows,
)
from controller.rollouts.overview import Overview, overview

if TYPE_CHECKING:
    from controller.session import Session
    from protocols.desired import Deployment

_LOOK_S = 0.2
_LOOK_SHARE = 5.0
"""In a large fleet a look takes long: it is given a sixth of the time at most."""
_NAMED = 12


def look(session: "Session", deployment: "Deployment") -> Overview:
    """Return how a rollout stands now."""
    bundle = session.bundles.get(deployment.bundle.artifact.sha256)
    return overview(deployment, session.fleet, bundle, time.time())


def code_of(found: Overview) -> ExitCode:
    """Return the exit code of a command that ends now."""
    return ExitCode(found.outcome.exit_code)


def show(found: Overview) -> None:
    """Print a rollout at a glance."""
    now_s = time.time()
    out().print(headline(found), style="bold", markup=False, highlight=False)
    out().print(table(wave_rows(found, now_s), WAVE_COLUMNS))
    if found.findings:
        out().print()
        out().print(table(shown_findings(found), FINDING_COLUMNS))
    for line in [*notes(found, now_s, listened=False), *([hints(found)] if hints(found) else [])]:
        note(line, style="dim")


def watch_rollout(
    session: "Session", deployment: "Deployment", timeout_s: float | None
) -> Overview:
    """Show a rollout until it has ended and its devices have followed, or the time is over.

    Ctrl-C comes out as KeyboardInterrupt, with the view put away.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    found, now_s = look(session, deployment), time.time()

    def title(_rows: object) -> str:
        shown = [] if found.outcome.settled else found.findings[:5]
        warned = [f"{f.device or 'all'}: gate {f.gate}: {f.message}" for f in shown]
        return "\n".join([headline(found), *warned, *notes(found, now_s, listened=True)])

    with Changing(WAVE_COLUMNS, lambda r: r.wave.name, lambda r: r.line, title) as view:
        while True:
            began_s = time.monotonic()
            found, now_s = look(session, deployment), time.time()
            view.show(wave_rows(found, now_s))
            if found.outcome.settled or (deadline is not None and time.monotonic() >= deadline):
                return found
            time.sleep(max(_LOOK_S, _LOOK_SHARE * (time.monotonic() - began_s)))


def finish(found: Overview, output: Format) -> ExitCode:
    """Say how it has ended, and return the exit code."""
    code = code_of(found)
    if output is Format.JSON:
        print_json(document(found, code))
    rollout = found.rollout
    match code:
        case ExitCode.DONE if rollout is not None:
            note(f"{headline(found)}.", style="green")
            for finding in found.findings:
                note(f"Tolerated: {finding.device}: {finding.message}", style="yellow")
            if found.away:
                note(notes(found, time.time(), listened=False)[-1])
        case ExitCode.PENDING:
            note(f"{headline(found)}. A ctl serve goes on with it, or whoever watches.")
            note(hints(found))
        case _:
            error_line(f"{headline(found)}.")
            for finding in shown_findings(found):
                error_line(f"  {finding.device or 'all'}: gate {finding.gate}: {finding.message}")
            _say_reverted(found)
    return code


def _say_reverted(found: Overview) -> None:
    back = [one.device for one in found.devices if one.phase == "reverted"]
    coming = [one.device for one in found.devices if one.phase == "reverting"]
    if back:
        note(f"Back to what was there before: {words.listed(back, _NAMED)}.")
    if coming:
        note(f"Still going back: {words.listed(coming, _NAMED)}.")
