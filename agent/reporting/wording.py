"""The sentences of events, for people."""

from agent.runner.control import StageChanged
from protocols.desired import DesiredCascade
from protocols.governor import Change

_MIB = 1 << 20


def rung_moved(change: Change) -> str:
    """A ladder moved, from where to where and why."""
    letter = change.ladder[0].upper()
    return f"{change.ladder} {letter}{change.before} -> {letter}{change.after}: {change.cause}"


def stage_changed(change: StageChanged, threads_before: int | None) -> str:
    """A stage was loaded, unloaded, or runs otherwise."""
    stage = f"{change.cascade}/{change.stage} ({change.variant})"
    match change.change:
        case "loaded":
            size = "" if change.loaded_mib is None else f", {change.loaded_mib:.1f} MiB"
            return f"{stage} loaded in {change.took_ms:.0f} ms{size}: {change.cause}"
        case "unloaded":
            freed = change.returned_bytes
            size = "" if freed is None else f", {freed / _MIB:.1f} MiB came back"
            return f"{stage} unloaded{size}: {change.cause}"
        case "threads":
            before = "" if threads_before is None else f"{threads_before} -> "
            cpus = "" if change.cpus is None else f" on CPUs {', '.join(map(str, change.cpus))}"
            return f"{stage} {before}{change.threads} threads{cpus}: {change.cause}"
        case "failed":
            return f"{stage} failed: {change.cause}"


def runner_died(how: str, names: tuple[str, ...], *, ready: bool) -> str:
    """A runner ended by itself."""
    when = "" if ready else " before it was ready"
    who = f" while {' and '.join(names)} was at work" if names else ""
    return f"the runner died of {how}{when}{who}; another one is started"


def runner_hung(*, ready: bool) -> str:
    """A runner was ended because it said nothing."""
    what = "answered no question" if ready else "was not ready"
    return f"the runner {what} within 60 s and was ended; another one is started"


def condemned(cascade: DesiredCascade, how: str, minutes: float) -> str:
    """A bundle has killed the runner too often."""
    return (
        f"cannot run {versioned(cascade)}: it ended the runner more than once within "
        f"{minutes:.0f} minutes ({how}); it is quarantined here, deploy another version"
    )


def not_ready(cascade: DesiredCascade, within_s: float) -> str:
    """A runner was ended because it did not get ready."""
    return (
        f"cannot run {versioned(cascade)}: its runner was not ready and said nothing for "
        f"{within_s:.0f} s"
    )


def versioned(cascade: DesiredCascade) -> str:
    """Name and version."""
    return f"{cascade.bundle.name} {cascade.bundle.version}"


def form(cascade: DesiredCascade) -> str:
    """Name, version and variants."""
    variants = ", ".join(f"{stage}={name}" for stage, name in cascade.variants.items())
    return f"{versioned(cascade)} ({variants})"
