import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.errors import FitError
from controller.fit import forms, preview
from protocols.bundle import Bundle
from tests.controller.cascades import DIGITS, LARGE, Piece, make_bundle, ref_of
from tests.controller.world import deployment, device, inventory, pins

DIGITS_BUNDLE = make_bundle()
PI = device()


def ladder(
    budget_mib: float | None, pieces: tuple[Piece, ...] = DIGITS, **insisted: str
) -> list[str]:
    """Return the forms as `small=int8 large=fp32 -dropped`."""
    bundle = make_bundle(pieces)
    asked = deployment(ref_of(bundle), variants=insisted)
    return [
        " ".join([*(f"{s}={v}" for s, v in form.variants), *(f"-{s}" for s in form.dropped)])
        for form in forms(asked, bundle, PI, budget_mib)
    ]


def test_best_first_then_smaller_then_without_the_last_stage() -> None:
    assert ladder(None) == [
        "small=int8 large=fp32",
        "small=int8 large=int8",
        "small=int8 large=int8 -large",
    ]


def test_a_small_device_begins_further_down() -> None:
    assert ladder(100.0)[0] == "small=int8 large=int8"


def test_what_a_person_insists_on_is_the_only_form() -> None:
    assert ladder(None, large="int8") == ["small=int8 large=int8", "small=int8 large=int8 -large"]


def test_a_split_model_never_loses_a_part() -> None:
    parts = (Piece("head", [("fp32", 50.0), ("int8", 10.0)]), Piece("tail", [("fp32", 60.0)]))

    assert ladder(None, parts) == ["head=fp32 tail=fp32", "head=int8 tail=fp32"]


def test_variants_that_save_nothing_are_left_out() -> None:
    assert ladder(None, (Piece("only", [("fp32", 10.0), ("fp16", 10.0), ("int8", 5.0)]),)) == [
        "only=fp32",
        "only=int8",
    ]


def test_only_what_was_calibrated_together_is_a_form() -> None:
    bundle = make_bundle((Piece("small", [("fp32", 8.0), ("int8", 4.0)], gated=True), LARGE))
    calibrated = tuple(
        c for c in bundle.certificates if set(c.variants.values()) in ({"fp32"}, {"int8"})
    )
    bundle = bundle.with_(certificates=calibrated)
    found = forms(deployment(ref_of(bundle)), bundle, PI, None)

    assert [dict(form.variants) for form in found if not form.dropped] == [
        {"small": "fp32", "large": "fp32"},
        {"small": "int8", "large": "int8"},
    ]
    mixed = deployment(ref_of(bundle), variants={"small": "fp32", "large": "int8"})
    with pytest.raises(FitError, match="no gate was calibrated for small=fp32, large=int8"):
        forms(mixed, bundle, PI, None)


@pytest.mark.parametrize(
    ("insisted", "said"),
    [({"huge": "int8"}, "no stage 'huge'"), ({"large": "int4"}, "its variants are fp32, int8")],
)
def test_what_the_bundle_does_not_have_cannot_be_insisted_on(
    insisted: dict[str, str], said: str
) -> None:
    with pytest.raises(FitError, match=said):
        ladder(None, DIGITS, **insisted)


def test_too_small_a_device_says_the_numbers() -> None:
    with pytest.raises(
        FitError, match=r"cannot run digits@1 on pi: .*int8.* needs 64 MiB, 50 MiB are for models"
    ):
        ladder(50.0)
    with pytest.raises(FitError, match="0 MiB are for models"):
        ladder(-30.0)


def test_a_device_without_an_interpreter_runs_nothing() -> None:
    bare = device(inventory=inventory(runtime=None))

    with pytest.raises(FitError, match="no interpreter"):
        forms(deployment(ref_of(DIGITS_BUNDLE)), DIGITS_BUNDLE, bare, None)


def test_a_pin_weighs() -> None:
    unloaded = device(pins=pins("pi", {"cascade": "digits", "stage": "large", "loaded": False}))

    found = forms(deployment(ref_of(DIGITS_BUNDLE)), DIGITS_BUNDLE, unloaded, 50.0)

    assert (dict(found[0].variants), found[0].resident_mib) == (
        {"small": "int8", "large": "fp32"},
        4.0,
    )


def test_preview_says_bytes_memory_and_time() -> None:
    asked = deployment(ref_of(DIGITS_BUNDLE), variants={"large": "int8"})

    found = preview(asked, DIGITS_BUNDLE, PI, None)

    sent = {a.sha256: a.size_bytes for a in DIGITS_BUNDLE.artifacts}
    fp32 = DIGITS_BUNDLE.stages[1].variants[0].artifact
    assert found.send_bytes == sum(sent.values()) - fp32.size_bytes + (
        asked.bundle.artifact.size_bytes
    )
    assert found.peak_mib == (64.0, 64.0, 60.0, 4.0, 0.0)
    assert found.answer_ms == pytest.approx(5.4)


pieces = st.lists(
    st.builds(
        Piece,
        name=st.just("x"),
        variants=st.lists(st.floats(1, 500), min_size=1, max_size=4).map(
            lambda sizes: [(f"v{i}", size) for i, size in enumerate(sizes)]
        ),
        gated=st.booleans(),
    ),
    min_size=1,
    max_size=4,
).map(lambda found: tuple(Piece(f"s{i}", p.variants, p.gated) for i, p in enumerate(found)))


@given(pieces=pieces, budget_mib=st.none() | st.floats(0, 1500))
def test_every_form_fits_and_each_is_smaller(
    pieces: tuple[Piece, ...], budget_mib: float | None
) -> None:
    bundle = make_bundle(pieces)
    try:
        found = forms(deployment(ref_of(bundle)), bundle, PI, budget_mib)
    except FitError:
        smallest = sum(min(size for _, size in piece.variants) for piece in pieces)
        assert budget_mib is not None
        assert smallest > budget_mib
        return
    sizes = [form.resident_mib for form in found]
    assert sizes == sorted(set(sizes), reverse=True)
    assert budget_mib is None or max(sizes) <= budget_mib
    assert not found[0].dropped


def narrow_large() -> Bundle:
    """The digits with a large stage in int4 before int8, and the small one in either alone."""
    pieces = (Piece("small", [("int8", 4.0)]), Piece("large", [("int4", 8.0), ("int8", 10.0)]))
    bundle = make_bundle(pieces)
    small, large = bundle.stages
    int4, int8 = large.variants
    narrow = int4.with_(runtimes=("ai-edge-litert",))
    return bundle.with_(stages=(small, large.with_(variants=(narrow, int8))))


def test_a_device_gets_no_variant_that_its_interpreter_answers_wrongly_with() -> None:
    bundle = narrow_large()
    asked = deployment(ref_of(bundle))
    old, new = (
        device(inventory=inventory(runtime=runtime))
        for runtime in ("tflite-runtime 2.14.0", "ai-edge-litert 2.3.0")
    )

    assert dict(forms(asked, bundle, old, None)[0].variants)["large"] == "int8"
    assert dict(forms(asked, bundle, new, None)[0].variants)["large"] == "int4"


def test_what_no_interpreter_of_a_device_runs_is_refused() -> None:
    bundle = narrow_large()
    old = device(inventory=inventory(runtime="tflite-runtime 2.14.0"))
    asked = deployment(ref_of(bundle), variants={"large": "int4"})

    with pytest.raises(FitError, match=r"large as int4 needs ai-edge-litert, it has tflite-runt"):
        forms(asked, bundle, old, None)


def test_variants_that_were_calibrated_together_must_all_run() -> None:
    bundle = make_bundle((Piece("small", [("int4", 2.0), ("int8", 4.0)], gated=True), LARGE))
    small, large = bundle.stages
    narrow = small.variants[0].with_(runtimes=("ai-edge-litert",))
    stages = (small.with_(variants=(narrow, small.variants[1])), large)
    old = device(inventory=inventory(runtime="tflite-runtime 2.14.0"))
    both = bundle.with_(stages=stages)
    one = both.with_(
        certificates=tuple(c for c in both.certificates if c.variants["small"] == "int4")
    )

    found = forms(deployment(ref_of(both)), both, old, None)
    assert {dict(form.variants)["small"] for form in found} == {"int8"}
    with pytest.raises(FitError, match="no variants that were calibrated together"):
        forms(deployment(ref_of(one)), one, old, None)
