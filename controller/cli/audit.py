"""`ctl audit`: who did what, when."""

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli import words
from controller.cli.context import open_home, show_log
from controller.cli.options import duration_option
from controller.cli.output import Column, Format, Output, note, print_rows

if TYPE_CHECKING:
    from controller.audit import Recorded


_SHOWN = 3


def audit(
    ctx: typer.Context,
    *,
    since_s: Annotated[
        float | None, duration_option("--since", "Only so far back: 90m, 7d.", "all")
    ] = None,
    act: Annotated[
        str | None, typer.Option("--act", metavar="ACT", help="Only these: deployed, pinned ...")
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", metavar="DEVICE", help="Only acts on this device.")
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """List deployments, pins, changes of keys and enrolments: who, when, what; the newest first.

    Each entry is signed by who acted. The broker keeps the last 1,000; what was done from here is
    in audit.jsonl of the home folder for ever.

    Example: ctl audit --since 7d --act deployed
    """
    found = _read(ctx)
    since_ts = None if since_s is None else time.time() - since_s
    rows = [
        one
        for one in found
        if (since_ts is None or one.entry.ts >= since_ts)
        and (act is None or one.entry.act == act)
        and (device is None or one.entry.target == device)
    ]
    print_rows(
        rows,
        [
            Column("WHEN", lambda r: _when(r.entry.ts)),
            Column("WHO", lambda r: r.entry.by),
            Column("ACT", lambda r: r.entry.act),
            Column("ON", lambda r: r.entry.target),
            Column("WHAT", lambda r: r.entry.message, wrap=True),
            Column(
                "KEY", lambda r: r.entry.key_id + (" (removed)" if r.former else ""), spare=True
            ),
        ],
        output,
        empty="Nothing is recorded.",
        document=lambda r: {**r.entry.model_dump(mode="json"), "key_removed": r.former},
    )


def _read(ctx: typer.Context) -> "list[Recorded]":
    from controller.audit import read_trail  # noqa: PLC0415
    from controller.retained import read_retained  # noqa: PLC0415

    show_log()
    home = open_home(ctx)
    topics = home.topics
    trail = read_trail(read_retained(home, (topics.audit("+"),)), topics, home.trust())
    wrong = [why for _, why in sorted(trail.junk.items())]
    for said in wrong[:_SHOWN]:
        note(said, style="yellow")
    if len(wrong) > _SHOWN:
        note(f"... and {len(wrong) - _SHOWN} more that nobody trusted vouches for.", "yellow")
    if trail.misplaced:
        note(
            f"Skipped {words.count(len(trail.misplaced), 'message')} on topics that can be of no "
            "entry.",
            "yellow",
        )
    return sorted(trail.entries.values(), key=lambda one: one.entry.id, reverse=True)


def _when(ts: float) -> str:
    return datetime.fromtimestamp(ts, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
