from dataclasses import replace
from pathlib import Path

import pytest

from controller.compress.training.recipe import Row, choose

ORIGINAL = Row(
    form="original",
    files=("fp32",),
    parameters=100,
    nonzero=100,
    file_bytes=400,
    wire_bytes=380,
    macs=1_000,
    samples=400,
    right=396,
    spoiled=0,
    mended=0,
    mean_ms=2.0,
    median_ms=2.0,
    p95_ms=2.5,
    cpu_ms=2.0,
    escalated=None,
)
HERE = Path(__file__).parent


def test_the_cheapest_within_the_loss_is_chosen() -> None:
    good = replace(ORIGINAL, form="good", right=394, cpu_ms=0.5)
    fast = replace(ORIGINAL, form="fast", right=393, cpu_ms=0.1)

    assert choose([ORIGINAL, good, fast], loss_points=0.5) is good
    assert choose([ORIGINAL, good, fast], loss_points=0.75) is fast


def test_of_those_that_cost_about_the_same_the_smaller_is_chosen() -> None:
    fast = replace(ORIGINAL, form="fast", cpu_ms=0.100, wire_bytes=60)
    small = replace(ORIGINAL, form="small", cpu_ms=0.104, wire_bytes=50)
    smallest = replace(ORIGINAL, form="smallest", cpu_ms=0.106, wire_bytes=10)

    assert choose([ORIGINAL, fast, small, smallest], loss_points=0.5) is small


def test_the_original_is_chosen_where_nothing_else_is_good_enough() -> None:
    bad = replace(ORIGINAL, form="bad", right=300, cpu_ms=0.1)

    assert choose([ORIGINAL, bad], loss_points=0.5) is ORIGINAL


def test_every_form_of_a_network_is_made_and_measured() -> None:
    pytest.importorskip("torch_pruning")
    pytest.importorskip("litert_torch")
    from controller.compress.training.channels import Schedule  # noqa: PLC0415
    from controller.compress.training.protocol import load_task  # noqa: PLC0415
    from controller.compress.training.recipe import Plan, cook  # noqa: PLC0415
    from controller.compress.training.target import Target  # noqa: PLC0415
    from controller.compress.training.teach import Lesson  # noqa: PLC0415

    task = load_task(str(HERE / "blobs.py"))
    plan = Plan(
        target=Target("macs", 0.3),
        schedule=Schedule(steps=2, between=Lesson(1, 1e-2), last=Lesson(3, 1e-2), is_int8=True),
        first_stage=Target("parameters", 0.2),
        lesson=Lesson(4, 2e-2),
        loss_points=5,
    )

    made = cook(task, plan)

    rows = {row.form: row for row in made.rows}
    assert set(rows) >= {"original", "int8", "channels-fp32", "channels-int8", "first-stage-int8"}
    assert "first-stage-int8 -> int8" in rows
    assert rows["original"].accuracy > 0.9
    assert rows["channels-int8"].accuracy > 0.9
    assert rows["channels-int8"].macs <= 0.3 * rows["original"].macs
    assert rows["int8"].file_bytes < rows["original"].file_bytes
    assert rows["channels-int8"].nonzero < rows["original"].nonzero
    assert all(row.mean_ms > 0 and row.cpu_ms > 0 for row in made.rows)
    cascade = rows["first-stage-int8 -> int8"]
    assert cascade.escalated is not None
    assert cascade.files == ("first-stage-int8", "int8")
    assert cascade.wire_bytes == rows["first-stage-int8"].wire_bytes + rows["int8"].wire_bytes
    assert made.chosen in rows
    assert set(made.files) >= {file for row in made.rows for file in row.files}
