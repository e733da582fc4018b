"""Range requests to a real server, which misbehaves in every way that can be thought of."""

import os
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import SourceError, WaitError
from agent.storage.web import RANGE_CHUNKS, Web, shown
from controller.enrolment.authority import create_authority, issue_server
from protocols.bundle import ArtifactRef
from protocols.chunks import CHUNK_BYTES, Digests, artifact_ref, chunk_list, cut, listed_ref
from protocols.pull import UNMETERED, Meter
from tests.static import Static, serving

CONTENT = os.urandom(9 * CHUNK_BYTES + 77)
REF = listed_ref(CONTENT)
DIGESTS = Digests(REF, chunk_list(CONTENT))
CHUNKS = dict(enumerate(cut(CONTENT)))
OPEN: list[Web] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()


@pytest.fixture
def static() -> Iterator[Static]:
    with serving() as static:
        static.put(REF.sha256, CONTENT)
        yield static


class Counting:
    """A meter that grants everything."""

    def __init__(self) -> None:
        self.count = self.asked = 0

    def may_take(self, count: int) -> bool:
        self.count += count
        return True

    def correct(self, count: int) -> None:
        self.count += count


class Fetch:
    """One fetch, and what came of it."""

    def __init__(self, have: set[int] | None = None, ca_file: Path | None = None) -> None:
        self.have = set(have or ())
        self.came: dict[int, bytes] = {}
        self.web = Web(ca_file, lambda _: None, timeout_s=2.0)
        OPEN.append(self.web)

    def run(
        self,
        url: str,
        ref: ArtifactRef = REF,
        digests: Digests | None = DIGESTS,
        *,
        meter: Meter = UNMETERED,
    ) -> None:
        self.web.fetch(url, ref, self.have, digests, self._take, meter)

    def _take(self, number: int, chunk: bytes) -> None:
        assert number not in self.have, "a chunk twice"
        self.came[number] = chunk
        self.have.add(number)


def url_of(static: Static) -> str:
    return f"{static.url}/{REF.sha256}"


def test_all_of_it_comes_in_one_request(static: Static) -> None:
    fetch = Fetch()
    fetch.run(url_of(static))
    assert fetch.came == CHUNKS
    assert static.asked == [(f"/{REF.sha256}", f"bytes=0-{len(CONTENT) - 1}")]


def test_only_what_is_missing_is_asked_for_over_one_connection(static: Static) -> None:
    fetch = Fetch(have={0, 1, 4, 9})
    fetch.run(url_of(static))
    assert fetch.came == {n: CHUNKS[n] for n in (2, 3, 5, 6, 7, 8)}
    assert [asked for _, asked in static.asked] == [
        f"bytes={2 * CHUNK_BYTES}-{4 * CHUNK_BYTES - 1}",
        f"bytes={5 * CHUNK_BYTES}-{9 * CHUNK_BYTES - 1}",
    ]
    assert static.connections == 1


def test_a_large_artifact_takes_few_requests(static: Static) -> None:
    content = os.urandom((2 * RANGE_CHUNKS + 1) * CHUNK_BYTES)
    ref = listed_ref(content)
    static.put(ref.sha256, content)
    fetch = Fetch()
    fetch.run(f"{static.url}/{ref.sha256}", ref, Digests(ref, chunk_list(content)))
    assert b"".join(fetch.came[n] for n in sorted(fetch.came)) == content
    assert len(static.asked) == 3
    assert static.connections == 1


def test_with_a_cap_less_is_asked_for_at_a_time(static: Static) -> None:
    class Dripping(Counting):
        """Grants three chunks, then refuses once."""

        def may_take(self, count: int) -> bool:
            self.asked += 1
            return self.asked % 4 != 0 and super().may_take(count)

    fetch, meter = Fetch(), Dripping()
    fetch.run(url_of(static), meter=meter)
    assert fetch.came == CHUNKS
    assert len(static.asked) == 4, "three chunks a request"
    assert meter.count == len(CONTENT)


def test_what_a_day_does_not_allow_is_not_asked_for(static: Static) -> None:
    class Daily(Counting):
        def may_take(self, count: int) -> bool:
            if self.count + count > 3 * CHUNK_BYTES:
                raise WaitError("waits: another day")
            return super().may_take(count)

    fetch, meter = Fetch(), Daily()
    for _ in range(3):
        with pytest.raises(WaitError):
            fetch.run(url_of(static), meter=meter)
    assert sorted(fetch.came) == [0, 1, 2]
    assert [asked for _, asked in static.asked] == [f"bytes=0-{3 * CHUNK_BYTES - 1}"]
    assert meter.count == 3 * CHUNK_BYTES


def test_what_was_granted_and_did_not_come_is_given_back(static: Static) -> None:
    static.change = lambda _, body: body[: 3 * CHUNK_BYTES + 100]
    meter = Counting()
    with pytest.raises(SourceError):
        Fetch().run(url_of(static), meter=meter)
    assert meter.count == 3 * CHUNK_BYTES + 100


def test_a_server_without_ranges_is_counted_as_it_sends(static: Static) -> None:
    static.ranges = False
    meter = Counting()
    Fetch(have={1, 4}).run(url_of(static), meter=meter)
    assert meter.count == len(CONTENT)


def test_a_server_without_ranges_sends_all_of_it(static: Static) -> None:
    static.ranges = False
    fetch = Fetch(have={1})
    fetch.run(url_of(static))
    assert fetch.came == {n: chunk for n, chunk in CHUNKS.items() if n != 1}


def test_what_came_before_an_interruption_is_kept(static: Static) -> None:
    static.change = lambda first, body: body[: 3 * CHUNK_BYTES + 100] if first == 0 else body
    fetch = Fetch()
    with pytest.raises(SourceError, match=r"^cannot fetch from http://.*: "):
        fetch.run(url_of(static))
    assert sorted(fetch.came) == [0, 1, 2]
    fetch.run(url_of(static))
    assert fetch.came == CHUNKS
    assert static.asked[1][1] == f"bytes={3 * CHUNK_BYTES}-{len(CONTENT) - 1}"


def test_a_swapped_chunk_is_not_taken(static: Static) -> None:
    static.change = lambda _, body: body[:-1] + bytes([body[-1] ^ 1])
    fetch = Fetch()
    with pytest.raises(SourceError, match="its bytes are not those of the signed chunk list"):
        fetch.run(url_of(static))
    assert sorted(fetch.came) == list(range(9)), "the last one was swapped"


@pytest.mark.parametrize("status", [403, 404, 416, 500, 503, 204])
def test_another_status_is_an_error(static: Static, status: int) -> None:
    static.status = status
    with pytest.raises(SourceError, match=f"HTTP status {status}"):
        Fetch().run(url_of(static))


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({"Content-Range": "bytes 5-99/100"}, "it answers with 'bytes 5-99/100'"),
        ({"Content-Range": "nonsense"}, "it answers with 'nonsense'"),
        (
            {"Content-Range": f"bytes 0-{len(CONTENT) - 1}/9999999"},
            f"its file has 9999999 bytes, {len(CONTENT)} expected",
        ),
        ({"Content-Length": "10"}, f"it sends 10 bytes, {len(CONTENT)} expected"),
        ({"Content-Encoding": "gzip"}, "content encoding gzip"),
    ],
)
def test_a_head_that_does_not_fit_is_an_error(
    static: Static, headers: dict[str, str], why: str
) -> None:
    static.headers = headers
    fetch = Fetch()
    with pytest.raises(SourceError, match=why):
        fetch.run(url_of(static))
    assert not fetch.came


def test_a_whole_answer_of_another_length_is_an_error(static: Static) -> None:
    static.ranges = False
    static.put(REF.sha256, CONTENT + b"more")
    with pytest.raises(SourceError, match=f"{len(CONTENT)} expected"):
        Fetch().run(url_of(static))


def test_redirects_are_followed(static: Static) -> None:
    static.redirect = lambda path: f"/there{path}" if not path.startswith("/there") else None
    static.put(f"there/{REF.sha256}", CONTENT)
    fetch = Fetch()
    fetch.run(url_of(static))
    assert fetch.came == CHUNKS


def test_redirects_end(static: Static) -> None:
    static.redirect = lambda path: f"{path}x"
    with pytest.raises(SourceError, match="more than 5 redirects"):
        Fetch().run(url_of(static))
    assert len(static.asked) == 6


@pytest.mark.parametrize("there", ["file:///etc/passwd", "ftp://host/file"])
def test_redirects_to_anything_else_are_not_followed(static: Static, there: str) -> None:
    static.redirect = lambda _: there
    with pytest.raises(SourceError, match="it redirects from http to"):
        Fetch().run(url_of(static))


def test_a_query_goes_along_and_is_not_shown(static: Static) -> None:
    fetch = Fetch()
    fetch.run(f"{url_of(static)}?token=secret")
    assert static.asked[0][0] == f"/{REF.sha256}?token=secret"
    static.status = 403
    with pytest.raises(SourceError) as caught:
        Fetch().run(f"{url_of(static)}?token=secret")
    assert "secret" not in str(caught.value)
    assert shown("https://user:secret@host:1/a?b=secret") == "https://host:1/a"


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/x", "http://127.0.0.1:99999/x", "http://[/x"])
def test_nobody_there_is_an_error(url: str) -> None:
    with pytest.raises(SourceError, match=r"^cannot fetch from "):
        Fetch().run(url)


def test_a_meter_is_asked_for_every_chunk(static: Static) -> None:
    class Slow(Counting):
        def may_take(self, count: int) -> bool:
            self.asked += 1
            return self.asked > 3 and super().may_take(count)

    meter = Slow()
    Fetch().run(url_of(static), meter=meter)
    assert meter.count == len(CONTENT)


def test_a_single_chunk_needs_no_list(static: Static) -> None:
    ref = listed_ref(b"small")
    static.put(ref.sha256, b"small")
    fetch = Fetch()
    fetch.run(f"{static.url}/{ref.sha256}", ref, Digests(ref))
    assert fetch.came == {0: b"small"}


def test_without_digests_any_bytes_are_taken_and_checked_later(static: Static) -> None:
    static.change = lambda _, body: bytes(len(body))
    fetch = Fetch()
    fetch.run(url_of(static), artifact_ref(CONTENT), None)
    assert fetch.came[0] == bytes(CHUNK_BYTES)


@pytest.fixture(scope="module")
def ca_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The certificate of an authority; its server's lie beside it."""
    folder = tmp_path_factory.mktemp("tls")
    authority = create_authority("test", time.time())
    server = issue_server(authority, ["localhost"], time.time())
    (folder / "cert.pem").write_bytes(server.certificate)
    (folder / "key.pem").write_bytes(server.key)
    (folder / "ca.pem").write_bytes(authority.certificate)
    return folder / "ca.pem"


@pytest.fixture
def secure(ca_file: Path) -> Iterator[Static]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ca_file.with_name("cert.pem"), ca_file.with_name("key.pem"))
    with serving(context) as static:
        static.put(REF.sha256, CONTENT)
        yield static


def test_https_with_a_certificate_of_our_own(secure: Static, ca_file: Path) -> None:
    fetch = Fetch(ca_file=ca_file)
    fetch.run(url_of(secure))
    assert fetch.came == CHUNKS
    with pytest.raises(SourceError, match="certificate verify failed"):
        Fetch().run(url_of(secure))


def test_https_never_redirects_to_http(secure: Static, static: Static, ca_file: Path) -> None:
    secure.redirect = lambda _: url_of(static)
    with pytest.raises(SourceError, match="it redirects from https to http"):
        Fetch(ca_file=ca_file).run(url_of(secure))
    assert not static.asked
