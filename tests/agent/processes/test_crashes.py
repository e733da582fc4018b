"""Deaths, strikes and quarantine."""

import signal
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.processes.crashes import (
    LIMIT,
    WITHIN_S,
    Death,
    inquire,
    judge,
    weigh,
    with_deaths,
)
from agent.processes.runners import Died
from agent.storage.ledger import Ledger, Strike
from protocols.device import CascadeStats
from tests.agent.bundles import make_bundle, wanted

A, B = "a" * 64, "b" * 64


def death(code: int = -signal.SIGSEGV, *suspects: str, **changes: object) -> Death:
    facts = {"ready": True, "oom": False, "ts": 1000.0} | changes
    return Death(code, bool(facts["ready"]), suspects, bool(facts["oom"]), float(str(facts["ts"])))


@pytest.mark.parametrize(
    ("found", "weight"),
    [
        (death(-signal.SIGSEGV), 1),
        (death(-signal.SIGABRT), 1),
        (death(-signal.SIGKILL), 0),
        (death(-signal.SIGKILL, oom=True), 0.5),
        (death(-signal.SIGTERM), 0),
        (death(1), 0),
        (death(1, ready=False), 1),
        (death(0, ready=False), 0),
    ],
)
def test_what_a_death_weighs(found: Death, weight: float) -> None:
    assert weigh(found) == weight


def test_two_crashes_of_the_only_suspect_condemn_it() -> None:
    first = judge({}, death(-signal.SIGSEGV, A))
    assert first.condemned == ()
    second = judge(first.strikes, death(-signal.SIGBUS, A, ts=1000 + WITHIN_S))
    assert second.condemned == (A,)
    assert second.strikes == {}


def test_old_strikes_are_forgotten() -> None:
    first = judge({}, death(-signal.SIGSEGV, A))
    assert judge(first.strikes, death(-signal.SIGSEGV, A, ts=1001 + WITHIN_S)).condemned == ()


def test_a_neighbour_at_work_is_not_condemned_with_the_culprit() -> None:
    both = judge({}, death(-signal.SIGSEGV, A, B))
    again = judge(both.strikes, death(-signal.SIGSEGV, A, B))
    assert again.condemned == ()
    alone = judge(again.strikes, death(-signal.SIGSEGV, A))
    assert alone.condemned == (A,)


def test_any_number_of_kills_from_outside_condemns_nobody() -> None:
    strikes: dict[str, tuple[Strike, ...]] = {}
    for n in range(50):
        verdict = judge(strikes, death(-signal.SIGKILL, A, ts=1000.0 + n))
        assert verdict.condemned == ()
        strikes = verdict.strikes


@given(
    st.lists(
        st.tuples(st.sampled_from([(A,), (B,), (A, B)]), st.booleans(), st.floats(0, 300)),
        max_size=12,
    )
)
def test_nobody_is_condemned_below_the_limit(
    deaths: list[tuple[tuple[str, ...], bool, float]],
) -> None:
    strikes: dict[str, tuple[Strike, ...]] = {}
    shares = {A: 0.0, B: 0.0}
    ts = 0.0
    for suspects, crash, later in deaths:
        ts += later
        code = -signal.SIGSEGV if crash else -signal.SIGKILL
        verdict = judge(strikes, death(code, *suspects, ts=ts))
        for sha in suspects:
            shares[sha] += crash / len(suspects)
        for sha in verdict.condemned:
            assert shares[sha] >= LIMIT - 1e-6
            shares[sha] = 0
        strikes = verdict.strikes


def test_how_it_died_is_said() -> None:
    assert death(-signal.SIGSEGV).how == "SIGSEGV"
    assert death(3).how == "exit code 3"
    assert death(-99).how == "signal 99"
    assert death(-signal.SIGKILL, oom=True).how == "SIGKILL (out of memory)"


def test_who_got_a_strike_is_blamed_and_nobody_for_a_kill_from_outside() -> None:
    cascade = wanted(make_bundle(name="digits"))
    for code, blamed in ((-signal.SIGSEGV, (cascade,)), (-signal.SIGKILL, ())):
        died = Died(code, ready=True, late=False, suspects=(cascade,), cascades=(cascade,))
        assert inquire(Ledger(), died, oom=False, now_ts=1.0).blamed == blamed


def test_deaths_are_counted_of_the_version_that_had_them() -> None:
    first, second = (wanted(make_bundle(name="digits", version=v)).bundle for v in (1, 2))
    counted = tuple(CascadeStats(name="digits", version=v, stages=()) for v in (1, 2))
    deaths = Counter([second, second])
    assert [one.deaths for one in with_deaths(counted, deaths)] == [0, 2]
    assert first not in deaths


def test_before_it_was_ready_the_unproven_are_the_suspects() -> None:
    old, new = wanted(make_bundle(name="old")), wanted(make_bundle(name="new"))
    ledger = Ledger().with_good((old,), frozenset({"old"}))
    died = Died(-signal.SIGSEGV, ready=False, late=False, suspects=(), cascades=(old, new))
    finding = inquire(ledger, died, oom=False, now_ts=1.0)
    assert finding.condemned == ()
    assert "SIGSEGV before it was ready while new was at work" in finding.message
    finding = inquire(finding.ledger, died, oom=False, now_ts=2.0)
    assert finding.condemned == (new,)
    why = finding.ledger.quarantined[new.bundle.artifact.sha256]
    assert why.startswith("cannot run new 1: it ended the runner more than once")
