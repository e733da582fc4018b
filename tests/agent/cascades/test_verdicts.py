"""How long a failure stands."""

from agent.cascades.verdicts import PASSES_AFTER_S, TRY_AGAIN_S, Verdict, Verdicts


def test_a_new_generation_tries_again_but_not_too_often() -> None:
    verdicts = Verdicts()
    verdicts.reject("a", "why", 0.0, proven=False)
    verdicts.miss("b", Verdict("rejected", "other bytes"), 0.0)
    verdicts.renew(TRY_AGAIN_S - 1)
    assert verdicts.now == {"a": Verdict("rejected", "why")}
    verdicts.renew(TRY_AGAIN_S)
    assert verdicts.now == {}


def test_what_has_served_here_or_could_not_be_had_is_tried_again_by_itself() -> None:
    verdicts = Verdicts()
    verdicts.reject("new", "why", 0.0, proven=False)
    verdicts.reject("old", "why", 0.0, proven=True)
    verdicts.miss("disk", Verdict("refused", "cannot store"), 0.0)
    verdicts.miss("bytes", Verdict("rejected", "cannot accept"), 0.0)
    verdicts.expire(PASSES_AFTER_S - 1)
    assert set(verdicts.now) == {"new", "old", "disk", "bytes"}
    verdicts.expire(PASSES_AFTER_S)
    assert set(verdicts.now) == {"new"}
