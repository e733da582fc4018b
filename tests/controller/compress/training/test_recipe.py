"""The whole recipe; what it chooses is `test_choice`, how it searches `test_descent`."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


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
    assert set(rows) >= {"palette-fp32", "zeros-fp32", "channels-int8-palette"}
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
    assert [row.form for row in made.chosen_on] == list(rows)
    assert any("no test_loader()" in note for note in made.notes)
    assert set(made.files) >= {file for row in made.rows for file in row.files}
