"""A scene, a device and a policy, second by second."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.plant.body import KILL_SHARE, Body
from tests.plant.pictures import Picture
from tests.plant.policies import Policy
from tests.plant.scenes import Scene
from tests.plant.serving import Runner, Tally

RESTART_S = 5.0
"""From a kill to a runner that answers again; twice as long after each kill that follows soon."""
_LONGEST_RESTART_S = 60.0
_FORGIVEN_S = 120.0
"""A runner that has lived so long starts at once again."""

Watch = Callable[[float, Body, Runner], None]


@dataclass(slots=True)
class _Life:
    """Whether the runner is there."""

    back_s: float = 0.0
    pause_s: float = RESTART_S
    killed_s: float = -_FORGIVEN_S

    def kill(self, now_s: float) -> None:
        forgiven = now_s - self.killed_s >= _FORGIVEN_S
        self.pause_s = RESTART_S if forgiven else min(2 * self.pause_s, _LONGEST_RESTART_S)
        self.back_s, self.killed_s = now_s + self.pause_s, now_s


def live(picture: Picture, scene: Scene, policy: Policy, watch: Watch | None = None) -> Tally:
    """Let a policy live through a scene.

    A second: others take their memory, the kernel kills if none is left, the policy sees a sample
    and acts, requests come, work is done, the device warms up.

    Args:
        picture: the device.
        scene: what happens.
        policy: what decides.
        watch: called at the end of every second.
    """
    body, tally, life = Body(picture), Tally(), _Life()
    runner = Runner(body, tally, policy.budget_mib)
    policy.begin(runner, 0.0)
    for second, (cores, mib, requests) in enumerate(
        zip(scene.cores, scene.mib, scene.requests, strict=True), start=1
    ):
        now_s = float(second)
        body.others_cores, body.others_mib = cores, mib
        _kill_if_short(body, runner, tally, life, now_s)
        policy.sense(body.sample(now_s, runner.mib), runner)
        spent = 0.0
        if now_s < life.back_s or not body.on:
            tally.lost += sum(len(some) for some in requests)
        else:
            runner.arrange(now_s)
            runner.serve(requests, now_s)
            _kill_if_short(body, runner, tally, life, now_s)
            spent = runner.work()
        body.pass_second(spent, runner.mib, _cpus(picture, runner))
        if watch is not None:
            watch(now_s, body, runner)
    tally.used_wh, tally.denied_core_s = body.used_wh, body.denied_core_s
    return tally


def _kill_if_short(body: Body, runner: Runner, tally: Tally, life: _Life, now_s: float) -> None:
    """Let the kernel take the runner where no memory is left: it is assumed to choose that."""
    if now_s < life.back_s or body.left_mib(runner.mib) > KILL_SHARE * body.picture.memory_mib:
        return
    runner.die()
    tally.kills += 1
    life.kill(now_s)


def _cpus(picture: Picture, runner: Runner) -> tuple[int, ...]:
    """Where our work was done, mostly."""
    busiest = max(runner.slots, key=lambda slot: slot.used_s)
    return busiest.target.cpus or picture.cpus
