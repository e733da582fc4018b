from pathlib import Path

from agent.cascades.tunable import by_artifact, chains, tunable
from protocols.bundle import Bundle
from protocols.desired import DesiredCascade
from protocols.device import CascadeStats, StageStats
from tests.controller.cascades import Piece, make_bundle, ref_of

TWO = make_bundle((Piece("one", [("int8", 9.0)]), Piece("two", [("int8", 9.0)])))
THREE = make_bundle(
    (
        Piece("trunk", [("int8", 9.0)]),
        Piece("exit", [("int8", 9.0)], gated=True),
        Piece("rest", [("int8", 9.0)]),
    )
)


def chained(bundle: Bundle, **reads: str) -> Bundle:
    stages = tuple(s.with_(reads=reads.get(s.name, "request")) for s in bundle.stages)
    return bundle.with_(stages=stages)


def wanted(bundle: Bundle, dropped: tuple[str, ...] = ()) -> DesiredCascade:
    variants = {stage.name: stage.variants[0].name for stage in bundle.stages}
    return DesiredCascade(bundle=ref_of(bundle), variants=variants, dropped=dropped)


def digests(bundle: Bundle) -> list[str]:
    return [stage.variants[0].artifact.sha256 for stage in bundle.stages]


def test_every_model_on_the_device_is_named_once(tmp_path: Path) -> None:
    found = tunable([(wanted(TWO), TWO), (wanted(TWO), TWO)], tmp_path)

    assert [model.artifact for model in found] == digests(TWO)
    assert [model.path for model in found] == [str(tmp_path / sha) for sha in digests(TWO)]
    assert {model.sample_shape for model in found} == {(64,)}
    assert len(tunable([(wanted(TWO, dropped=("two",)), TWO)], tmp_path)) == 1


def test_parts_that_hand_on_are_a_chain() -> None:
    parts = chained(TWO, two="stage:one")
    assert chains([(wanted(parts), parts)]) == (tuple(digests(parts)),)
    assert chains([(wanted(TWO), TWO)]) == ()
    assert chains([(wanted(parts, dropped=("two",)), parts)]) == ()


def test_a_chain_ends_at_a_gate_and_where_something_else_is_read() -> None:
    shared = chained(THREE, exit="stage:trunk", rest="stage:trunk")
    assert chains([(wanted(shared), shared)]) == (tuple(digests(shared)[:2]),)


def test_statistics_find_their_artifact() -> None:
    stats = StageStats(name="two", variant="int8", loaded=True)
    found = by_artifact(
        [(wanted(TWO), TWO)], [CascadeStats(name="digits", version=1, stages=(stats,))]
    )
    assert found == {digests(TWO)[1]: stats}
