import json
import signal
import threading

from tests.controller.cli.conftest import Bench


def test_follows_until_ctrl_c(bench: Bench) -> None:
    with bench.fleet(bench.device("pi-1"), bench.device("pi-2")) as fleet:
        process = bench.start("events", "-f", "pi-1", "-o", "json")
        assert process.stdout is not None
        heard = threading.Event()

        def speak() -> None:
            while not heard.wait(0.1):
                fleet.say("pi-2", "loaded", "not asked for")
                fleet.say(
                    "pi-1",
                    "unloaded",
                    "memory 12% for 4 s",
                    cascade="digits",
                    stage="large",
                    returned_bytes=41 << 20,
                )

        speaker = threading.Thread(target=speak)
        speaker.start()
        event = json.loads(process.stdout.readline())
        heard.set()
        speaker.join()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert (event["device"], event["kind"], event["returned_bytes"]) == (
        "pi-1",
        "unloaded",
        41 << 20,
    )
    assert process.returncode == 0
    assert not errors


def test_listens_for_a_while(bench: Bench) -> None:
    with bench.fleet(bench.device("pi-1")) as fleet:
        done = threading.Event()

        def speak() -> None:
            while not done.wait(0.1):
                fleet.say("pi-1", "rung", "R0 to R1: \x1b[2J memory 22%", returned_bytes=3 << 20)

        speaker = threading.Thread(target=speak)
        speaker.start()
        try:
            lines = bench.ctl("events", "--for", "0.5s").stdout.splitlines()
            found = bench.ctl_json("events", "--for", "0.5s")
        finally:
            done.set()
            speaker.join()
    assert lines
    assert "pi-1" in lines[0]
    assert lines[0].endswith("memory 22% (3.0 MiB came back)")
    assert "\x1b" not in lines[0]
    assert found[0]["kind"] == "rung"


def test_says_each_thing_once(bench: Bench) -> None:
    message = "digits/large (int8) unloaded, 0.5 MiB came back: memory available 16 %"
    with bench.fleet(bench.device("pi-1")) as fleet:
        done = threading.Event()

        def speak() -> None:
            while not done.wait(0.1):
                fleet.say("pi-1", "unloaded", message, returned_bytes=1 << 19)

        speaker = threading.Thread(target=speak)
        speaker.start()
        try:
            lines = bench.ctl("events", "--for", "0.5s").stdout.splitlines()
        finally:
            done.set()
            speaker.join()
    assert lines[0].endswith(f"unloaded     {message}")


def test_says_that_nothing_happened(bench: Bench) -> None:
    done = bench.ctl("events", "--for", "0.1s")
    assert (done.stdout, done.stderr) == ("", "Nothing happened in 0.1 s. Follow with -f.\n")
    assert bench.ctl_json("events", "--for", "0.1s") == []
