from hypothesis import given
from hypothesis import strategies as st

from agent.tuner.candidates import Candidate, candidates, pipelines
from agent.tuner.halving import FINAL, Effort, efforts, run, survivors
from protocols.device import CoreClass
from protocols.profile import LayoutRun

FOUR = (CoreClass(cpus=(0, 1, 2, 3), capacity=1024),)
BIG_LITTLE = (CoreClass(cpus=(4, 5), capacity=1024), CoreClass(cpus=(0, 1, 2, 3), capacity=400))

cores = st.lists(st.integers(1, 6), min_size=1, max_size=3).map(
    lambda sizes: tuple(
        CoreClass(
            cpus=tuple(range(sum(sizes[:at]), sum(sizes[: at + 1]))), capacity=1024 // (at + 1)
        )
        for at in range(len(sizes))
    )
)


def measured(p50_ms: float, per_s: float = 1.0) -> LayoutRun:
    return LayoutRun(
        count=5,
        p50_ms=p50_ms,
        p95_ms=p50_ms,
        answers_per_s=per_s,
        cpu_ms=1.0,
        load_ms=1.0,
        peak_rss_mib=1.0,
    )


def test_alike_cpus_are_left_open_and_replicas_sit_still() -> None:
    assert candidates(FOUR) == (
        Candidate("intra-op", 1, None),
        Candidate("intra-op", 2, None),
        Candidate("intra-op", 4, None),
        Candidate("replicas", 2, (0, 1)),
        Candidate("replicas", 4, (0, 1, 2, 3)),
    )


def test_kinds_of_cores_are_tried_alone_and_together() -> None:
    sets = {candidate.cpus for candidate in candidates(BIG_LITTLE) if candidate.threads == 1}
    assert sets == {(4, 5), (0, 1, 2, 3), (4, 5, 0, 1, 2, 3)}


def test_a_machine_that_says_nothing_gets_one_thread() -> None:
    assert candidates(()) == (Candidate("intra-op", 1, None),)


@given(cores)
def test_no_candidate_has_more_threads_than_cpus(kinds: tuple[CoreClass, ...]) -> None:
    every = [cpu for group in kinds for cpu in group.cpus]
    found = candidates(kinds)
    assert len(set(found)) == len(found)
    for one in found:
        assert one.threads <= len(every if one.cpus is None else one.cpus)


@given(st.integers(2, 5), cores)
def test_parts_of_a_pipeline_share_no_cpu(parts: int, kinds: tuple[CoreClass, ...]) -> None:
    every = [cpu for group in kinds for cpu in group.cpus]
    ways = pipelines(parts, kinds)
    assert bool(ways) == (parts <= len(every))
    for dealt in ways:
        used = [cpu for one in dealt for cpu in one.cpus or ()]
        assert len(used) == len(set(used))
        assert set(used) <= set(every)
        assert [one.threads for one in dealt] == [len(one.cpus or ()) for one in dealt]


@given(st.integers(1, 200))
def test_effort_doubles_up_to_the_final_one(contenders: int) -> None:
    rounds = efforts(contenders)
    assert rounds[-1] == FINAL
    assert [effort.seconds for effort in rounds] == sorted(effort.seconds for effort in rounds)


@given(st.dictionaries(st.integers(), st.tuples(st.floats(1, 9), st.floats(1, 9)), min_size=1))
def test_the_best_of_both_kinds_survive(rows: dict[int, tuple[float, float]]) -> None:
    found = {key: measured(p50, per_s) for key, (p50, per_s) in rows.items()}
    kept = survivors(found, 4)
    assert len(kept) == min(4, len(found))
    assert min(run.p50_ms for run in found.values()) == min(found[k].p50_ms for k in kept)
    assert max(run.answers_per_s for run in found.values()) == max(
        found[k].answers_per_s for k in kept
    )


def test_the_worst_are_measured_least() -> None:
    spent: dict[int, float] = {}

    def measure(key: int, effort: Effort) -> LayoutRun | None:
        spent[key] = spent.get(key, 0.0) + effort.seconds
        return None if key == 13 else measured(p50_ms=float(key), per_s=100.0 - key)

    found = run(list(range(1, 17)), measure)

    assert set(found) == {1, 2, 3, 4}
    assert spent[1] == sum(effort.seconds for effort in efforts(16))
    assert spent[16] < spent[1] / 2
    assert spent[13] == efforts(16)[0].seconds
