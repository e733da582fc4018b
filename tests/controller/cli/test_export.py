"""`ctl cascade export` and `ctl deploy --url`."""

import hashlib
from pathlib import Path

import pytest
import typer

from controller.cli.urls import parse_urls
from protocols.chunks import with_lists
from tests.controller.cascades import make_bundle
from tests.controller.cli.conftest import Bench


def test_every_file_is_named_by_its_digest(bench: Bench, tmp_path: Path) -> None:
    ref = bench.shelve()
    folder = tmp_path / "www" / "models"
    files = bench.ctl_json("cascade", "export", "digits", str(folder))
    assert {one["sha256"] for one in files} == {path.name for path in folder.iterdir()}
    assert {one["sha256"] for one in files} == {
        one.sha256 for one in with_lists((*make_bundle().artifacts, ref.artifact))
    }
    for path in folder.iterdir():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
    assert all(one["written"] for one in files)


def test_what_is_there_stays_and_what_is_damaged_is_written_again(
    bench: Bench, tmp_path: Path
) -> None:
    bench.shelve()
    first = bench.ctl_json("cascade", "export", "digits", str(tmp_path))
    (tmp_path / first[0]["sha256"]).write_bytes(b"damaged")
    again = bench.ctl_json("cascade", "export", "digits", str(tmp_path))
    assert [one["sha256"] for one in again if one["written"]] == [first[0]["sha256"]]


def test_a_folder_that_cannot_be_written_is_said(bench: Bench, tmp_path: Path) -> None:
    bench.shelve()
    (tmp_path / "file").write_bytes(b"")
    done = bench.ctl("cascade", "export", "digits", str(tmp_path / "file"), code=2)
    assert "cannot export to" in done.stderr


def test_the_urls_travel_with_the_deployment(bench: Bench) -> None:
    bench.shelve()
    urls = ("https://cdn.example/models/{sha256}", "http://10.0.0.1/models")
    options = [word for url in urls for word in ("--url", url)]
    found = bench.ctl_json("deploy", "digits", "--detach", *options)
    assert tuple(found["deployment"]["sources"]) == urls


@pytest.mark.parametrize("url", ["ftp://host/x", "host/x", "https://", "https://host/a b", "/x"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(typer.BadParameter, match="cannot use --url"):
        parse_urls([url])


def test_credentials_in_an_url_are_refused_and_not_shown() -> None:
    with pytest.raises(typer.BadParameter, match="without user and password") as error:
        parse_urls(["https://user:hush@host/models"])
    assert "hush" not in str(error.value)
