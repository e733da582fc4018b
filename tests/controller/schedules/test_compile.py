from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.fit import Form
from controller.schedules.choice import Choice, StageOptions, answer_p95_ms, choose, unmeasured
from controller.schedules.compile import Compiled, compile_cascade
from protocols.bundle import Bundle, CertifiedThreshold
from protocols.device import CoreClass, Inventory
from protocols.profile import Energy, EnergyMethod, LayoutRun, ProfileKey, StageProfile
from protocols.schedule import Layout, Wishes
from tests.controller.cascades import LARGE, SMALL, Piece, make_bundle
from tests.controller.world import inventory

BUNDLE = make_bundle()
TWO = make_bundle((Piece("one", [("int8", 9.0)]), Piece("two", [("int8", 9.0)])))
PARTS = TWO.with_(stages=(TWO.stages[0], TWO.stages[1].with_(reads="stage:one")))
FORM = Form((("small", "int8"), ("large", "fp32")), (), 204.0)
NOTHING = Wishes()
FOUR = (CoreClass(cpus=(0, 1, 2, 3), capacity=1024),)
BIG_LITTLE = (CoreClass(cpus=(4, 5), capacity=1024), CoreClass(cpus=(0, 1, 2, 3), capacity=400))


def run(
    threads: int = 1,
    p95_ms: float = 10.0,
    cpu_ms: float = 10.0,
    layout: Layout = "intra-op",
    per_s: float | None = None,
    energy: Energy | None = None,
) -> LayoutRun:
    return LayoutRun(
        layout=layout,
        threads=threads,
        count=50,
        p50_ms=p95_ms,
        p95_ms=p95_ms,
        answers_per_s=1000 / p95_ms if per_s is None else per_s,
        cpu_ms=cpu_ms,
        load_ms=5.0,
        peak_rss_mib=20.0,
        energy=energy,
    )


ONE_TWO_FOUR = (run(1, 40.0, 40.0), run(2, 22.0, 44.0), run(4, 15.0, 60.0))


def tuned(
    bundle: Bundle, runs: dict[str, Sequence[LayoutRun]], cores: Sequence[CoreClass] = FOUR
) -> Inventory:
    """Return a device that has measured the first variant of these stages."""
    mask = tuple(sorted(cpu for group in cores for cpu in group.cpus))
    profiles = []
    for stage in bundle.stages:
        if stage.name in runs:
            key = ProfileKey(
                artifact=stage.variants[0].artifact.sha256,
                runtime="ai-edge-litert 2.3.0",
                kernel="6.6.31",
                cpus=mask,
            )
            profiles.append(StageProfile(key=key, measured_ts=1.0, runs=tuple(runs[stage.name])))
    return inventory(cores=cores).with_(kernel="6.6.31", profiles=tuple(profiles))


def compiled(
    device: Inventory | None, wishes: Wishes = NOTHING, shed: int = 0, bundle: Bundle = BUNDLE
) -> Compiled:
    form = Form(tuple((s.name, s.variants[0].name) for s in bundle.stages), (), 1.0)
    return compile_cascade(bundle, form, device, bundle.schedule, wishes, shed)


def threads(found: Compiled, stage: str = "large") -> list[int]:
    return [rung.stages[stage].threads for rung in found.rows.compute]


def test_a_device_that_has_measured_nothing_gets_few_threads_for_what_is_quick() -> None:
    found = compiled(inventory())

    assert threads(found, "small") == [1, 1, 1, 1, 1]
    assert threads(found, "large") == [4, 2, 2, 1, 1]
    assert found.choices["large"] == Choice("intra-op", 4, None)
    assert found.missed == ()


def test_a_device_that_says_nothing_gets_one_thread() -> None:
    assert threads(compiled(None)) == [1] * 5


def test_big_cores_while_all_is_well_little_ones_when_it_is_hot() -> None:
    rows = compiled(inventory(cores=BIG_LITTLE)).rows.compute

    assert [rung.stages["large"].cpus for rung in rows] == [
        (4, 5), (4,), (4,), (0, 1, 2, 3), (0, 1, 2, 3)
    ]  # fmt: skip
    assert [rung.stages["large"].nice for rung in rows] == [0, 5, 5, 10, 10]


def test_what_was_measured_chooses_the_soonest_answer() -> None:
    found = compiled(tuned(BUNDLE, {"large": ONE_TWO_FOUR}))

    assert threads(found) == [4, 2, 2, 1, 1]
    slower_with_four = (*ONE_TWO_FOUR[:2], run(4, 30.0, 90.0))
    assert threads(compiled(tuned(BUNDLE, {"large": slower_with_four}))) == [2, 1, 1, 1, 1]


def test_a_profile_of_another_kernel_runtime_mask_or_model_says_nothing() -> None:
    device = tuned(BUNDLE, {"large": (run(1, 1.0, 1.0),)})
    assert threads(compiled(device))[0] == 1
    for other in (
        device.with_(kernel="6.12"),
        device.with_(runtime="ai-edge-litert 2.4.0"),
        device.with_(cores=(CoreClass(cpus=(0, 1), capacity=1024),)),
        tuned(make_bundle(version=2), {"large": (run(1, 1.0, 1.0),)}),
    ):
        assert threads(compiled(other))[0] > 1


def test_a_latency_is_met_with_the_least_cpu_time() -> None:
    device = tuned(BUNDLE, {"small": (run(1, 1.0, 1.0),), "large": ONE_TWO_FOUR})
    for latency_ms, most in ((41.0, 1), (23.0, 2), (16.0, 4)):
        found = compiled(device, Wishes(latency_ms=latency_ms))
        assert (threads(found)[0], found.missed) == (most, ())
    late = compiled(device, Wishes(latency_ms=10.0))
    assert threads(late)[0] == 4
    assert late.missed == ("cannot answer within 10 ms: the stages' p95 add up to 16 ms at best",)


def test_wishes_that_nobody_has_measured_are_said_to_be_open() -> None:
    found = compiled(inventory(), Wishes(latency_ms=5.0, joules=0.1))
    assert found.missed == (
        "cannot promise 5 ms: the device has not tuned yet",
        "cannot promise 0.1 J: the energy of an answer is not known on this device",
    )


def test_energy_as_the_goal_and_as_a_limit() -> None:
    def with_joules(method: EnergyMethod) -> Inventory:
        return tuned(
            BUNDLE,
            {
                "small": (run(1, 1.0, 1.0, energy=Energy(joules=0.01, method="rail")),),
                "large": (
                    run(1, 40.0, 40.0, energy=Energy(joules=0.4, method=method)),
                    run(4, 15.0, 60.0, energy=Energy(joules=0.2, method=method)),
                ),
            },
        )

    found = compiled(with_joules("rail"), Wishes(goal="energy", joules=0.05))
    assert threads(found)[0] == 4
    # A quarter of the requests reach the large stage: 0.01 + 0.25 * 0.2.
    assert found.missed == ("cannot answer with 0.05 J: it takes 0.06 J (method rail)",)
    assert threads(compiled(with_joules("model"), Wishes(goal="energy")))[0] == 1


def test_replicas_for_throughput() -> None:
    runs = (*ONE_TWO_FOUR, run(4, 44.0, 42.0, "replicas", 90.0))
    found = compiled(tuned(BUNDLE, {"large": runs}), Wishes(goal="throughput"))

    first = found.rows.compute[0].stages["large"]
    assert (first.layout, first.threads) == ("replicas", 4)
    half = found.rows.compute[1].stages["large"]
    assert (half.layout, half.threads) == ("replicas", 2)


def test_a_split_model_becomes_a_pipeline_where_that_gives_more() -> None:
    def layouts(pace: float) -> list[str]:
        each = (run(1, 10.0, 10.0), run(1, 12.0, 10.0, "pipeline", pace))
        device = tuned(PARTS, {"one": each, "two": each})
        found = compiled(device, Wishes(goal="throughput"), bundle=PARTS)
        return [stage.layout for stage in found.rows.compute[0].stages.values()]

    # In turns, two parts of 100 a second each give 50 a second.
    assert layouts(80.0) == ["pipeline", "pipeline"]
    assert layouts(45.0) == ["intra-op", "intra-op"]


def test_escalations_are_rationed_by_what_one_costs() -> None:
    found = compiled(tuned(BUNDLE, {"large": ONE_TWO_FOUR}))
    # Four CPUs, 60 ms each: a quarter of 4000 ms is 16.67 of them, a tenth 6.67.
    assert [rung.escalations_per_s for rung in found.rows.compute] == [
        None, None, 16.67, 6.67, None
    ]  # fmt: skip
    assert [r.escalations_per_s for r in compiled(inventory()).rows.compute][2:4] == [5.0, 2.0]


def test_shedding_halves_threads_then_takes_the_next_threshold() -> None:
    steps = [step.with_(eps=eps) for step in _ladder() for eps in (0.005, 0.01, 0.02)]
    bundle = BUNDLE.with_(
        certificates=tuple(c.with_(gates={"small": tuple(steps)}) for c in BUNDLE.certificates)
    )
    seen = [compiled(inventory(), shed=shed, bundle=bundle) for shed in range(6)]

    assert [threads(one)[0] for one in seen] == [4, 2, 1, 1, 1, 1]
    assert [one.rows.base_threshold for one in seen] == [0, 0, 0, 1, 2, 2]
    assert {one.most_shed for one in seen} == {4}


def _ladder() -> tuple[CertifiedThreshold, ...]:
    return BUNDLE.certificates[0].gates["small"]


def test_a_stage_that_stays_away_asks_for_nothing() -> None:
    form = Form(FORM.variants, ("large",), 4.0)
    found = compile_cascade(BUNDLE, form, inventory(), BUNDLE.schedule, Wishes())

    assert set(found.choices) == {"small"}
    assert found.most_shed == 0


def test_residency_and_pauses_are_the_row_s() -> None:
    rows = compiled(inventory()).rows
    assert rows.residency == BUNDLE.schedule.residency
    assert [rung.paused for rung in rows.compute] == [False, False, False, False, True]


runs_of = st.lists(
    st.builds(
        run,
        threads=st.integers(1, 8),
        p95_ms=st.floats(0.01, 1e3),
        cpu_ms=st.floats(0.01, 1e3),
        layout=st.sampled_from(["intra-op", "replicas", "pipeline"]),
        per_s=st.floats(0.01, 1e4),
    ),
    min_size=1,
    max_size=6,
)
wishes = st.builds(
    Wishes,
    goal=st.sampled_from(["latency", "throughput", "energy"]),
    latency_ms=st.none() | st.floats(0.01, 2e3),
)


@given(runs_of, runs_of, wishes)
@settings(deadline=None)
def test_a_latency_that_can_be_met_is_met(
    first: list[LayoutRun], second: list[LayoutRun], wanted: Wishes
) -> None:
    stages = (
        StageOptions("a", 1.0, runs=tuple(first)),
        StageOptions("b", 1.0, chained=True, runs=tuple(second)),
    )
    found = choose(stages, FOUR, wanted)
    picked = {name: choice.run for name, choice in found.stages.items() if choice.run}

    assert set(picked) == {"a", "b"}
    if wanted.latency_ms is not None:
        soonest = sum(min(run.p95_ms for run in _usable(runs, wanted)) for runs in (first, second))
        is_met = answer_p95_ms(stages, picked) <= wanted.latency_ms
        assert is_met or soonest > wanted.latency_ms
        assert is_met == (not found.missed)


def _usable(runs: list[LayoutRun], wanted: Wishes) -> list[LayoutRun]:
    layouts = {"intra-op", "replicas"} if wanted.goal == "throughput" else {"intra-op"}
    return [one for one in runs if one.layout in layouts] or runs


@pytest.mark.parametrize("wanted", [Wishes(), Wishes(latency_ms=50.0), Wishes(goal="energy")])
def test_replicas_are_not_taken_for_a_hair_s_breadth_of_cpu_time(wanted: Wishes) -> None:
    runs = (run(1, 10.0, 10.0), run(2, 9.0, 9.9, "replicas"))
    first = compiled(tuned(BUNDLE, {"large": runs}), wanted).rows.compute[0].stages["large"]
    assert (first.layout, first.threads) == ("intra-op", 1)


@given(runs_of, wishes, st.integers(0, 9))
@settings(deadline=None)
def test_no_rung_has_more_threads_than_the_one_before(
    runs: list[LayoutRun], wanted: Wishes, shed: int
) -> None:
    device = tuned(BUNDLE, {"large": runs})
    found = compiled(device, wanted, shed)

    for stage in ("small", "large"):
        falling = threads(found, stage)
        assert falling == sorted(falling, reverse=True)
        less = threads(compiled(device, wanted, shed + 1), stage)
        assert all(few <= many for few, many in zip(less, falling, strict=True))


def test_how_a_model_runs_that_nobody_has_measured() -> None:
    assert unmeasured(0.4, FOUR) == Choice("intra-op", 1, None)
    assert unmeasured(50.0, BIG_LITTLE) == Choice("intra-op", 2, (4, 5))
    assert (SMALL.answer_ms, LARGE.answer_ms) == (0.4, 20.0)
