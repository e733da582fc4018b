"""The life of one stage on a device: every edge is a row of one table.

`absent -> fetching -> verified -> loading -> loaded -> draining`, and the ways back. What the
runner and the store report are cues; a cue that has no row in the present state changes nothing,
because cues of a runner that is being replaced may still arrive.
"""

from typing import Literal

from protocols.device import StageState

Cue = Literal["fetch", "stored", "lost", "start", "load", "unload", "fail", "drain", "gone"]

TABLE: dict[tuple[StageState, Cue], StageState] = {
    # bytes
    ("absent", "fetch"): "fetching",
    ("absent", "stored"): "verified",
    ("fetching", "stored"): "verified",
    ("fetching", "lost"): "absent",
    ("fetching", "fail"): "failed",
    ("verified", "lost"): "absent",
    ("failed", "lost"): "absent",
    ("failed", "fetch"): "fetching",
    ("failed", "stored"): "verified",
    # a runner takes it
    ("verified", "start"): "loading",
    ("failed", "start"): "loading",
    ("verified", "load"): "loaded",
    ("loading", "load"): "loaded",
    ("failed", "load"): "loaded",
    # and gives it up
    ("loading", "unload"): "verified",
    ("loaded", "unload"): "verified",
    ("draining", "unload"): "verified",
    ("verified", "fail"): "failed",
    ("loading", "fail"): "failed",
    ("loaded", "fail"): "failed",
    ("loaded", "drain"): "draining",
    ("loading", "gone"): "verified",
    ("loaded", "gone"): "verified",
    ("draining", "gone"): "verified",
}


def advance(state: StageState, cue: Cue) -> StageState:
    """Return the state after a cue."""
    return TABLE.get((state, cue), state)
