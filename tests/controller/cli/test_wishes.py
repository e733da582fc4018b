import pytest
import typer

from controller.cli.wishes import parse_joules, parse_latency_ms, parse_quiet, wishes_of
from protocols.profile import LayoutRun, ProfileKey, StageProfile
from protocols.schedule import Window, Wishes
from tests.controller.cascades import make_bundle
from tests.controller.cli.conftest import Bench


def profiles(*runs: tuple[int, float]) -> tuple[StageProfile, ...]:
    """Return what a device of four CPUs has measured of every stage: threads and p95, in ms."""
    return tuple(
        StageProfile(
            key=ProfileKey(
                artifact=stage.variants[0].artifact.sha256,
                runtime="ai-edge-litert 2.3.0",
                kernel="6.6.0",
                cpus=(0, 1, 2, 3),
            ),
            measured_ts=1.0,
            runs=tuple(
                LayoutRun(
                    threads=threads,
                    count=50,
                    p50_ms=p95_ms,
                    p95_ms=p95_ms,
                    answers_per_s=1000 / p95_ms,
                    cpu_ms=threads * p95_ms * 1.1,
                    load_ms=1.0,
                    peak_rss_mib=1.0,
                )
                for threads, p95_ms in runs
            ),
        )
        for stage in make_bundle().stages
    )


TUNED = profiles((1, 20.0), (2, 11.0), (4, 8.0))


@pytest.mark.parametrize(
    ("said", "value_ms"), [("50ms", 50.0), ("1.5s", 1500.0), ("800us", 0.8), (" 2ms ", 2.0)]
)
def test_a_latency(said: str, value_ms: float) -> None:
    assert parse_latency_ms(said) == pytest.approx(value_ms)


@pytest.mark.parametrize(("said", "joules"), [("0.2", 0.2), ("200mJ", 0.2), ("3J", 3.0)])
def test_an_energy(said: str, joules: float) -> None:
    assert parse_joules(said) == pytest.approx(joules)


@pytest.mark.parametrize(
    ("said", "window"),
    [
        ("22:00-06:00", Window(start_minute=1320, end_minute=360, compute=1)),
        ("0:00-24:00=C3", Window(start_minute=0, end_minute=0, compute=3)),
        ("9:05-9:10=R2", Window(start_minute=545, end_minute=550, residency=2)),
        ("1:00-2:00=C2,R3", Window(start_minute=60, end_minute=120, compute=2, residency=3)),
    ],
)
def test_quiet_hours(said: str, window: Window) -> None:
    assert parse_quiet(said) == window


@pytest.mark.parametrize("said", ["50", "0ms", "-1ms", "fast", "", "5 min"])
def test_no_latency(said: str) -> None:
    with pytest.raises(typer.BadParameter, match="write 50ms"):
        parse_latency_ms(said)


@pytest.mark.parametrize("said", ["0", "-1", "1W", ""])
def test_no_energy(said: str) -> None:
    with pytest.raises(typer.BadParameter, match="is no energy"):
        parse_joules(said)


@pytest.mark.parametrize(
    "said", ["22-6", "22:00", "25:00-06:00", "24:30-06:00", "22:00-06:00=C5", "22:00-06:00=C0", ""]
)
def test_no_quiet_hours(said: str) -> None:
    with pytest.raises(typer.BadParameter, match="write 22:00-06:00"):
        parse_quiet(said)


def test_no_wishes_are_none() -> None:
    assert wishes_of(None, None, None, None) is None
    assert wishes_of(None, 50.0, None, None) == Wishes(latency_ms=50.0)
    with pytest.raises(typer.BadParameter, match="two rungs of one ladder"):
        wishes_of(None, None, None, ["1:00-2:00=C2,C3"])
    with pytest.raises(typer.BadParameter, match="at most 16 quiet hours, got 17"):
        wishes_of(None, None, None, ["1:00-2:00"] * 17)


def test_plan_says_how_the_stages_would_run_and_what_cannot_be_met(bench: Bench) -> None:
    bench.shelve()
    with bench.fleet(bench.device("pi-1", profiles=TUNED), bench.device("pi-2")):
        words = ("plan", "digits", "--latency", "10ms", "--joules", "200mJ")
        tuned, new = bench.ctl_json(*words)["devices"]
        done = bench.ctl(*words)

    assert tuned["p95_ms"] == 16.0
    assert tuned["c0"]["large"]["compute"]["threads"] == 4
    assert tuned["c0"]["large"]["source"].startswith("measured here: p50 8 ms")
    assert tuned["missed"][0] == (
        "cannot answer within 10 ms: the stages' p95 add up to 16 ms at best"
    )
    assert new["p95_ms"] is None
    assert new["c0"]["large"]["source"] == "a rule: the device has not tuned it yet"
    assert "cannot promise 10 ms: the device has not tuned yet" in new["missed"]
    assert "pi-1, pi-2: cannot promise 0.2 J: the energy of an answer is not known" in done.stderr
    assert "16 ms" in done.stdout


def test_deploy_carries_the_wishes_to_the_compiler(bench: Bench) -> None:
    bench.shelve()
    with bench.fleet(bench.device("pi-1", profiles=TUNED)) as fleet:
        bench.ctl("deploy", "digits", "--goal", "energy", "--timeout", "20s")
        desired = fleet.devices["pi-1"].desired
        assert desired is not None
        assert desired.schedule.cascades["digits"].compute[0].stages["large"].threads == 1
        done = bench.ctl(
            *("deploy", "digits", "--goal", "energy", "--latency", "30ms"),
            *("--quiet", "22:00-06:00=C2", "--timeout", "20s"),
        )
        desired = fleet.devices["pi-1"].desired
        assert desired is not None
    row = desired.schedule.cascades["digits"].compute[0].stages
    assert [row["small"].threads, row["large"].threads] == [2, 2], "20 + 11 ms would be too slow"
    assert desired.schedule.windows == (Window(start_minute=1320, end_minute=360, compute=2),)
    assert "runs on 1 device" in done.stderr


def test_what_is_said_wrong_is_code_2(bench: Bench) -> None:
    bench.shelve()
    for option, value, says in (
        ("--latency", "50", "'50' is no latency; write 50ms"),
        ("--joules", "much", "'much' is no energy"),
        ("--quiet", "22-6", "'22-6' are no quiet hours"),
        ("--goal", "speed", "'speed' is not one of"),
    ):
        done = bench.ctl("plan", "digits", option, value, code=2)
        assert says in " ".join(done.stderr.replace("│", " ").split())
