import tomllib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.cli.schedules import parse_schedule
from controller.schedules.text import as_toml, window_words
from protocols.errors import MessageError
from protocols.schedule import (
    DEFAULT_THRESHOLDS,
    ResidencyRung,
    Schedule,
    Window,
    default_cascade_schedule,
)
from tests.protocols.strategies import messages

NIGHT = Window(start_minute=22 * 60, end_minute=6 * 60, compute=1)
FULL = Schedule(
    version=7,
    windows=(NIGHT,),
    cascades={"digits": default_cascade_schedule(("small", "lar.ge"), 4, (0, 1, 2, 3))},
)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(messages(Schedule), st.text(alphabet="ab\n", max_size=5))
def test_a_schedule_survives_its_text(schedule: Schedule, note: str) -> None:
    read = parse_schedule(as_toml(schedule, note.splitlines()), "text")

    expected = {**DEFAULT_THRESHOLDS, **schedule.thresholds}
    assert read == schedule.with_(version=0, thresholds=expected)


def test_a_person_reads_words_where_there_is_no_figure() -> None:
    words = as_toml(FULL, ["Mine."])

    assert words.startswith("# Mine.\n")
    assert 'enter = ["never", 1.0, "never", "never"]' in words
    assert 'escalations_per_s = "unlimited"' in words
    assert 'cpus = "any"' in as_toml(
        Schedule(cascades={"d": default_cascade_schedule(("only",), 1)})
    )
    assert "start_minute = 1320  # 22:00" in words
    assert "# C2: the next certified threshold" in words
    assert "version" not in tomllib.loads(words)


def test_a_stage_may_be_called_never() -> None:
    row = default_cascade_schedule(("never", "any"), 1)
    schedule = Schedule(cascades={"d": row})

    assert parse_schedule(as_toml(schedule), "text") == schedule
    assert schedule.cascades["d"].residency[0] == ResidencyRung(resident=("never", "any"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            "[dwell]\nhold_secs = 1\n",
            "cannot read schedule text: there is no field dwell.hold_secs",
        ),
        ('[dwell]\nhold_s = "never"\n', "dwell.hold_s: Input should be a valid number"),
        ("[dwell\n", "cannot read schedule text: Expected"),
        ("[[windows]]\nstart_minute = 1440\nend_minute = 1\n", "windows.0.start_minute"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(words: str, says: str) -> None:
    with pytest.raises(MessageError) as caught:
        parse_schedule(words, "text")
    assert says in str(caught.value)


def test_windows_in_words() -> None:
    assert window_words(NIGHT) == "22:00-06:00 C1"
    assert window_words(NIGHT.with_(compute=0, residency=3)) == "22:00-06:00 R3"
    assert window_words(NIGHT.with_(compute=0)) == "22:00-06:00 C0"
