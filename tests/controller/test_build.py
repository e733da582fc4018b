import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from controller.build import build
from controller.calibrate import NEVER
from controller.catalog import Catalog
from controller.errors import BuildError, CatalogError, HomeError
from controller.home import Home
from controller.models import NewModel, add_models
from controller.recipe import Recipe, read_stages
from controller.report import Built
from protocols.inference.gate import confidence, probabilities, top1
from protocols.inference.runtime import open_model
from protocols.inference.tensors import conform, real
from tests import models
from tests.controller.classifiers import (
    CLASSES,
    FEATURES,
    Pair,
    class_numbers,
    dataset,
    fixed_batch,
    layers,
    open_features,
    pair,
    save,
    without_batch_axis,
)
from tests.controller.conftest import new_home
from tests.models import Form, Head

if TYPE_CHECKING:
    from protocols.bundle import ScoreKind

TWO = ("small=small.tflite", "large=large.tflite")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home with keys; its parent is the working directory, where the models lie."""
    monkeypatch.chdir(tmp_path)
    return new_home(tmp_path / "home")


@dataclass(frozen=True)
class Made:
    """A cascade of two that several tests look at."""

    home: Home
    files: Pair
    built: Built


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("made")
    home, files = new_home(folder / "home"), pair(folder)
    built = make(
        home,
        f"small={files.small}",
        f"large={files.large}",
        samples=files.samples,
        labels=tuple("abcdefghij"),
        eps=0.02,
    )
    return Made(home, files, built)


def make(
    home: Home,
    *stages: str,
    gates: tuple[str, ...] = (),
    reads: dict[str, str] | None = None,
    scores: dict[str, str] | None = None,
    **options: Any,  # noqa: ANN401 - of a recipe
) -> Built:
    read = read_stages(stages, reads=reads or {}, gates=gates, scores=scores or {})
    options.setdefault("name", "digits")
    return build(home, Recipe(stages=read, **options))


def golden(home: Home, built: Built) -> dict[str, NDArray[Any]]:
    content = Catalog(home).read(built.bundle.golden.artifact)
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def write(name: str, content: bytes) -> str:
    Path(name).write_bytes(content)
    return name


def test_a_cascade_of_two(made: Made) -> None:
    stored = Catalog(made.home).find_bundle("digits", made.home.trust())
    assert stored.bundle == made.built.bundle
    assert stored.ref == made.built.ref
    bundle = made.built.bundle
    assert (bundle.version, bundle.classes, bundle.labels) == (1, CLASSES, tuple("abcdefghij"))
    assert (bundle.input.dtype, bundle.input.shape) == ("float32", (FEATURES,))
    assert (bundle.output.dtype, bundle.output.shape) == ("float32", (CLASSES,))
    kinds = [stage.variants[0].score_kind for stage in bundle.stages]
    assert kinds == ["probabilities", "logits"]
    for ref in bundle.artifacts:
        assert Catalog(made.home).read(ref)


def test_certificates_tell_what_the_models_did(made: Made) -> None:
    bundle = made.built.bundle
    (certificate,) = bundle.certificates
    steps = certificate.gates["small"]
    assert [step.eps for step in steps] == [0.005, 0.01, 0.02, 0.05]
    assert bundle.schedule.base_threshold == 2
    assert 0 < steps[2].escalated < 0.9
    x, y = dataset(1000)
    (small, sure), (large, _) = (answers(path, x) for path in (made.files.small, made.files.large))
    harmful = (small != y) & (large == y)
    for step in steps:
        leaves = sure >= step.threshold
        assert step.harms == int((harmful & leaves).sum())
        assert step.escalated == pytest.approx(1 - leaves.mean())
    cascade = np.where(sure >= steps[2].threshold, small, large)
    assert certificate.accuracy == pytest.approx((cascade == y).mean())
    assert certificate.last_stage_accuracy == pytest.approx((large == y).mean())


def test_golden_samples_leave_at_every_stage(made: Made) -> None:
    bundle, found = made.built.bundle, golden(made.home, made.built)
    assert set(found) == {"x", "top1_small", "top1_large"}
    assert len(found["x"]) == bundle.golden.count == 16
    assert found["x"].dtype == np.float32
    (small, sure), (large, _) = (
        answers(path, found["x"]) for path in (made.files.small, made.files.large)
    )
    step = bundle.certificates[0].gates["small"][bundle.schedule.base_threshold]
    assert 0 < (sure >= step.threshold).sum() < 16
    for expected, got in ((found["top1_small"], small), (found["top1_large"], large)):
        assert ((expected == got) | (expected == -1)).all()
        assert (expected >= 0).sum() >= 8


def test_expected_cost(made: Made) -> None:
    small, large = (stage.variants[0].needs.answer_ms for stage in made.built.bundle.stages)
    (ladder,) = made.built.ladders
    assert ladder.alone_ms == pytest.approx(large)
    for step in ladder.steps:
        expected = small + step.gates["small"].escalated * large
        assert math.isclose(step.answer_ms, expected)


def answers(path: Path, x: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return class and confidence of every sample, by the bare interpreter."""
    model = open_model(path)
    kind: ScoreKind = "probabilities" if path.name == "small.tflite" else "logits"
    scores = [real(model.run([conform(row, model.inputs[0])])[0], model.outputs[0]) for row in x]
    sure = [confidence(probabilities(row, kind), "max_prob") for row in scores]
    return np.array([top1(row, kind) for row in scores]), np.array(sure)


@pytest.mark.parametrize(
    ("metric", "form", "head"), [("margin", "uint8", "sigmoid"), ("entropy", "float32", "softmax")]
)
def test_metrics_and_heads(
    place: Home, tmp_path: Path, metric: str, form: Form, head: Head
) -> None:
    files = pair(tmp_path, form=form, head=head, large_form="int8", large_head="softmax")
    bundle = make(place, *TWO, samples=files.samples, gates=(metric,)).bundle
    assert bundle.stages[0].metric == metric
    assert bundle.certificates[0].gates["small"][-1].threshold < NEVER


def test_every_choice_of_variants_has_its_certificate(place: Home, tmp_path: Path) -> None:
    files = pair(tmp_path)
    write("small-fp32.tflite", models.classifier(layers(0.2)))
    write("large-int8.tflite", models.classifier(layers(), form="int8"))
    built = make(
        place,
        "small=small.tflite,small-fp32.tflite",
        "large=large.tflite,large-int8.tflite",
        samples=files.samples,
    )
    choices = [certificate.variants for certificate in built.bundle.certificates]
    assert choices == [
        {"small": small, "large": large}
        for small in ("small", "small-fp32")
        for large in ("large", "large-int8")
    ]
    assert len({ladder.accuracy["small"] for ladder in built.ladders}) <= 2
    assert [variant.name for variant in built.bundle.stages[1].variants] == ["large", "large-int8"]


def test_too_many_choices(place: Home, tmp_path: Path) -> None:
    files = pair(tmp_path)
    names = [write(f"m{n}.tflite", models.classifier(layers(n / 10))) for n in range(5)]
    many = ",".join(names)
    with pytest.raises(BuildError, match="5 x 5 = 25 choices of variants, at most 16"):
        make(place, f"small={many}", f"large={many}", samples=files.samples)


def test_samples_in_a_quantized_dtype(place: Home, tmp_path: Path) -> None:
    """uint8 samples for a uint8 model are its own; the float model behind gets real values."""
    x, y = dataset(1000)
    quantized = np.clip(np.rint((x + 1) * 127.5), 0, 255).astype(np.uint8)
    files = pair(tmp_path, form="uint8")
    save(files.samples, x=quantized, y=y)
    built = make(place, *TWO, samples=files.samples)
    given = built.bundle.input
    assert given.dtype == "uint8"
    assert given.quantization == built.bundle.stages[0].variants[0].inputs[0].quantization
    assert built.ladders[0].accuracy["large"] > 0.9
    assert golden(place, built)["x"].dtype == np.uint8


def test_values_that_a_model_cannot_hold(place: Home, tmp_path: Path) -> None:
    x, y = dataset(1000)
    files = pair(tmp_path)
    save(files.samples, x=x * 127.5 + 127.5, y=y)
    built = make(place, *TWO, samples=files.samples)
    assert any("of the values of x" in w and "small/small" in w for w in built.warnings)


def test_a_cascade_that_saves_nothing_says_so(place: Home, tmp_path: Path) -> None:
    files = pair(tmp_path, noise=0.0)
    write(
        "small.tflite",
        models.classifier([*models.random_layers(FEATURES, 512, 512, FEATURES), *layers()]),
    )
    x, _ = dataset(1000)
    save(files.samples, x=x, y=answers(files.small, x)[0])
    built = make(place, *TWO, samples=files.samples)
    assert any("saves nothing" in warning for warning in built.warnings)
    assert any("large adds nothing" in warning for warning in built.warnings)


def test_steps_of_the_ladder(place: Home, tmp_path: Path) -> None:
    files = pair(tmp_path, 300)
    with pytest.raises(BuildError, match=r"at eps 0\.01: certified .* are 2\.0%, 5\.0%; choose"):
        make(place, *TWO, samples=files.samples, eps=0.01)
    built = make(place, *TWO, samples=files.samples)
    assert built.bundle.schedule.base_threshold == 0
    assert any("300 samples are too few to certify 1%" in warning for warning in built.warnings)
    few = pair(tmp_path, 50)
    with pytest.raises(BuildError, match="cannot certify the gate with 50 samples"):
        make(place, *TWO, samples=few.samples)
    assert Catalog(place).versions("digits") == [1]


def test_three_stages(place: Home, tmp_path: Path) -> None:
    files = pair(tmp_path, 2100)
    write("middle.tflite", models.classifier(layers(0.1), form="int8"))
    bundle = make(place, TWO[0], "middle=middle.tflite", TWO[1], samples=files.samples).bundle
    gates = bundle.certificates[0].gates
    assert list(gates) == ["small", "middle"]
    for first, second in zip(*gates.values(), strict=True):
        assert second.escalated <= first.escalated
        assert first.eps == second.eps
    assert [step.eps for step in gates["small"]] == [0.0025, 0.005, 0.01, 0.025]


def test_parts_of_a_split_model(place: Home) -> None:
    whole = models.random_layers(FEATURES, 12, CLASSES)
    write("head.tflite", models.classifier(whole[:1], head="features", form="int8"))
    write("tail.tflite", models.classifier(whole[1:], form="int8"))
    built = make(
        place,
        "head=head.tflite",
        "tail=tail.tflite",
        gates=("none",),
        reads={"tail": "stage:head"},
    )
    bundle = built.bundle
    assert (bundle.input.dtype, bundle.output.dtype) == ("int8", "int8")
    assert bundle.output.quantization is not None
    assert bundle.certificates == ()
    assert [stage.variants[0].score_kind for stage in bundle.stages] == ["raw", "probabilities"]
    found = golden(place, built)
    assert set(found) == {"x", "top1_tail"}


def test_a_gate_before_the_parts_of_a_split_model(place: Home, tmp_path: Path) -> None:
    files = pair(tmp_path)
    identity = [(np.eye(FEATURES, dtype=np.float32), np.ones(FEATURES, np.float32))]
    ((weights, bias),) = layers()
    write("head.tflite", models.classifier(identity, head="features"))
    write("tail.tflite", models.classifier([(weights, bias - weights.sum(axis=1))], head="logits"))
    built = make(
        place,
        TWO[0],
        "head=head.tflite",
        "tail=tail.tflite",
        gates=("head=none",),
        reads={"tail": "stage:head"},
        samples=files.samples,
    )
    assert list(built.bundle.certificates[0].gates) == ["small"]
    assert built.ladders[0].accuracy["tail"] > 0.9


@pytest.mark.parametrize("form", ["float32", "int8", "uint8"])
def test_one_stage_needs_no_samples(place: Home, form: Form) -> None:
    write("m.tflite", models.classifier(layers(), form=form, sample_shape=(4, 4, 1)))
    built = make(place, "only=m.tflite")
    bundle = built.bundle
    assert (bundle.input.dtype, bundle.input.shape) == (form, (4, 4, 1))
    assert (bundle.output.dtype, bundle.output.shape) == (form, (CLASSES,))
    assert (bundle.classes, bundle.certificates) == (CLASSES, ())
    found = golden(place, built)
    assert found["x"].shape == (16, 4, 4, 1)
    assert found["x"].dtype == form
    assert (found["top1_only"] >= 0).any()
    again = make(place, "only=m.tflite")
    assert again.bundle.golden == bundle.golden
    assert again.bundle.version == 2


@pytest.mark.parametrize(
    ("content", "shapes", "classes"),
    [
        (models.classifier(models.random_layers(8, 1000)), ((8,), (1000,)), 1000),
        (
            models.classifier(models.random_layers(8, 1), head="sigmoid", form="int8"),
            ((8,), (1,)),
            2,
        ),
        (models.classifier(models.random_layers(8, 1), head="logits"), ((8,), (1,)), None),
        (models.classifier(models.random_layers(8, 8), head="logits"), ((8,), (8,)), None),
        (without_batch_axis(), ((4, 4), (CLASSES,)), CLASSES),
        (fixed_batch(4), ((FEATURES,), (CLASSES,)), CLASSES),
    ],
    ids=["1000-classes", "sigmoid", "regression", "autoencoder", "no-batch-axis", "batch-of-4"],
)
def test_models_of_any_kind(
    place: Home, content: bytes, shapes: tuple[object, object], classes: int | None
) -> None:
    write("m.tflite", content)
    bundle = make(place, "only=m.tflite").bundle
    assert (bundle.input.shape, bundle.output.shape) == shapes
    assert bundle.classes == classes
    kind = bundle.stages[0].variants[0].score_kind
    assert (kind == "raw") == (classes is None)


def test_a_shape_that_the_samples_close(place: Home, tmp_path: Path) -> None:
    write("m.tflite", open_features())
    with pytest.raises(BuildError, match="open; give samples"):
        make(place, "only=m.tflite")
    x = np.random.default_rng(0).random((40, 7))
    samples = save(tmp_path / "s.npz", x=x, y=x.argmax(axis=1))
    built = make(place, "only=m.tflite", samples=samples)
    assert built.bundle.input.shape == (7,)
    assert built.bundle.input.dtype == "float32"
    assert built.accuracy == 1.0


def test_which_output_holds_the_scores(place: Home, tmp_path: Path) -> None:
    files = pair(tmp_path)
    hidden = (np.eye(FEATURES, dtype=np.float32), np.ones(FEATURES, np.float32))
    ((weights, bias),) = layers()
    write("large.tflite", models.two_outputs([hidden, (weights, bias - weights.sum(axis=1))]))
    with pytest.raises(BuildError, match=r"2 outputs \(0: 'hidden0'.*--scores large=NUMBER"):
        make(place, *TWO, samples=files.samples)
    built = make(place, *TWO, samples=files.samples, scores={"large": "scores"})
    assert built.bundle.stages[1].variants[0].scores == 1
    assert built.ladders[0].accuracy["large"] > 0.9


def test_models_by_name_and_by_file(place: Home, tmp_path: Path) -> None:
    files = pair(tmp_path)
    catalog = Catalog(place)
    add_models(catalog, [NewModel(files.small, name="tiny")])
    files.small.unlink()
    bundle = make(place, "small=tiny", TWO[1], samples=files.samples).bundle
    assert bundle.stages[0].variants[0].name == "tiny"
    assert [record.name for record in catalog.models()] == ["large", "tiny"]
    with pytest.raises(CatalogError, match="cannot find model 'huge': the catalog has large, tiny"):
        make(place, "small=tiny", "large=huge", samples=files.samples)


def test_class_numbers_are_no_scores(place: Home, tmp_path: Path) -> None:
    files = pair(tmp_path)
    write("best.tflite", class_numbers())
    assert make(place, "only=best.tflite").bundle.classes is None
    with pytest.raises(BuildError, match=r"only/best as a classifier: .*\(int32\[1\]\), as an arg"):
        make(place, "only=best.tflite", samples=files.samples)


def test_versions(place: Home) -> None:
    write("m.tflite", models.classifier(layers()))
    assert make(place, "only=m.tflite", version=5).bundle.version == 5
    assert make(place, "only=m.tflite").bundle.version == 6
    with pytest.raises(BuildError, match=r"digits@5: that version .* the next is 7"):
        make(place, "only=m.tflite", version=5)


def test_variants_with_the_same_file_name(place: Home, tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"v{number}").mkdir()
        write(f"v{number}/m.tflite", models.classifier(layers(number)))
    stage = make(place, "only=v1/m.tflite,v2/m.tflite").bundle.stages[0]
    assert [variant.name for variant in stage.variants] == ["m", "m-2"]
    with pytest.raises(BuildError, match="m and m of stage only are the same file"):
        make(place, "only=v1/m.tflite,v1/m.tflite")


def test_a_stage_that_is_always_wrong(place: Home, tmp_path: Path) -> None:
    files = pair(tmp_path)
    ((weights, bias),) = layers()
    shifted = [(np.roll(weights, 1, axis=0) * 100, bias)]
    write("small.tflite", models.classifier(shifted))
    with pytest.raises(BuildError, match=r"may an answer leave early.* small \d.*scaled as in"):
        make(place, *TWO, samples=files.samples)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"y": np.arange(1000) % 11}, r"10 classes, label 10 at sample 10"),
        ({"y": np.arange(1000) % 10 + 1}, "are they 1-based"),
        ({"x": np.zeros((1000, 5))}, r"shape \[5\], 5 elements; its input 'x' has \[1, 16\], 16"),
        ({"x": np.zeros((1000, 16, 1)), "y": None}, "has no array 'y'"),
    ],
)
def test_samples_that_do_not_fit(
    place: Home, tmp_path: Path, arrays: dict[str, Any], words: str
) -> None:
    x, y = dataset(1000)
    files = pair(tmp_path)
    merged = {"x": x, "y": y, **arrays}
    save(files.samples, **{key: value for key, value in merged.items() if value is not None})
    with pytest.raises(BuildError, match=words):
        make(place, *TWO, samples=files.samples)
    assert Catalog(place).bundle_names() == []
    assert Catalog(place).models() == []
    assert not place.artifacts_dir.exists()


def test_axes_in_another_order(place: Home, tmp_path: Path) -> None:
    write("m.tflite", models.classifier(models.random_layers(12, 3), sample_shape=(2, 2, 3)))
    samples = save(tmp_path / "s.npz", x=np.zeros((9, 3, 2, 2)))
    with pytest.raises(BuildError, match="the same axes in another order; transpose x"):
        make(place, "only=m.tflite", samples=samples)
    flat = save(tmp_path / "s.npz", x=np.zeros((9, 12)))
    assert make(place, "only=m.tflite", samples=flat).bundle.input.shape == (12,)


def test_models_that_do_not_fit(place: Home, tmp_path: Path) -> None:
    files = pair(tmp_path)
    write("twelve.tflite", models.classifier(layers(classes=12)))
    write("two.tflite", models.two_inputs())
    write("crash.tflite", models.crashing())

    def fails(words: str, *stages: str, **options: Any) -> None:  # noqa: ANN401 - of a recipe
        with pytest.raises(BuildError, match=words):
            make(place, *stages, **options)

    samples = {"samples": files.samples}
    fails("small/small gives 10 classes, large/twelve 12", TWO[0], "large=twelve.tflite", **samples)
    fails(r"2 inputs \('a', 'b'\)", "only=two.tflite")
    fails("as stage only: the interpreter was killed by SIGSEGV", "only=crash.tflite")
    fails("a gate is calibrated on labelled samples; give", *TWO)
    fails("3 labels for 10 classes", *TWO, labels=("a", "b", "c"), **samples)
    fails(
        r"its inputs hold \[4, 4\] elements, small of stage small gives \[10\]",
        TWO[0],
        "large=two.tflite",
        reads={"large": "stage:small"},
        **samples,
    )
    assert not place.artifacts_dir.exists()


def test_without_the_release_key_nothing_is_built(tmp_path: Path) -> None:
    bare = Home.open(tmp_path / "bare", fleet="test", environ={})
    write(str(tmp_path / "m.tflite"), models.classifier(layers()))
    with pytest.raises(HomeError, match="release"):
        make(bare, f"only={tmp_path / 'm.tflite'}")
    assert not bare.catalog_dir.exists()


def test_it_says_how_far_it_is(place: Home, tmp_path: Path) -> None:
    files = pair(tmp_path, 400)
    looked: list[str] = []
    answered: list[tuple[str, int, int]] = []
    stages = read_stages(TWO, reads={}, gates=(), scores={})
    build(
        place,
        Recipe("digits", stages, samples=files.samples),
        looked.append,
        lambda *at: answered.append(at),
    )
    assert looked == ["small.tflite", "large.tflite"]
    assert answered[0] == ("small/small", 0, 800)
    assert answered[-1] == ("large/large", 800, 800)
    assert [done for _, done, _ in answered] == sorted(done for _, done, _ in answered)
