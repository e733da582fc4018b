"""The life of a stage."""

from agent.cascades.lifecycle import TABLE, Cue, advance
from agent.cascades.stages import StageBook
from agent.runner.control import StageChanged
from protocols.device import StageState
from tests.agent.bundles import make_bundle, wanted


def along(state: StageState, *way: Cue) -> list[StageState]:
    """Return the states that some cues lead through."""
    return [state := advance(state, cue) for cue in way]


def test_the_straight_way_and_back() -> None:
    states = along("absent", "fetch", "stored", "start", "load", "drain", "gone")
    assert states == ["fetching", "verified", "loading", "loaded", "draining", "verified"]


def test_a_cue_out_of_place_changes_nothing() -> None:
    assert advance("absent", "load") == "absent"
    assert advance("loaded", "fetch") == "loaded"
    assert advance("draining", "load") == "draining"


def test_every_state_can_be_reached_and_left() -> None:
    states = {"absent", "fetching", "verified", "loading", "loaded", "draining", "failed"}
    assert {state for state, _ in TABLE} == states
    assert set(TABLE.values()) == states


def change(kind: str, stage: str = "large", threads: int | None = None) -> StageChanged:
    return StageChanged.model_validate(
        {
            "change": kind,
            "cascade": "digits",
            "stage": stage,
            "variant": "fp32",
            "cause": "why",
            "threads": threads,
            "rss_mib": 1.0,
            "loaded_mib": 8.0 if kind == "loaded" else None,
        }
    )


def test_the_book_follows_a_runner() -> None:
    book, cascade = StageBook(), wanted(make_bundle())
    book.cue_all(cascade, "stored")
    book.cue_all(cascade, "start")
    book.changed(cascade, change("loaded", threads=2))
    assert book.loaded(cascade) == {"large"}
    assert [(s.state, s.threads) for s in book.report(cascade)] == [
        ("loading", None),
        ("loaded", 2),
    ]
    book.changed(cascade, change("threads", threads=1))
    assert book.entry(cascade, "large").threads == 1
    assert book.entry(cascade, "large").loaded_mib == 8.0
    book.changed(cascade, change("unloaded"))
    assert book.report(cascade)[1].state == "verified"
    assert book.report(cascade)[1].threads is None
    book.changed(cascade, change("failed", "small"))
    assert (book.report(cascade)[0].state, book.report(cascade)[0].message) == ("failed", "why")
    book.keep(())
    assert book.report(cascade)[1].state == "absent"
