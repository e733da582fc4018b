"""Artifacts by HTTP(S): Range requests to any static server, over connections that stay open.

A source is not trusted, digests are: what it sends is checked chunk by chunk, and a source that
fails in any way is left for the next one, and at last for the broker.
"""

import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from urllib.parse import SplitResult, urljoin, urlsplit

from agent.errors import SourceError
from protocols.bundle import ArtifactRef
from protocols.chunks import CHUNK_BYTES, Digests, chunk_count, chunk_length
from protocols.errors import ArtifactError, SluiceError
from protocols.pull import Meter, Sink

log = logging.getLogger("sluice.fetch")

RANGE_CHUNKS = 64
"""Chunks of one request: 4 MiB. They go to disk one by one."""

TIMEOUT_S = 20.0
CHUNK_WITHIN_S = 120.0
"""A server that sends a byte now and then must not hold up those that send more."""

_REDIRECTS = 5
_METER_LOOK_S = 0.02
_DRAIN_BYTES = 64 * 1024
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "sluice-agent"}
_MOVED = frozenset({301, 302, 303, 307, 308})
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_PARTIAL, _WHOLE = 206, 200


class Web:
    """The connections of one fetching thread. Close it.

    Args:
        ca_file: certificates to trust instead of the system's.
        pause: called between reads with the seconds to wait; raises to end the fetch.
        timeout_s: silence after which a source counts as gone.
    """

    def __init__(
        self,
        ca_file: Path | None,
        pause: Callable[[float], None],
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._ca_file, self._pause, self._timeout_s = ca_file, pause, timeout_s
        self._open: dict[tuple[str, str], HTTPConnection] = {}

    def close(self) -> None:
        """Close every connection."""
        for connection in self._open.values():
            connection.close()
        self._open.clear()

    def fetch(
        self,
        url: str,
        ref: ArtifactRef,
        have: set[int],
        digests: Digests | None,
        take: Sink,
        meter: Meter,
    ) -> None:
        """Fetch every chunk that is not in `have`; `take` puts it there.

        Nothing is asked for that the meter has not granted: what a server sends comes over the
        air, whether it is read or not.

        Raises:
            SourceError: the source does not give all of it; what it gave is kept.
        """
        download = _Download(ref, digests, take, meter, self._pause)
        try:
            while run := _first_run(ref, have):
                wanted = download.granted(run)
                response, url = self._ask(url, ref, wanted)
                download.read(response, wanted, have)
        except (OSError, ValueError, HTTPException, ArtifactError) as error:
            self.close()
            raise SourceError(f"cannot fetch from {shown(url)}: {_why(error)}") from error
        except BaseException:
            self.close()  # in the middle of an answer
            raise
        finally:
            download.give_back()

    def _ask(self, url: str, ref: ArtifactRef, wanted: range) -> tuple[HTTPResponse, str]:
        """Ask for a run of chunks; return the answer, and where it came from in the end."""
        first = wanted.start * CHUNK_BYTES
        last = min(wanted.stop * CHUNK_BYTES, ref.size_bytes) - 1
        headers = {**_HEADERS, "Range": f"bytes={first}-{last}"}
        for _ in range(_REDIRECTS + 1):
            response = self._get(urlsplit(url), headers)
            location = response.getheader("Location")
            if response.status not in _MOVED or location is None:
                return response, url
            response.read(_DRAIN_BYTES)
            url = _moved(url, location)
        raise HTTPException(f"more than {_REDIRECTS} redirects")

    def _get(self, parts: SplitResult, headers: dict[str, str]) -> HTTPResponse:
        key = (parts.scheme, parts.netloc)
        known = self._open.get(key)
        if known is not None:
            # The server may have closed what was open; it is asked once more on a new connection.
            with suppress(OSError, HTTPException):
                return _request(known, parts, headers)
            known.close()
        connection = self._open[key] = self._connect(parts)
        return _request(connection, parts, headers)

    def _connect(self, parts: SplitResult) -> HTTPConnection:
        host = parts.hostname or ""
        if parts.scheme == "http":
            return HTTPConnection(host, parts.port, timeout=self._timeout_s)
        import ssl  # noqa: PLC0415 - most links to the broker have it loaded, a plain one has not

        context = ssl.create_default_context(cafile=self._ca_file)
        return HTTPSConnection(host, parts.port, timeout=self._timeout_s, context=context)


class _Download:
    """Reads answers, chunk by chunk, into one buffer."""

    def __init__(
        self,
        ref: ArtifactRef,
        digests: Digests | None,
        take: Sink,
        meter: Meter,
        pause: Callable[[float], None],
    ) -> None:
        self._ref, self._digests, self._take = ref, digests, take
        self._meter, self._pause = meter, pause
        self._granted: set[int] = set()

    def granted(self, run: range) -> range:
        """Return the first chunks of a run that may come now, one at least; they are counted.

        With a bandwidth cap that is what the cap gives at once: a server does not wait.
        """
        self._grant(run.start)
        for number in run[1:]:
            try:
                if not self._may_take(number):
                    break
            except SluiceError:
                break  # what was granted before comes first
        return range(run.start, run.start + len(self._granted.intersection(run)))

    def give_back(self) -> None:
        """Count no longer what was granted and has not come."""
        self._meter.correct(-sum(chunk_length(self._ref, n) for n in self._granted))
        self._granted.clear()

    def read(self, response: HTTPResponse, wanted: range, have: set[int]) -> None:
        """Take the chunks of an answer that are not here.

        Raises:
            HTTPException: it is not what was asked for, or ends too soon.
            ArtifactError: a chunk has other bytes.
        """
        for number in _numbers(response, self._ref, wanted):
            if number not in self._granted:
                self._grant(number)  # it comes all the same: the server knows no ranges
            self._granted.remove(number)
            chunk = self._chunk(response, chunk_length(self._ref, number))
            if number in have:
                continue
            if self._digests is not None:
                self._digests.check(number, chunk)
            self._take(number, chunk)
        response.read(1)  # an answer that is read to its end leaves the connection free

    def _grant(self, number: int) -> None:
        while not self._may_take(number):
            self._pause(_METER_LOOK_S)

    def _may_take(self, number: int) -> bool:
        if not self._meter.may_take(chunk_length(self._ref, number)):
            return False
        self._granted.add(number)
        return True

    def _chunk(self, response: HTTPResponse, length: int) -> bytes:
        parts: list[bytes] = []
        left, by_s = length, time.monotonic() + CHUNK_WITHIN_S
        while left:
            self._pause(0.0)
            part = response.read1(left)
            parts.append(part)
            left -= len(part)
            if not part or time.monotonic() > by_s:
                self._meter.correct(-left)
                raise HTTPException("it ended in the middle" if not part else "it is too slow")
        return b"".join(parts)


def _numbers(response: HTTPResponse, ref: ArtifactRef, wanted: range) -> Iterator[int]:
    """Yield the chunks that an answer holds, in order, once its head is found to be right."""
    encoding = response.getheader("Content-Encoding", "identity")
    if encoding != "identity":
        raise HTTPException(f"it answers with content encoding {encoding}")
    length = response.getheader("Content-Length")
    if response.status == _WHOLE:  # a server that knows no ranges sends all of it
        _check_length(length, ref.size_bytes)
        yield from range(chunk_count(ref.size_bytes))
        return
    if response.status != _PARTIAL:
        raise HTTPException(f"HTTP status {response.status}")
    first = wanted.start * CHUNK_BYTES
    last = min(wanted.stop * CHUNK_BYTES, ref.size_bytes) - 1
    said = response.getheader("Content-Range", "")
    match = _CONTENT_RANGE.fullmatch(said)
    if match is None or (int(match[1]), int(match[2])) != (first, last):
        raise HTTPException(f"asked for bytes {first}-{last} it answers with {said[:80]!r}")
    if match[3] not in {"*", str(ref.size_bytes)}:
        raise HTTPException(f"its file has {match[3]} bytes, {ref.size_bytes} expected")
    _check_length(length, last - first + 1)
    yield from wanted


def _check_length(said: str | None, expected: int) -> None:
    if said is not None and said != str(expected):
        raise HTTPException(f"it sends {said[:20]} bytes, {expected} expected")


def _request(
    connection: HTTPConnection, parts: SplitResult, headers: dict[str, str]
) -> HTTPResponse:
    target = parts.path or "/"
    if parts.query:
        target += f"?{parts.query}"
    connection.request("GET", target, headers=headers)
    return connection.getresponse()


def _moved(url: str, location: str) -> str:
    """Return where an answer points to: never from https to anything else."""
    there = urljoin(url, location)
    before, after = urlsplit(url).scheme, urlsplit(there).scheme
    if after not in {"http", "https"} or (before == "https" and after != "https"):
        raise HTTPException(f"it redirects from {before} to {after or 'nothing'}")
    return there


def _first_run(ref: ArtifactRef, have: set[int]) -> range:
    """Return the first chunks that lie side by side and are not here, of one request at most."""
    count = chunk_count(ref.size_bytes)
    start = next((n for n in range(count) if n not in have), count)
    stop = start
    while stop < count and stop not in have and stop - start < RANGE_CHUNKS:
        stop += 1
    return range(start, stop)


def shown(url: str) -> str:
    """Return an URL without credentials and query, which may be one: to show."""
    scheme, _, rest = url.partition("?")[0].partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return str(error) or type(error).__name__
