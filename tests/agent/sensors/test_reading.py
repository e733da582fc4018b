"""Several readings as one sample: who counts where two know a thing."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sensors.reading import NOTHING, Reading, as_real, believable_w, sample_of
from protocols.device import Sample
from protocols.profile import EnergyMethod


def test_nothing_known_is_null_everywhere() -> None:
    assert sample_of([NOTHING, NOTHING], 3.0) == Sample(time_s=3.0)
    assert sample_of([], 3.0) == Sample(time_s=3.0)


def test_the_first_that_knows_counts_and_zero_is_known() -> None:
    readings = [Reading(), Reading(temperature_c=0.0), Reading(temperature_c=50.0, throttled=2)]
    assert sample_of(readings, 1.0) == Sample(time_s=1.0, temperature_c=0.0, throttled=2)


def test_one_battery_is_not_told_with_the_plug_of_another() -> None:
    readings = [
        Reading(battery_temperature_c=20.0),
        Reading(battery_percent=80.0),
        Reading(battery_percent=10.0, battery_plugged=True, battery_temperature_c=40.0),
    ]
    sample = sample_of(readings, 1.0)
    assert (sample.battery_percent, sample.battery_plugged) == (80.0, None)
    assert sample.battery_temperature_c is None
    sample = sample_of([readings[0], readings[2]], 1.0)
    assert (sample.battery_plugged, sample.battery_temperature_c) == (True, 40.0)


WATTS: dict[EnergyMethod, float] = {"meter": 1.0, "rail": 2.0, "battery": 3.0}
methods: st.SearchStrategy[EnergyMethod] = st.sampled_from(["meter", "rail", "battery"])


@given(st.lists(methods, max_size=5))
def test_the_best_method_counts_whatever_the_order(order: list[EnergyMethod]) -> None:
    sample = sample_of([Reading(power_w=WATTS[m], power_method=m) for m in order], 1.0)
    best = next((method for method in WATTS if method in order), None)
    assert sample.power_method == best
    assert sample.power_w == (WATTS[best] if best else None)


@given(st.lists(st.sampled_from([None, True, False]), max_size=4))
def test_the_voltage_is_low_if_any_says_so(said: list[bool | None]) -> None:
    known = [word for word in said if word is not None]
    sample = sample_of([Reading(low_voltage=word) for word in said], 1.0)
    assert sample.low_voltage == (any(known) if known else None)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0, 0.0, 0.0016, 1e9, None])
def test_a_power_that_nothing_takes(bad: float | None) -> None:
    assert believable_w(bad) is None


@pytest.mark.parametrize("bad", [True, "1", None, math.nan, -math.inf, 10**400, 1j, [1]])
def test_what_is_no_number(bad: object) -> None:
    assert as_real(bad) is None
