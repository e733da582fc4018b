"""Where the figures of a schedule come from: measured here, a rule, or a person. Pure."""

from controller.schedules.choice import Choice
from controller.schedules.compile import Compiled
from protocols.desired import Deployment
from protocols.schedule import CascadeSchedule, StageCompute


def origin_of_stage(stage: str, row: CascadeSchedule, compiled: Compiled | None) -> str:
    """Say where a stage's threads, layout and CPUs come from.

    Args:
        stage: its name.
        row: the cascade's, as it holds.
        compiled: what the compiler writes; None: a person has written the row.
    """
    if compiled is None:
        return "a person's rows"
    choice = compiled.choices.get(stage)
    if choice is None:
        return "not on the device"
    if compiled.rows != row:
        return "compiled earlier: the compiler would write other rows now"
    words = _origin_of_choice(choice)
    return words if _is_as_chosen(row.compute[0].stages[stage], choice) else f"{words}; then shed"


def origin_of_lines(deployment: Deployment | None) -> str:
    """Say where the lines, dwell times and windows come from: a deployment's, or the defaults."""
    return "the defaults" if deployment is None else words_of_person(deployment)


def words_of_person(deployment: Deployment) -> str:
    """Say which person's schedule it is: `version 3 by ann@laptop, digits-v1-ab12cd`."""
    version = deployment.schedule.version if deployment.schedule is not None else 0
    by = f" by {deployment.by}" if deployment.by else ""
    return f"version {version}{by}, {deployment.id}"


def _origin_of_choice(choice: Choice) -> str:
    run = choice.run
    if run is None:
        return "a rule: the device has not tuned it yet"
    return (
        f"measured here: p50 {run.p50_ms:.3g} ms, p95 {run.p95_ms:.3g} ms, "
        f"{run.cpu_ms:.3g} CPU-ms, {run.count} answers"
    )


def _is_as_chosen(compute: StageCompute, choice: Choice) -> bool:
    there = (compute.layout, compute.threads, compute.cpus)
    return there == (choice.layout, choice.threads, choice.cpus)
