import pytest

from controller.errors import ControllerError
from controller.schedules.check import cautions, check_schedule, check_wishes
from protocols.device import CoreClass
from protocols.schedule import (
    CascadeSchedule,
    ResidencyRung,
    Schedule,
    Window,
    Wishes,
    default_cascade_schedule,
)
from tests.controller.cascades import make_bundle
from tests.controller.world import inventory

BUNDLE = make_bundle()
ROW = default_cascade_schedule(("small", "large"), 4, (0, 1, 2, 3))
MINE = Schedule(cascades={"digits": ROW})
TWO_CPUS = inventory(cores=(CoreClass(cpus=(0, 1), capacity=1024),))


def test_rows_of_the_bundle_s_stages_pass() -> None:
    check_schedule(MINE, BUNDLE)
    check_schedule(Schedule(), BUNDLE)


@pytest.mark.parametrize(
    ("cascades", "says"),
    [
        ({"letters": ROW}, "it has rows for letters"),
        ({"digits": default_cascade_schedule(("small",), 1)}, "C0 says nothing of large"),
        (
            {"digits": default_cascade_schedule(("small", "large", "huge"), 1)},
            "C0 names huge, and the stages are small, large",
        ),
        (
            {
                "digits": ROW.with_(
                    residency=(ResidencyRung(resident=("tiny",)), *ROW.residency[1:])
                )
            },
            "R0 names tiny",
        ),
        (
            {
                "digits": ROW.with_(
                    residency=(
                        ResidencyRung(resident=("small",), on_demand=("small",)),
                        *ROW.residency[1:],
                    )
                )
            },
            "R0 has small both resident and on demand",
        ),
    ],
)
def test_rows_that_the_device_would_not_take(
    cascades: dict[str, CascadeSchedule], says: str
) -> None:
    with pytest.raises(ControllerError) as caught:
        check_schedule(Schedule(cascades=cascades), BUNDLE)
    assert str(caught.value).startswith("cannot use the schedule for digits@1: ")
    assert says in str(caught.value)


def test_nobody_asks_the_compiler_for_what_rows_decide() -> None:
    night = Window(start_minute=0, end_minute=60, compute=1)
    check_wishes(Wishes(quiet=(night,)), MINE, "digits")
    check_wishes(Wishes(latency_ms=50), Schedule(), "digits")
    check_wishes(None, MINE, "digits")
    for wishes in (Wishes(latency_ms=50), Wishes(goal="energy"), Wishes(joules=1)):
        with pytest.raises(ControllerError, match="has rows of its own for digits"):
            check_wishes(wishes, MINE, "digits")


def test_what_a_device_cannot_give_is_said() -> None:
    assert cautions(ROW, BUNDLE, inventory()) == ()
    assert cautions(ROW.with_(base_threshold=5), BUNDLE, TWO_CPUS) == (
        "pi has no CPU 2, 3, and takes what it has",
        "pi has 2 CPUs, and runs 4 threads as so many",
        "pi stays at step 0 of the thresholds, the last, instead of 5",
    )
    assert cautions(ROW, BUNDLE, inventory(cores=())) == ()
