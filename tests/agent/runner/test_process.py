import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from agent.runner import blackbox
from agent.runner.control import Drain, Drained, HandOver, Ready, Rejected, Take
from agent.runner.server import MAX_CONNECTIONS
from tests import models
from tests.agent.runner.cascades import Built, Piece, build
from tests.agent.runner.harness import RunnerUnderTest, listen, running, wait_for
from tests.agent.runner.samples import samples

X = samples(12, 8, 8)
SMALL = models.classifier(models.random_layers(64, 10, seed=1), sample_shape=(8, 8, 1), form="int8")
LARGE = models.classifier(models.random_layers(64, 32, 10, seed=2))
MIB = 1 << 20


def two_stages(folder: Path, name: str = "digits", version: int = 1) -> Built:
    pieces = [Piece("small", SMALL, "max_prob", 0.3), Piece("large", LARGE)]
    return build(folder, pieces, X, name=name, version=version)


def serve(runner: RunnerUnderTest, *cascades: Built) -> None:
    runner.assign(*((built.assignment(), built.plan()) for built in cascades))
    runner.expect(Ready)
    runner.take()


def test_it_serves_several_cascades(tmp_path: Path) -> None:
    one, other = two_stages(tmp_path), build(tmp_path, [Piece("a", LARGE)], X, name="other")
    with running() as runner:
        serve(runner, one, other)
        client = runner.client()
        for number, sample in enumerate(X):
            status, document = client.infer("other", sample)
            assert status == 200
            assert np.allclose(document["outputs"][0]["data"], other.chances("a", number))
            status, document = client.infer("digits", sample)
            stage = document["parameters"]["stage"]
            assert np.allclose(document["outputs"][0]["data"], one.chances(stage, number))
        assert client.ask("GET", "/v2/health/ready")[0] == 200
        stats = runner.stats()
        assert (stats.name, stats.answers) == ("digits", len(X))


def test_after_an_unload_memory_is_what_it_was_before_the_load(tmp_path: Path) -> None:
    big = models.classifier(models.random_layers(64, 2048, 2048, 10, seed=3))
    built = build(tmp_path, [Piece("small", SMALL, "max_prob", 2.0), Piece("big", big)], X)
    with running() as runner:
        runner.assign((built.assignment(), built.plan("resident", "out")))
        runner.expect(Ready)
        runner.take()
        client = runner.client()
        for _ in range(3):
            before = runner.stats_rss_mib()
            runner.apply(built.plan("resident", "resident"), cause="memory has recovered")
            loaded = runner.change("loaded", "big")
            assert loaded.loaded_mib is not None
            assert loaded.loaded_mib > 16
            assert client.infer("digits", X[0])[1]["parameters"]["stage"] == "big"
            runner.apply(built.plan("resident", "out"), cause="memory 12% (R3)")
            unloaded = runner.change("unloaded", "big")
            assert unloaded.cause == "memory 12% (R3)"
            assert unloaded.returned_bytes is not None
            assert unloaded.returned_bytes > 16 * MIB
            assert unloaded.rss_mib - before < 5
            assert client.infer("digits", X[0])[1]["parameters"] == {
                "stage": "small",
                "degraded": True,
                "certified": False,
            }


def test_an_idle_stage_leaves_by_itself(tmp_path: Path) -> None:
    built = two_stages(tmp_path)
    plan = built.plan("resident", "on_demand", idle_unload_s=0.05, threshold_index=0)
    with running() as runner:
        runner.assign((built.assignment(), plan))
        runner.expect(Ready)
        runner.take()
        client = runner.client()
        for sample in X:
            client.infer("digits", sample)
        assert "a request needs it" in runner.change("loaded", "large").cause
        assert "unused for 0.05 s" in runner.change("unloaded", "large").cause


def test_a_cascade_that_cannot_serve_is_named_and_left_out(tmp_path: Path) -> None:
    good, bad = two_stages(tmp_path), build(tmp_path, [Piece("a", LARGE)], X, name="bad")
    digest = bad.bundle.golden.artifact.sha256
    (tmp_path / digest).unlink()
    with running() as runner:
        serve(runner, bad, good)
        (rejected,) = [message for message in runner.seen if isinstance(message, Rejected)]
        assert rejected.cascade == "bad"
        assert rejected.message.startswith("cannot read the golden samples of bad")
        client = runner.client()
        assert client.infer("digits", X[0])[0] == 200
        assert client.infer("bad", X[0])[0] == 404


def test_a_model_that_kills_the_process_is_the_suspect(tmp_path: Path) -> None:
    good = two_stages(tmp_path)
    bad = build(
        tmp_path, [Piece("a", models.classifier(models.random_layers(4, 4)))], samples(2, 4)
    )
    stage = bad.bundle.stages[0]
    variant = stage.variants[0]
    (tmp_path / variant.artifact.sha256).unlink()
    (tmp_path / variant.artifact.sha256).write_bytes(models.crashing())
    bundle = bad.bundle.with_(name="bad")
    killer = Built(bundle, tmp_path, bad.x)
    with running() as runner:
        runner.assign((good.assignment(), good.plan()), (killer.assignment(), killer.plan()))
        assert runner.wait() == -signal.SIGSEGV
        assert blackbox.suspects(runner.blackbox) == ("bad",)


def test_a_kill_while_idle_has_no_suspect(tmp_path: Path) -> None:
    built = two_stages(tmp_path)
    with running() as runner:
        serve(runner, built)
        runner.process.kill()
        runner.wait()
        assert blackbox.suspects(runner.blackbox) == ()


def test_it_ends_with_its_supervisor(tmp_path: Path) -> None:
    with running() as runner:
        serve(runner, two_stages(tmp_path))
        runner.process.send_signal(signal.SIGTERM)
        runner.process.send_signal(signal.SIGINT)
        assert runner.client().infer("digits", X[0])[0] == 200
        runner.channel.close()
        assert runner.wait() == 0


def test_a_swap_under_load_loses_and_mixes_nothing(tmp_path: Path) -> None:
    old, new = two_stages(tmp_path, version=1), two_stages(tmp_path, version=2)
    listener, stop = listen(), threading.Event()
    versions: list[list[str]] = [[], [], []]
    faults: list[object] = []
    with running(listener) as first, running(listener) as second:
        serve(first, old)

        def ask(seen: list[str]) -> None:
            client = first.client()
            while not stop.is_set():
                try:
                    status, document = client.infer("digits", X[len(seen) % len(X)])
                except OSError as error:
                    faults.append(error)
                    return
                seen.append(document["model_version"])
                if status != 200:
                    faults.append(document)

        threads = [threading.Thread(target=ask, args=(seen,)) for seen in versions]
        for thread in threads:
            thread.start()
        second.assign((new.assignment(), new.plan()))
        second.expect(Ready)
        first.say(Drain())
        first.expect(Drained)
        for fd in first.handed:
            second.say(HandOver(), fd)
            os.close(fd)
        first.handed.clear()
        second.say(Take())
        assert first.wait() == 0
        wait_for("answers by the new one", lambda: all("2" in seen for seen in versions))
        stop.set()
        for thread in threads:
            thread.join()
    listener.close()
    assert faults == []
    for seen in versions:
        assert seen == sorted(seen)
        assert set(seen) == {"1", "2"}


def test_bytes_that_nobody_has_read_are_handed_over(tmp_path: Path) -> None:
    built = two_stages(tmp_path)
    with running() as first, running() as second:
        serve(first, built)
        serve(second, built)
        client = first.client()
        assert client.infer("digits", X[0])[0] == 200
        first.say(Drain())
        first.expect(Drained)
        client.connection.request("GET", "/v2/models/digits")  # lies in the kernel's buffer
        (fd,) = first.handed
        second.say(HandOver(), fd)
        response = client.connection.getresponse()
        assert (response.status, json.loads(response.read())["name"]) == (200, "digits")


def test_a_request_half_sent_is_answered_before_its_connection_moves(tmp_path: Path) -> None:
    built = two_stages(tmp_path)
    body = json.dumps(
        {"inputs": [{"name": "x", "datatype": "FP32", "shape": [8, 8], "data": X[0].tolist()}]}
    ).encode()
    head = f"POST /v2/models/digits/infer HTTP/1.1\r\nContent-Length: {len(body)}\r\n"
    with running() as runner, socket.create_connection(runner.address, 30) as connection:
        serve(runner, built)
        connection.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        runner.say(Drain())
        connection.sendall(body)
        assert connection.recv(20).startswith(b"HTTP/1.1 200 OK")
        runner.expect(Drained)
        assert len(runner.handed) == 1


def test_a_drain_does_not_wait_for_the_idle(tmp_path: Path) -> None:
    with running() as runner:
        serve(runner, two_stages(tmp_path))
        clients = [runner.client() for _ in range(20)]
        for client in clients:
            assert client.ask("GET", "/v2/health/live")[0] == 200
        runner.say(Drain())
        runner.expect(Drained, timeout_s=5)
        assert len(runner.handed) == 20


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"POST /v2/models/digits/infer HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", b"413"),
        (b"POST /v2/models/digits/infer HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", b"400"),
        (b"DELETE /v2 HTTP/1.1\r\n\r\n", b"405"),
    ],
)
def test_a_clients_fault_is_a_4xx_and_serving_goes_on(
    tmp_path: Path, data: bytes, status: bytes
) -> None:
    with running() as runner:
        serve(runner, two_stages(tmp_path))
        with socket.create_connection(runner.address, 30) as connection:
            connection.sendall(data)
            answer = connection.recv(4096)
            assert answer.split(b" ")[1] == status
            assert b'{"error": "cannot ' in answer
        assert runner.client().infer("digits", X[0])[0] == 200


def test_idle_connections_do_not_lock_a_new_client_out(tmp_path: Path) -> None:
    with running() as runner, contextlib.ExitStack() as stack:
        serve(runner, two_stages(tmp_path))
        idle = [
            stack.enter_context(socket.create_connection(runner.address, 30))
            for _ in range(MAX_CONNECTIONS + 40)
        ]
        clients = [runner.client() for _ in range(3)]
        for client in clients:
            assert client.infer("digits", X[0])[0] == 200
        assert idle[0].recv(1) == b""  # the one that was idle longest had to go
        assert clients[0].infer("digits", X[0])[0] == 200


def test_an_answer_to_head_is_no_longer_than_its_head(tmp_path: Path) -> None:
    with running() as runner, socket.create_connection(runner.address, 30) as connection:
        serve(runner, two_stages(tmp_path))
        for path, status in (
            (b"/v2", b"200"),
            (b"/none", b"404"),
            (b"/v2/repository/index", b"405"),
        ):
            connection.sendall(b"HEAD " + path + b" HTTP/1.1\r\n\r\n")
            received = connection.recv(4096)
            assert received.split(b" ")[1] == status
            assert received.endswith(b"\r\n\r\n")


def test_large_bodies_are_counted_however_they_come(tmp_path: Path) -> None:
    head = b"POST /v2/models/digits/infer HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffff0\r\n"
    with running() as runner, contextlib.ExitStack() as stack:
        serve(runner, two_stages(tmp_path))
        held = [stack.enter_context(socket.create_connection(runner.address, 30)) for _ in range(3)]
        for connection in held[:2]:
            connection.sendall(head)
        waiting = select.poll()
        for connection in held:
            waiting.register(connection, select.POLLIN)
        held[2].sendall(head)
        ((refused, _events),) = waiting.poll(30_000)
        answer = next(c for c in held if c.fileno() == refused).recv(4096)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 1" in answer


def test_chunks_and_pipelines_over_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    body = json.dumps(
        {"inputs": [{"name": "x", "datatype": "FP32", "shape": [8, 8], "data": X[0].tolist()}]}
    ).encode()
    head = b"POST /v2/models/digits/infer HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in (body[:10], body[10:]))
    request = head + chunks + b"0\r\n\r\n"
    with running(listener) as runner, socket.socket(socket.AF_UNIX) as connection:
        serve(runner, two_stages(tmp_path))
        connection.connect(path)
        connection.sendall(request * 3)
        received = b""
        while received.count(b'"model_name"') < 3 or not received.endswith(b"}"):
            received += connection.recv(1 << 16)
        assert received.count(b"HTTP/1.1 200 OK") == 3
    listener.close()


def test_what_the_supervisor_imports_is_free_of_numpy() -> None:
    code = (
        "import sys, agent.runner.control, agent.runner.channel, agent.runner.blackbox;"
        "sys.exit('numpy' in sys.modules or 'ai_edge_litert' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
