"""A static HTTP(S) server that knows ranges, keeps connections open, and can misbehave."""

import contextlib
import http.server
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus

_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


@dataclass
class Static:
    """What is served, how, and what was asked for."""

    files: dict[str, bytes] = field(default_factory=dict)
    url: str = ""
    ranges: bool = True
    status: int | None = None
    """Every answer, instead of the right one."""
    headers: dict[str, str] = field(default_factory=dict)
    """In the place of the right ones, or besides them."""
    redirect: Callable[[str], str | None] = lambda _: None
    """Where a path has moved to."""
    change: Callable[[int, bytes], bytes] = lambda _, body: body
    """Given the place of the first byte and a body: the one that is sent instead."""
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and Range of every request."""
    connections: int = 0

    def put(self, name: str, content: bytes) -> None:
        """Serve a file at `/name`."""
        self.files[f"/{name}"] = content

    @property
    def bytes_asked(self) -> int:
        """The bytes of all ranges asked for."""
        found = [_RANGE.fullmatch(text) for _, text in self.asked if text is not None]
        return sum(int(one[2]) - int(one[1]) + 1 for one in found if one is not None)


@contextlib.contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[Static]:
    """Serve on a free port of this machine."""
    static = Static()
    handler = type("Handler", (_Handler,), {"static": static})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        port = server.server_address[1]
        static.url = f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield static
        finally:
            server.shutdown()
            thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 20
    static: Static

    def setup(self) -> None:
        super().setup()
        self.static.connections += 1

    def log_message(self, *_arguments: object) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # who has hung up needs no answer
            super().handle()

    def do_GET(self) -> None:
        static, asked = self.static, self.headers.get("Range")
        static.asked.append((self.path, asked))
        if (there := static.redirect(self.path)) is not None:
            self._answer(HTTPStatus.FOUND, b"moved", {"Location": there})
            return
        content = static.files.get(self.path.partition("?")[0])
        if content is None:
            self._answer(HTTPStatus.NOT_FOUND, b"nothing here", {})
            return
        match = _RANGE.fullmatch(asked or "") if static.ranges else None
        if match is None:
            self._answer(static.status or HTTPStatus.OK, static.change(0, content), {})
            return
        first, last = int(match[1]), min(int(match[2]), len(content) - 1)
        headers = {"Content-Range": f"bytes {first}-{last}/{len(content)}"}
        body = static.change(first, content[first : last + 1])
        status = static.status or HTTPStatus.PARTIAL_CONTENT
        self._answer(status, body, headers, last + 1 - first)

    def _answer(
        self, status: int, body: bytes, headers: dict[str, str], length: int | None = None
    ) -> None:
        self.send_response(status)
        said = {"Content-Length": str(len(body) if length is None else length), **headers}
        for name, value in {**said, **self.static.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        if length is not None and len(body) < length:
            self.close_connection = True
