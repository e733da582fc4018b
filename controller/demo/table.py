"""What the demo measured, as tables for a person."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.table import Table

from controller.demo.traffic import Answer
from protocols.device import Event

_MIB = 1 << 20


@dataclass(frozen=True)
class Cost:
    """What answers cost in a quiet phase: CPU of the whole runner process, HTTP included."""

    answers: Sequence[Answer]
    cpu_s: float

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds an answer."""
        return 1000 * self.cpu_s / max(1, len(_answered(self.answers)))


def answers_table(by_device: Mapping[str, Sequence[Answer]]) -> Table:
    """Return a row a device over everything that was asked."""
    table = _table("Answers to real test images (refused: 503 at R4 or C4, on purpose)")
    table.add_column("device")
    for name in (
        "asked",
        "failed",
        "refused",
        "accuracy",
        "escalated",
        "degraded",
        "p50 ms",
        "p95 ms",
    ):
        table.add_column(name, justify="right")
    for device, answers in by_device.items():
        answered = _answered(answers)
        table.add_row(
            device,
            str(len(answers)),
            str(sum(a.failure is not None for a in answers)),
            str(sum(a.refusal is not None for a in answers)),
            _percent(accuracy(answered)),
            _percent(_share([a.stage == "large" for a in answered])),
            _percent(_share([a.degraded for a in answered])),
            *(f"{value:.2f}" for value in _percentiles(answered)),
        )
    return table


def cost_table(alone: dict[str, Cost], cascade: dict[str, Cost]) -> Table:
    """Return a row a device: the large fp32 model alone against the cascade, both unhurried."""
    table = _table("Large fp32 model alone (fp32) against the cascade (casc.): ms an answer")
    table.add_column("device")
    for name in (
        "CPU fp32",
        "CPU casc.",
        "ratio",
        "acc. fp32",
        "acc. casc.",
        "p50 fp32",
        "p50 casc.",
    ):
        table.add_column(name, justify="right")
    for device, before in alone.items():
        after = cascade[device]
        table.add_row(
            device,
            f"{before.cpu_ms:.2f}",
            f"{after.cpu_ms:.2f}",
            f"{after.cpu_ms / before.cpu_ms:.2f}",
            _percent(accuracy(_answered(before.answers))),
            _percent(accuracy(_answered(after.answers))),
            f"{_percentiles(_answered(before.answers))[0]:.2f}",
            f"{_percentiles(_answered(after.answers))[0]:.2f}",
        )
    return table


def unload_table(events: Sequence[Event]) -> Table:
    """Return a row for each time that a stage left memory: how much came back, and why."""
    table = _table("Memory returned by each unload")
    for name in ("device", "stage"):
        table.add_column(name)
    table.add_column("MiB back", justify="right")
    table.add_column("cause", overflow="fold")
    for event in events:
        if event.kind == "unloaded" and event.returned_bytes is not None:
            table.add_row(
                event.device,
                f"{event.cascade}/{event.stage}",
                f"{event.returned_bytes / _MIB:.1f}",
                event.message.partition(": ")[2],
            )
    return table


def _table(title: str) -> Table:
    return Table(title=f"\n{title}", title_justify="left", box=None, pad_edge=False)


def failures(answers: Sequence[Answer]) -> list[str]:
    """Return what went wrong where nothing was refused on purpose."""
    return [a.failure for a in answers if a.failure is not None]


def accuracy(answers: Sequence[Answer]) -> float:
    """Return the share of answers that name the image's digit."""
    return _share([a.predicted == a.label for a in answers])


def _answered(answers: Sequence[Answer]) -> list[Answer]:
    return [a for a in answers if a.predicted is not None]


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags) if flags else float("nan")


def _percentiles(answers: Sequence[Answer]) -> tuple[float, float]:
    times = [a.took_ms for a in answers] or [float("nan")]
    p50, p95 = np.percentile(times, [50, 95])
    return float(p50), float(p95)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"
