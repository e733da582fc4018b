"""Bundles: what must fit together in a manifest."""

import json
from typing import Any

import pytest
from hypothesis import given, settings

from protocols.bundle import OIP_DATATYPE, ArtifactRef, Bundle, Certificate, Stage
from protocols.schedule import default_cascade_schedule
from tests.protocols.strategies import bundles
from tests.protocols.test_messages import golden

DIGITS = Bundle.decode(json.dumps(golden(Bundle)).encode())
SMALL, LARGE = DIGITS.stages


@pytest.mark.parametrize(
    ("stages", "why"),
    [
        ((), "at least 1"),
        ((SMALL, SMALL), "stage 'small' stands twice"),
        ((SMALL.with_(reads="stage:large"), LARGE), "reads 'stage:large', no earlier stage"),
        ((SMALL, LARGE.with_(reads="stage:large")), "reads 'stage:large', no earlier stage"),
        ((SMALL, LARGE.with_(reads="small")), "reads 'small', no earlier stage"),
        ((SMALL, LARGE.with_(reads="stage:")), "reads 'stage:', no earlier stage"),
        ((SMALL,), "the schedule names unknown stages: .'large'"),
    ],
)
def test_stages_read_earlier_ones_and_the_schedule_knows_them(
    stages: tuple[Stage, ...], why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        DIGITS.with_(stages=stages)


def test_every_compute_rung_names_every_stage() -> None:
    with pytest.raises(ValueError, match="every compute rung must name every stage"):
        DIGITS.with_(schedule=default_cascade_schedule(("small",), 1))


def test_a_temperature_is_1_where_none_is_said_and_never_0() -> None:
    assert b"temperature" not in json.dumps(golden(Bundle)).encode()
    assert {stage.temperature for stage in DIGITS.stages} == {1.0}
    warm = DIGITS.with_(stages=(SMALL.with_(temperature=0.72), LARGE))
    assert Bundle.decode(warm.encode()).stages[0].temperature == 0.72
    for wrong in (0, -1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="temperature"):
            SMALL.with_(temperature=wrong)


def test_scores_are_an_output_that_exists() -> None:
    with pytest.raises(ValueError, match="scores names output 1 of 1"):
        SMALL.variants[0].with_(scores=1)


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": "0" * 63},
        {"sha256": "A" * 64},
        {"sha256": "../../etc/passwd"},
        {"sha256": "../" + "0" * 61},
        {"chunks": "../../etc/passwd"},
        {"chunks": "0" * 64 + "\n"},
        {"size_bytes": 0},
        {"size_bytes": (1 << 32) + 1},
    ],
)
def test_an_artifact_has_a_digest_and_a_size(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        ArtifactRef(sha256="0" * 64, size_bytes=1).with_(**change)


@settings(max_examples=10, deadline=None)
@given(bundles())
def test_every_artifact_is_listed_once(bundle: Bundle) -> None:
    named = {v.artifact for stage in bundle.stages for v in stage.variants}
    assert set(bundle.artifacts) == named | {bundle.golden.artifact}
    assert len(bundle.artifacts) == len(set(bundle.artifacts))


def test_a_certificate_speaks_of_the_variants_that_it_was_made_with() -> None:
    (proved,) = DIGITS.certificates
    assert DIGITS.certificate({"small": "int8", "large": "int8"}) == proved
    assert DIGITS.certificate({"small": "int8", "large": "fp32"}) is None
    assert DIGITS.certificate({}) is None
    assert isinstance(proved, Certificate)


def test_every_dtype_has_a_name_in_the_inference_protocol() -> None:
    assert len(set(OIP_DATATYPE.values())) == len(OIP_DATATYPE)
    assert SMALL.variants[0].inputs[0].elements == 64
    assert DIGITS.input.elements == 64
