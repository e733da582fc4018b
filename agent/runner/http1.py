"""HTTP/1.1, as far as an inference server needs it: bytes in, requests out. Pure.

`Parser.feed` takes bytes as they come and `Parser.next` gives whole requests. Whatever a client
does wrong ends in an `HttpError` with its status; the connection is then closed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Literal

Headers = tuple[tuple[str, str], ...]

MAX_HEAD_BYTES = 32 << 10
MAX_BODY_BYTES = 16 << 20

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) ([!-~]{1,8192}) HTTP/(\d)\.(\d)")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_SIZE = re.compile(r"[0-9]{1,15}")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})(?:[ \t]*;[^\r\n]*)?")
_MAX_CHUNK_LINE_BYTES = 256
_REASONS = {status.value: status.phrase for status in HTTPStatus}


class HttpError(Exception):
    """A request that gets an error; the text is for a person."""

    def __init__(self, status: int, message: str, headers: Headers = ()) -> None:
        super().__init__(message)
        self.status, self.headers = status, headers


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, with its whole body; header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP answer; `encode` adds Content-Length and what keeps the connection."""

    status: int
    body: bytes
    headers: Headers = (("Content-Type", "application/json"),)


@dataclass(slots=True)
class _Head:
    """A request whose body is still on its way."""

    method: str
    path: str
    headers: dict[str, str]
    keep_alive: bool
    length: int | None
    """Of the body in bytes; None: chunked."""


State = Literal["head", "body", "chunk-size", "chunk", "trailer"]


@dataclass(frozen=True, slots=True)
class Received:
    """A whole request, and whether the connection stays after its answer."""

    request: Request
    keep_alive: bool


@dataclass(slots=True)
class Parser:
    """The receiving half of one connection."""

    _buffer: bytearray = field(default_factory=bytearray)
    _state: State = "head"
    _head: _Head | None = None
    _body: bytearray = field(default_factory=bytearray)
    _chunk: int = 0

    @property
    def idle(self) -> bool:
        """Nothing of a next request has come yet."""
        return self._state == "head" and not self._buffer

    @property
    def body_bytes(self) -> int:
        """How much memory the body under way takes or has announced; 0 outside of one."""
        if self._head is None:
            return 0
        if self._head.length is not None:
            return self._head.length
        return len(self._body) + (self._chunk if self._state == "chunk" else 0)

    @property
    def wants_continue(self) -> bool:
        """Whether the client waits for `100 Continue` before it sends the body."""
        return (
            self._head is not None
            and self._head.headers.get("expect", "").lower() == "100-continue"
            and not self._body
            and not self._buffer
        )

    def feed(self, data: bytes) -> None:
        """Take bytes that have come."""
        self._buffer += data

    def next(self) -> Received | None:
        """Return the next whole request; None: more bytes are needed.

        Raises:
            HttpError: the client does not speak HTTP/1, or asks for too much.
        """
        while True:
            done: Received | State | None
            match self._state:
                case "head":
                    done = self._read_head()
                case "body":
                    done = self._read_body()
                case "chunk-size":
                    done = self._read_chunk_size()
                case "chunk":
                    done = self._read_chunk()
                case "trailer":
                    done = self._read_trailer()
            if done is None:
                return None
            if isinstance(done, Received):
                self._state, self._head, self._body = "head", None, bytearray()
                return done
            self._state = done

    def _read_head(self) -> State | None:
        while self._buffer.startswith(b"\r\n"):
            del self._buffer[:2]
        end = self._buffer.find(b"\r\n\r\n")
        if end > MAX_HEAD_BYTES or (end < 0 and len(self._buffer) > MAX_HEAD_BYTES):
            raise HttpError(
                431, f"cannot read the request: its head exceeds {MAX_HEAD_BYTES} bytes"
            )
        if end < 0:
            return None
        head = _head(bytes(self._buffer[:end]))
        del self._buffer[: end + 4]
        self._head = head
        return "chunk-size" if head.length is None else "body"

    def _read_body(self) -> Received | None:
        head = self._head
        if head is None or head.length is None or len(self._buffer) < head.length:
            return None
        body = bytes(self._buffer[: head.length])
        del self._buffer[: head.length]
        return _received(head, body)

    def _read_chunk_size(self) -> State | None:
        line = self._line()
        if line is None:
            return None
        match = _CHUNK.fullmatch(line)
        if match is None:
            raise HttpError(400, "cannot read the request: a chunk's size is not one")
        self._chunk = int(match[1], 16)
        if len(self._body) + self._chunk > MAX_BODY_BYTES:
            raise _too_large()
        return "chunk" if self._chunk else "trailer"

    def _read_chunk(self) -> State | None:
        if len(self._buffer) < self._chunk + 2:
            return None
        if self._buffer[self._chunk : self._chunk + 2] != b"\r\n":
            raise HttpError(400, "cannot read the request: a chunk is longer than it says")
        self._body += self._buffer[: self._chunk]
        del self._buffer[: self._chunk + 2]
        return "chunk-size"

    def _read_trailer(self) -> Received | State | None:
        line = self._line()
        if line is None:
            return None
        if line or self._head is None:
            return "trailer"
        return _received(self._head, bytes(self._body))

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\r\n", 0, _MAX_CHUNK_LINE_BYTES)
        if end < 0:
            if len(self._buffer) >= _MAX_CHUNK_LINE_BYTES:
                raise HttpError(400, "cannot read the request: a chunk's line is too long")
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line


def encode(response: Response, *, keep_alive: bool, head_only: bool = False) -> bytes:
    """Return an answer's bytes; to HEAD without the body, whose length they still tell."""
    lines = [f"HTTP/1.1 {response.status} {_REASONS.get(response.status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in response.headers]
    lines.append(f"Content-Length: {len(response.body)}")
    if not keep_alive:
        lines.append("Connection: close")
    head = "\r\n".join([*lines, "\r\n"]).encode()
    return head if head_only else head + response.body


def _head(text: bytes) -> _Head:
    first, *rest = text.split(b"\r\n")
    line = _REQUEST_LINE.fullmatch(first)
    if line is None:
        raise HttpError(400, "cannot read the request: its first line is not HTTP")
    method, path, major, minor = line.groups()
    if major != b"1":
        raise HttpError(505, "cannot read the request: want HTTP/1.1")
    headers = _fields(rest)
    # An answer in HTTP/1.1 does not tell a client of 1.0 that its connection stays.
    keep_alive = minor != b"0" and "close" not in headers.get("connection", "").lower()
    expect = headers.get("expect")
    if expect is not None and expect.lower() != "100-continue":
        raise HttpError(417, f"cannot read the request: Expect: {expect} is not served")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise HttpError(415, "cannot read the request: Content-Encoding is not served")
    return _Head(method.decode(), path.decode(), headers, keep_alive, _length(headers))


def _fields(lines: list[bytes]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        match = _FIELD.fullmatch(line)
        if match is None:
            raise HttpError(400, "cannot read the request: a header field is malformed")
        name, value = match[1].decode().lower(), match[2].decode("latin-1").strip()
        if name not in headers:
            headers[name] = value
        elif name in {"content-length", "transfer-encoding", "host"} and headers[name] != value:
            raise HttpError(400, f"cannot read the request: {name} stands twice")
    return headers


def _length(headers: dict[str, str]) -> int | None:
    """Return the body's length in bytes; None: it comes in chunks."""
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if coding is not None:
        if length is not None or coding.lower() != "chunked":
            raise HttpError(400, "cannot read the request: its Transfer-Encoding is not served")
        return None
    if length is None:
        return 0
    if not _SIZE.fullmatch(length):
        raise HttpError(400, "cannot read the request: Content-Length is not a number")
    if int(length) > MAX_BODY_BYTES:
        raise _too_large()
    return int(length)


def _too_large() -> HttpError:
    return HttpError(413, f"cannot read the request: its body exceeds {MAX_BODY_BYTES >> 20} MiB")


def _received(head: _Head, body: bytes) -> Received:
    return Received(Request(head.method, head.path, head.headers, body), head.keep_alive)
