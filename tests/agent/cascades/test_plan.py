"""What a runner should do: who wins of schedule, governor, pins, planner and hard limits."""

from hypothesis import given
from hypothesis import strategies as st

from agent.cascades.plan import runner_plans
from agent.runner.control import CascadePlan
from protocols.desired import Desired, StagePin
from protocols.device import Rungs
from protocols.schedule import RUNGS, WORST, Schedule, default_cascade_schedule
from tests.agent.bundles import make_bundle, wanted

BUNDLE = make_bundle()
STAGES = ("small", "large")
CPUS = (0, 1, 2, 3)

rungs_ = st.builds(
    Rungs,
    residency=st.integers(0, WORST),
    compute=st.integers(0, WORST),
    request_interval_s=st.floats(0, 2),
)
pins_ = st.lists(
    st.builds(
        StagePin,
        cascade=st.sampled_from(["digits", "other"]),
        stage=st.sampled_from([*STAGES, "unknown"]),
        loaded=st.none() | st.booleans(),
        threads=st.none() | st.integers(1, 256),
    ),
    max_size=4,
).map(tuple)
cpus_ = st.lists(st.integers(0, 7), max_size=8, unique=True).map(tuple)


def desire(*pins: StagePin, schedule: Schedule | None = None) -> Desired:
    return Desired(
        fleet="home",
        device="pi",
        generation=1,
        cascades=(wanted(BUNDLE),),
        schedule=schedule or Schedule(),
        pins=pins,
    )


def plan(
    rungs: Rungs | None = None,
    *pins: StagePin,
    cascade: object = None,
    schedule: Schedule | None = None,
    cpus: tuple[int, ...] = CPUS,
    **variants: str,
) -> CascadePlan:
    chosen = wanted(BUNDLE, *([cascade] if isinstance(cascade, str) else []), **variants)
    desired = desire(*pins, schedule=schedule)
    return runner_plans(desired, [(chosen, BUNDLE)], rungs or Rungs(), cpus)[0]


def residences(found: CascadePlan) -> list[str]:
    return [target.residence for target in found.stages]


def test_at_the_best_rungs_everything_is_resident_as_tuned() -> None:
    found = plan()
    assert residences(found) == ["resident", "resident"]
    assert [t.threads for t in found.stages] == [4, 4]
    assert found.paused is None
    assert found.certified
    assert found.threshold_index == 0


def test_every_residency_rung_is_the_schedule_s_row() -> None:
    rows = [plan(Rungs(residency=r)) for r in range(RUNGS)]
    assert [residences(row) for row in rows] == [
        ["resident", "resident"],
        ["resident", "on_demand"],
        ["on_demand", "on_demand"],
        ["resident", "out"],
        ["out", "out"],
    ]
    assert [row.certified for row in rows] == [True, True, True, False, False]
    assert [row.one_at_a_time for row in rows] == [False, False, True, False, False]
    assert rows[4].paused is not None
    assert rows[4].paused.startswith("memory: ")


def test_every_compute_rung_is_the_schedule_s_row() -> None:
    rows = [plan(Rungs(compute=c, request_interval_s=0.2)) for c in range(RUNGS)]
    assert [row.stages[0].threads for row in rows] == [4, 2, 2, 1, 1]
    assert [row.threshold_index for row in rows] == [0, 0, 1, 1, 1]
    assert [row.request_interval_s for row in rows] == [0, 0, 0, 0.2, 0]
    assert [row.escalations_per_s for row in rows] == [None, None, 5.0, 2.0, None]
    assert [row.paused is not None for row in rows] == [False] * 4 + [True]


def test_the_desired_schedule_goes_before_the_bundle_s_if_it_fits() -> None:
    ours = default_cascade_schedule(STAGES, 2)
    others = default_cascade_schedule(("first", "second"), 2)
    assert plan(schedule=Schedule(cascades={"digits": ours})).stages[0].threads == 2
    assert plan(schedule=Schedule(cascades={"digits": others})).stages[0].threads == 4


def test_pins_override_rungs_but_not_r4() -> None:
    keep = StagePin(cascade="digits", stage="large", loaded=True)
    assert residences(plan(Rungs(residency=3), keep)) == ["resident", "resident"]
    assert not plan(Rungs(residency=2), keep).one_at_a_time
    assert residences(plan(Rungs(residency=4), keep)) == ["out", "out"]
    away = StagePin(cascade="digits", stage="small", loaded=False)
    found = plan(None, away)
    assert residences(found) == ["out", "resident"]
    assert not found.certified
    assert found.paused is not None
    assert "unpin" in found.paused


def test_pinned_threads_override_c3_but_never_the_mask() -> None:
    pin = StagePin(cascade="digits", stage="large", threads=3)
    assert [t.threads for t in plan(Rungs(compute=3), pin).stages] == [1, 3]
    many = StagePin(cascade="digits", stage="large", threads=64)
    assert plan(None, many).stages[1].threads == 4
    narrow = default_cascade_schedule(STAGES, 2, cpus=(2, 3))
    found = plan(None, many, schedule=Schedule(cascades={"digits": narrow}))
    assert found.stages[0].cpus == (2, 3)
    assert found.stages[1].cpus is None
    assert found.stages[1].threads == 4


def test_dropped_stages_are_out_and_the_answer_is_not_certified() -> None:
    found = plan(None, StagePin(cascade="digits", stage="large", loaded=True), cascade="large")
    assert residences(found) == ["resident", "out"]
    assert not found.certified
    assert plan(None, cascade="small").paused == "stage small is dropped by the planner"


def test_another_choice_of_variants_is_not_certified() -> None:
    assert not plan(large="int8").certified
    assert plan(Rungs(compute=2), large="int8").threshold_index == 0


def test_a_cascade_without_gates_needs_no_certificate() -> None:
    bundle = make_bundle("only")
    chosen = wanted(bundle, only="int8")
    assert runner_plans(desire(), [(chosen, bundle)], Rungs(), CPUS)[0].certified


def test_the_ladder_s_end_is_never_passed() -> None:
    bundle = make_bundle(ladder=1)
    found = runner_plans(desire(), [(wanted(bundle), bundle)], Rungs(compute=3), CPUS)[0]
    assert found.threshold_index == 0


@given(rungs=rungs_, pins=pins_, cpus=cpus_, dropped=st.sampled_from([(), ("large",), ("small",)]))
def test_limits_hold_whatever_is_pinned(
    rungs: Rungs, pins: tuple[StagePin, ...], cpus: tuple[int, ...], dropped: tuple[str, ...]
) -> None:
    chosen = wanted(BUNDLE, *dropped)
    found = runner_plans(desire(*pins), [(chosen, BUNDLE)], rungs, cpus)[0]
    assert [t.name for t in found.stages] == list(STAGES)
    for target in found.stages:
        assert target.threads >= 1
        assert not cpus or target.threads <= len(cpus)
        assert target.name not in dropped or target.residence == "out"
    if rungs.residency == WORST:
        assert residences(found) == ["out", "out"]
    if WORST in {rungs.residency, rungs.compute}:
        assert found.paused
    if "out" in residences(found):
        assert not found.certified


@given(rungs=rungs_, pins=pins_)
def test_a_worse_residency_rung_never_keeps_more(rungs: Rungs, pins: tuple[StagePin, ...]) -> None:
    if rungs.residency == WORST:
        return
    worse = rungs.with_(residency=rungs.residency + 1)
    mine, theirs = (
        {t.name for t in plan(r, *pins).stages if t.residence == "resident"} for r in (rungs, worse)
    )
    # R3 brings the first stage back to stay, in the place of one that came on demand.
    assert theirs - mine <= {"small"}


def test_a_load_keeps_off_the_hard_line_of_memory() -> None:
    assert plan().memory_floor_percent == 8
    lines = Schedule().thresholds["memory_available_percent"]
    for hard, floor in ((3.0, 5.0), (None, 0.0)):
        own = Schedule(thresholds={"memory_available_percent": lines.with_(hard=hard)})
        assert plan(schedule=own).memory_floor_percent == floor
    assert plan(schedule=Schedule(thresholds={})).memory_floor_percent == 0
