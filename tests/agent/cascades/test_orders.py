"""What is fetched now, what waits, and what is kept of chunk lists."""

from agent.cascades.choice import Choice, kept_artifacts
from agent.cascades.orders import explained, orders_of
from protocols.bundle import ArtifactRef
from protocols.device import Sample
from protocols.schedule import Downloads
from tests.agent.bundles import make_bundle, wanted
from tests.agent.cascades.test_choice import Bundles

MIB = 1 << 20
ONE = make_bundle()
LOW = Sample(time_s=1.0, battery_percent=10.0)
FULL = Sample(time_s=1.0, battery_percent=90.0)


def sized(name: str, mib: int) -> ArtifactRef:
    return ArtifactRef(sha256=name * 64, size_bytes=mib * MIB)


def missing(*refs: ArtifactRef, source: str = "") -> Choice:
    cascade = wanted(ONE).with_(sources=(source,) if source else ())
    return Choice(cascade, "fetching", missing=refs)


def test_each_artifact_is_ordered_once_with_its_sources() -> None:
    one, two = sized("a", 1), sized("b", 1)
    choices = (missing(one, source="https://h/x"), missing(one, two))
    orders = orders_of(choices, lambda _: 0, Downloads(), FULL)
    assert [(order.ref, order.sources) for order in orders.now] == [
        (one, ("https://h/x",)),
        (two, ()),
    ]
    assert not orders.held
    assert orders.reason == ""


def test_a_large_download_is_held_and_a_manifest_passes() -> None:
    large, manifest = sized("a", 40), wanted(ONE).bundle.artifact
    orders = orders_of((missing(large), missing(manifest)), lambda _: 0, Downloads(), LOW)
    assert [order.ref for order in orders.now] == [manifest]
    assert orders.now[0].small
    assert orders.held == {large.sha256}
    assert orders.reason.startswith("waits: 40 MiB to fetch is a large download")


def test_what_is_left_decides_and_not_what_it_was() -> None:
    large = sized("a", 40)
    orders = orders_of((missing(large),), lambda ref: ref.size_bytes - MIB, Downloads(), LOW)
    assert [order.ref for order in orders.now] == [large]


def test_a_choice_says_what_it_waits_for() -> None:
    choice = missing(sized("a", 40))
    assert explained(choice, lambda _: "waits: long").message == "waits: long"
    assert explained(choice, lambda _: "") == choice
    refused = Choice(wanted(ONE), "refused", message="cannot fit", missing=choice.missing)
    assert explained(refused, lambda _: "waits: long").message == "cannot fit"


def test_chunk_lists_are_kept_with_what_they_list() -> None:
    stage = ONE.stages[0]
    variant = stage.variants[0]
    listed = variant.artifact.with_(chunks="c" * 64)
    variants = (variant.with_(artifact=listed), *stage.variants[1:])
    bundle = ONE.with_(stages=(stage.with_(variants=variants), *ONE.stages[1:]))
    bundles = Bundles()
    assert {"c" * 64, listed.sha256} <= kept_artifacts([bundles.put(bundle)], bundles)
