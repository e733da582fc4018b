"""How a rollout reads in a sentence: for logs, events, and whoever watches. Pure."""

from controller.rollouts.waves import is_held, wave_names
from protocols.desired import Deployment
from protocols.rollout import Rollout

_NAMED = 5


def wave_words(deployment: Deployment, wave: int) -> str:
    """Return a wave as `wave 2 of 4 (25%)`."""
    names = wave_names(deployment.strategy) if deployment.strategy is not None else ("all",)
    wave = min(wave, len(names) - 1)
    return f"wave {wave + 1} of {len(names)} ({names[wave]})"


def what_changed(deployment: Deployment, before: Rollout | None, after: Rollout) -> str:
    """Say what has become of a rollout."""
    where = wave_words(deployment, after.wave)
    if after.phase == "stopped":
        return f"stops in {where}: {stop_words(after)}"
    if after.phase == "completed":
        return f"is completed: {after.reached} devices have it"
    if before is None:
        held = is_held(after)
        return f"is held in {where}: {stop_words(after)}" if held else f"begins with {where}"
    if after.wave != before.wave:
        return f"opens {where}"
    if after.phase != before.phase:
        return f"is {after.phase} in {where}"
    return f"reaches more devices in {where}"


def stop_words(rollout: Rollout) -> str:
    """Return why a rollout has stopped, or is held: gates, devices and the first one's figures."""
    first, devices = rollout.findings[0], _devices(rollout)
    whose = f"{first.device} " if first.device is not None else ""
    said = f"gate {first.gate}: {whose}{first.message}"
    if rollout.unhealthy > 1:
        said += f"; {rollout.unhealthy} of {rollout.reached} devices unhealthy: {devices}"
    return said


def _devices(rollout: Rollout) -> str:
    names = list(dict.fromkeys(f.device for f in rollout.findings if f.device is not None))
    shown, rest = names[:_NAMED], rollout.unhealthy - len(names[:_NAMED])
    return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")
