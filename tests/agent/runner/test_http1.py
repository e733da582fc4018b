import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.runner.http1 import (
    MAX_BODY_BYTES,
    MAX_HEAD_BYTES,
    HttpError,
    Parser,
    Received,
    Response,
    encode,
)

PLAIN = b"POST /v2/models/a/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"POST /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5;note=1\r\nhello\r\n1\r\n!\r\n0\r\nTrailer: x\r\n\r\n"
)
BARE = b"GET /v2 HTTP/1.1\r\n\r\n"


def parse(*pieces: bytes) -> list[Received]:
    parser, received = Parser(), []
    for piece in pieces:
        parser.feed(piece)
        while (request := parser.next()) is not None:
            received.append(request)
    assert parser.idle
    return received


def test_requests_in_one_piece() -> None:
    plain, chunked, bare = parse(PLAIN + b"\r\n" + CHUNKED + BARE)
    assert (plain.request.method, plain.request.path) == ("POST", "/v2/models/a/infer")
    assert plain.request.body == b"hello"
    assert plain.request.headers == {"host": "x", "content-length": "5"}
    assert chunked.request.body == b"hello!"
    assert bare.request.body == b""
    assert all(received.keep_alive for received in (plain, chunked, bare))


@given(st.lists(st.integers(0, len(PLAIN + CHUNKED + BARE)), max_size=12))
def test_it_does_not_matter_how_the_bytes_come(cuts: list[int]) -> None:
    whole = PLAIN + CHUNKED + BARE
    edges = [0, *sorted(cuts), len(whole)]
    pieces = [whole[a:b] for a, b in itertools.pairwise(edges)]
    assert parse(*pieces) == parse(whole)


@pytest.mark.parametrize(
    ("head", "kept"),
    [
        (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\n\r\n", True),
    ],
)
def test_who_ends_the_connection(head: bytes, kept: bool) -> None:  # noqa: FBT001
    assert parse(head)[0].keep_alive is kept


def test_a_client_that_waits_for_100_is_seen() -> None:
    parser = Parser()
    parser.feed(b"POST / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert parser.next() is None
    assert parser.wants_continue
    assert parser.body_bytes == 2
    parser.feed(b"o")
    assert parser.next() is None
    assert not parser.wants_continue


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\n folded: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nname : x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nExpect: tea\r\n\r\n", 417),
        (b"POST / HTTP/1.1\r\nContent-Encoding: gzip\r\n\r\n", 415),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
        (
            b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        (b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1), 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n", 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 300, 400),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * MAX_HEAD_BYTES, 431),
    ],
)
def test_what_is_wrong_has_its_status(data: bytes, status: int) -> None:
    parser = Parser()
    parser.feed(data)
    with pytest.raises(HttpError) as caught:
        parser.next()
    assert caught.value.status == status
    assert str(caught.value).startswith("cannot ")


@given(st.binary(max_size=300))
def test_any_bytes_are_a_request_or_an_http_error(data: bytes) -> None:
    parser = Parser()
    parser.feed(data + b"\r\n\r\n")
    with contextlib.suppress(HttpError):
        while parser.next() is not None:
            pass


def test_an_answer_says_its_length_and_when_it_closes() -> None:
    text = encode(Response(503, b"{}", (("Retry-After", "5"),)), keep_alive=False)
    assert text == (
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 2\r\n"
        b"Connection: close\r\n\r\n{}"
    )
    assert b"Connection" not in encode(Response(200, b""), keep_alive=True)


def test_an_answer_to_head_has_no_body() -> None:
    text = encode(Response(200, b"{}"), keep_alive=True, head_only=True)
    assert text.endswith(b"Content-Length: 2\r\n\r\n")


def test_a_chunk_under_way_counts_as_a_whole() -> None:
    parser = Parser()
    parser.feed(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nff\r\nx")
    assert parser.next() is None
    assert parser.body_bytes == 5 + 255
