"""`ctl keys`, `sign`, `publish` and `audit`: several people, and none of them alone."""

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from controller.audit import new_entry
from controller.cli.contents import terms
from controller.retained import read_retained
from controller.session import Session
from controller.signing import key_path, key_paths, load_signer
from controller.trust import chain
from protocols.desired import Deployment
from protocols.envelope import DEPLOYMENT, open_unverified, sign, verify
from protocols.link import Link
from tests.controller.cascades import Piece
from tests.controller.cli.conftest import Bench

HUGE = (Piece("only", [("fp32", 9000.0)]),)


def second_key(bench: Bench, folder: Path) -> Path:
    """Trust another person's release key; return where that person has it."""
    public = bench.ctl_json("keys", "new", "release")[0]["public"]
    theirs = folder / "theirs.key"
    next(p for p in key_paths(bench.home, "release") if p.name != "release.key").rename(theirs)
    bench.ctl("keys", "add", "release", public, "--yes")
    return theirs


def retained(bench: Bench, *topics: str) -> dict[str, bytes]:
    return read_retained(bench.home, topics)


def test_ls_says_whose_keys_and_where(bench: Bench) -> None:
    found = bench.ctl_json("keys", "ls", "--offline")
    assert (found["version"], found["threshold"]) == (0, {"release": 1, "controller": 1})
    here = {key["role"]: key["here"] for key in found["keys"]}
    assert here == {role: str(key_path(bench.home, role)) for role in ("release", "controller")}
    shown = bench.ctl("keys", "ls")
    assert "Version 0 of fleet" in shown.stderr
    private = key_path(bench.home, "release").read_text().strip()
    assert private not in shown.output + str(found)


def test_rotation_keeps_what_is_deployed(bench: Bench) -> None:
    bench.shelve()
    with bench.fleet(bench.device("pi-1")):
        bench.ctl("deploy", "digits@1", "--timeout", "20s")
        before = bench.home.trust()
        old = load_signer(bench.home, "release").key_id
        said = bench.ctl("keys", "rotate", "release", "--yes")
    assert "Signs deployment deployments/digits-v1" in said.stderr
    assert "ctl sign digits@1, then deploy it again" in said.stderr
    after = bench.home.trust()
    assert (after.version, [key.key_id for key in after.former]) == (1, [old])
    (envelope,) = retained(bench, bench.home.topics.deployment("+")).values()
    for keys in (before, after):
        assert Deployment.decode(verify(envelope, DEPLOYMENT, keys)).bundle.name == "digits"
    names = {path.name for path in bench.home.keys_dir.iterdir()}
    assert "release.key.retired" in names
    assert "release.key" not in names
    entries = bench.ctl_json("audit")
    assert [entry["act"] for entry in entries] == ["keys-changed", "deployed"]
    assert [entry["key_removed"] for entry in entries] == [False, True]
    bench.ctl("sign", "digits@1", "--yes")
    assert bench.ctl_json("cascade", "show", "digits@1")


def test_another_home_follows_whenever_it_looks(bench: Bench, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    other = dataclasses.replace(bench.home, folder=folder)
    other.trust_file.write_bytes(bench.home.trust_file.read_bytes())
    bench.shelve()
    for role in ("release", "controller"):
        bench.ctl("keys", "rotate", role, "--yes")
    bench.ctl("sign", "digits@1", "--yes")
    bench.ctl("deploy", "digits@1", "--detach", "-l", "nobody=here")
    with Session(other) as session:
        assert len(session.fleet.deployments) == 1, "signed by a key that came with version 1"
        assert other.trust() == bench.home.trust()
        assert set(chain(other)) == {1, 2}
        # It hears of the next one while it looks.
        bench.ctl("keys", "rotate", "release", "--yes")
        assert session.wait(lambda fleet: fleet.keys and fleet.keys.version == 3, 10)
        assert session.wait(lambda fleet: len(fleet.deployments) == 1, 10)
    assert other.trust().version == 3


def test_a_controller_whose_key_was_taken_away_steps_down(bench: Bench, tmp_path: Path) -> None:
    folder = tmp_path / "server"
    (folder / "keys").mkdir(parents=True)
    server = dataclasses.replace(bench.home, folder=folder, controller="server")
    server.trust_file.write_bytes(bench.home.trust_file.read_bytes())
    there = key_path(server, "controller")
    there.write_bytes(key_path(bench.home, "controller").read_bytes())
    there.chmod(0o600)
    with Session(server, "serve") as session:
        assert session.wait(lambda fleet: fleet.alive("serve"), 10)
        bench.ctl("keys", "rotate", "controller", "--yes")
        assert session.wait(lambda fleet: not fleet.alive("serve"), 10)
        assert server.trust() == bench.home.trust()
        with Session(bench.home, "deploy") as other:
            assert other.wait(lambda _: other.acting, 10), "another one may stand for it"


def test_what_the_broker_has_lost_of_the_chain_is_put_out_again(bench: Bench) -> None:
    for role in ("release", "controller"):
        bench.ctl("keys", "rotate", role, "--yes")
    topic = bench.home.topics.keys(1)
    link = Link(bench.home.broker, f"{bench.home.fleet}-mallory", lambda *_: None)
    link.start()
    link.publish_and_wait(topic, b"garbage", retain=True)
    link.publish_and_wait(bench.home.topics.keys(2), b"", retain=True)
    link.stop()
    with Session(bench.home, "deploy") as session:
        assert session.wait(lambda fleet: fleet.key_sets == chain(bench.home), 10)


def test_two_must_sign(bench: Bench, tmp_path: Path) -> None:
    bench.shelve()
    theirs = second_key(bench, tmp_path)
    bench.ctl("--key", str(theirs), "keys", "threshold", "release", "2", "--yes")
    assert bench.home.trust().threshold["release"] == 2
    said = bench.ctl("deploy", "digits@1", "--detach", code=2)
    assert "1 of 2 needed signatures" in said.stderr
    bench.ctl("--key", str(theirs), "sign", "digits@1", "--yes")
    with bench.fleet(bench.device("pi-1")):
        said = bench.ctl("deploy", "digits@1", "--detach", code=1)
        assert "2 release keys must sign, here are 1; give more with --key FILE" in said.stderr
        file = tmp_path / "deployment.json"
        said = bench.ctl("deploy", "digits@1", "--sign-only", str(file))
        assert "1 signature missing" in said.stderr
        said = bench.ctl("publish", str(file), code=2)
        assert "1 of 2 needed signatures" in said.stderr
        assert retained(bench, bench.home.topics.deployment("+")) == {}
        said = bench.ctl("--key", str(theirs), "sign", str(file), "--yes")
        assert "deployment digits-v1" in said.stderr
        assert "enough have signed" in said.stderr
        bench.ctl("publish", str(file))
    (envelope,) = retained(bench, bench.home.topics.deployment("+")).values()
    verify(envelope, DEPLOYMENT, bench.home.trust())


def test_a_key_set_that_needs_another_person(bench: Bench, tmp_path: Path) -> None:
    theirs = second_key(bench, tmp_path)
    bench.ctl("--key", str(theirs), "keys", "threshold", "release", "2", "--yes")
    file = tmp_path / "keys.json"
    said = bench.ctl("keys", "threshold", "release", "1", "--yes", code=2)
    assert "1 of 2 needed signatures" in said.stderr
    bench.ctl("keys", "threshold", "release", "1", "--sign-only", str(file))
    assert bench.home.trust().version == 2
    bench.ctl("--key", str(theirs), "sign", str(file), "--yes")
    bench.ctl("publish", str(file), "--yes")
    assert bench.home.trust().version == 3


def test_what_changes_while_it_asks_stays_changed(bench: Bench) -> None:
    bench.shelve()
    made = [
        bench.ctl_json("deploy", "digits@1", "--detach", "-l", f"nobody={name}")["deployment"]["id"]
        for name in ("here", "there")
    ]
    command = [sys.executable, "-m", "controller", *bench.globals, "keys", "rotate", "release"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as asked:
        assert asked.stdin is not None
        assert asked.stderr is not None
        said = b""
        while b"Go on?" not in said:
            some = os.read(asked.stderr.fileno(), 4096)
            assert some, said
            said += some
        bench.ctl("deployment", "abort", made[0])
        late = bench.ctl_json("deploy", "digits@1", "--detach", "-l", "nobody=late")
        made.append(late["deployment"]["id"])
        asked.stdin.write(b"y\n")
        asked.stdin.close()
        rest = asked.stderr.read()
    assert asked.returncode == 0, rest
    assert f"deployments/{made[2]}".encode() in rest, "what is signed anew now is told"
    assert bench.home.trust().version == 1
    found = [
        Deployment.decode(verify(envelope, DEPLOYMENT, bench.home.trust()))
        for envelope in retained(bench, bench.home.topics.deployment("+")).values()
    ]
    assert {one.id: one.aborted for one in found} == dict(
        zip(made, (True, False, False), strict=True)
    )


def test_a_home_with_an_old_trust_file_makes_no_second_version(
    bench: Bench, tmp_path: Path
) -> None:
    shutil.copytree(bench.home.folder, tmp_path / "old")
    old = dataclasses.replace(bench.home, folder=tmp_path / "old")
    bench.ctl("keys", "rotate", "controller", "--yes")
    published = retained(bench, bench.home.topics.keys("+"))
    said = Bench(old, bench.broker_url).ctl("keys", "rotate", "release", "--yes", code=2)
    assert "cannot publish key set 1: the fleet has version 1 already" in said.stderr
    assert retained(bench, bench.home.topics.keys("+")) == published
    assert old.trust() == bench.home.trust(), "it has followed"
    assert key_paths(old, "release") == [old.keys_dir / "release.key"]


def test_what_a_stolen_key_has_signed_is_not_signed_anew_by_oversight(
    bench: Bench, tmp_path: Path
) -> None:
    bench.shelve()
    bench.ctl("deploy", "digits@1", "--detach", "-l", "nobody=here")
    theirs = second_key(bench, tmp_path)
    before = retained(bench, bench.home.topics.deployment("+"))
    file = tmp_path / "keys.json"
    mine = load_signer(bench.home, "release").key_id
    for change in (("remove", mine), ("rotate", "release")):
        said = bench.ctl("keys", *change, "--sign-only", str(file), "--no-resign", code=2)
        assert "ctl publish FILE --no-resign" in "".join(said.stderr.split("\n")).replace("│ │", "")
    assert len(key_paths(bench.home, "release")) == 1
    bench.ctl("--key", str(theirs), "keys", "remove", mine, "--sign-only", str(file))
    with_key = ("--key", str(theirs))
    said = bench.ctl(*with_key, "publish", str(file), "--no-resign", "--yes")
    assert "counts for nothing after this" in said.stderr
    assert bench.home.trust().version == 2
    assert retained(bench, bench.home.topics.deployment("+")) == before


def test_a_deployment_that_was_overtaken_is_not_published(bench: Bench, tmp_path: Path) -> None:
    bench.shelve()
    bench.shelve(name="huge", pieces=HUGE)
    files = [tmp_path / name for name in ("a.json", "b.json", "huge.json")]
    for file, name in zip(files, ("digits", "digits", "huge"), strict=True):
        bench.ctl("deploy", name, "--sign-only", str(file))
    bench.ctl("publish", str(files[0]), "--no-resign", code=2)
    bench.ctl("publish", str(files[0]))
    bench.ctl("publish", str(files[0]))  # nothing has changed: it may be tried again
    said = bench.ctl("publish", str(files[1]), code=2)
    assert "it was superseded meanwhile, by digits-v1-" in said.stderr
    (made,) = bench.ctl_json("deployment", "ls")
    bench.ctl("deployment", "abort", made["deployment"]["id"])
    said = bench.ctl("publish", str(files[0]), code=2)
    assert "it was aborted meanwhile; deploy anew" in said.stderr
    with bench.fleet(bench.device("pi-1", memory_mib=1024.0)):
        said = bench.ctl("publish", str(files[2]), code=2)
    assert "cannot run huge@1 on pi-1" in said.stderr
    assert len(retained(bench, bench.home.topics.deployment("+"))) == 1


def test_all_that_is_signed_is_shown(bench: Bench, tmp_path: Path) -> None:
    bench.shelve()
    file, url = tmp_path / "deployment.json", "https://cdn.example/models"
    options = ("--url", url, "--soak", "30m", "--goal", "energy", "--variant", "large=fp32")
    device = bench.device("pi-1", labels={"room": "hall"})
    with bench.fleet(device):
        bench.ctl("deploy", "digits", "pi-1", "-l", "room=hall", *options, "--sign-only", str(file))
    said = bench.ctl("sign", str(file), "--yes").stderr
    assert "to pi-1 with room=hall, by" in said
    for line in (
        f'sources: ["{url}"]',
        'variants: {"large": "fp32"}',
        'strategy: {"soak_s": 1800.0}',
        'wishes: {"goal": "energy"}',
    ):
        assert line in said
    assert "paused" not in said
    one = Deployment.decode(open_unverified(file.read_bytes())[1])
    envelope = sign(one.with_(paused=True, promoted=2), DEPLOYMENT, ()).encode()
    assert {"  paused: true", "  promoted: 2"} <= set(terms(envelope))


def test_without_a_yes_nothing_changes(bench: Bench) -> None:
    said = bench.ctl("keys", "rotate", "controller", code=1)
    assert "Nothing was changed" in said.stderr
    assert {path.name for path in bench.home.keys_dir.iterdir()} == {
        "release.key",
        "controller.key",
    }
    assert bench.home.trust().version == 0
    assert retained(bench, bench.home.topics.keys("+")) == {}


@pytest.mark.parametrize("public", ["", "abc", "A" * 43, "A" * 44 + "="])
def test_what_is_no_public_key_is_refused(bench: Bench, public: str) -> None:
    bench.ctl("keys", "add", "release", public, "--yes", code=2)


def test_a_key_that_others_may_read_is_refused(bench: Bench, tmp_path: Path) -> None:
    theirs = second_key(bench, tmp_path)
    theirs.chmod(0o644)
    said = bench.ctl("--key", str(theirs), "keys", "threshold", "release", "2", "--yes", code=1)
    assert "mode 0644, want 0600" in said.stderr


def test_the_trail_lists_who_when_what_newest_first(bench: Bench) -> None:
    bench.shelve()
    with bench.fleet(bench.device("pi-1")):
        bench.ctl("deploy", "digits@1", "--timeout", "20s")
        bench.ctl("threads", "pi-1", "digits/large", "2")
        bench.ctl("unpin", "pi-1")
    entries = bench.ctl_json("audit")
    assert [entry["act"] for entry in entries] == ["pinned", "pinned", "deployed"]
    assert {entry["by"] for entry in entries} == {entries[0]["by"]}
    assert "@" in entries[0]["by"]
    assert entries[0]["ts"] > entries[2]["ts"]
    assert [e["act"] for e in bench.ctl_json("audit", "--device", "pi-1")] == ["pinned"] * 2
    assert [e["act"] for e in bench.ctl_json("audit", "--act", "deployed")] == ["deployed"]
    assert bench.ctl_json("audit", "--since", "1ms") == []
    table = bench.ctl("audit").stdout
    assert "digits/large 2 threads" in table
    lines = bench.home.audit_file.read_text().splitlines()
    assert len(lines) == 3


def test_who_controls_clears_the_oldest_entries(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.session.LOOK_EVERY_S", 0.1)
    monkeypatch.setattr("controller.audit.KEPT", 20)
    topics = bench.home.topics
    ids = [f"{number:013d}-a" for number in range(25)]
    link = Link(bench.home.broker, f"{bench.home.fleet}-writer", lambda *_: None)
    link.start()
    for one in (*ids, "-x"):
        link.publish_and_wait(topics.audit(one), b"{}", retain=True)
    link.stop()
    left = {topics.audit(one) for one in ids[5:]}
    with Session(bench.home, "deploy") as session:
        assert session.wait(lambda _: set(retained(bench, topics.audit("+"))) == left, 20)


def test_forged_entries_are_told_and_not_listed(bench: Bench) -> None:
    bench.shelve()
    bench.ctl("deploy", "digits@1", "--detach", "-l", "nobody=here", code=0)
    made = new_entry(
        bench.home.fleet, "pinned", "pi", "x", by="mallory", key_id="0" * 16, now_s=2e9
    )
    envelope = load_signer(bench.home, "release").sign_entry(made)
    link = Link(bench.home.broker, f"{bench.home.fleet}-mallory", lambda *_: None)
    link.start()
    link.publish_and_wait(bench.home.topics.audit(made.id), envelope, retain=True)
    for name in ("zz", "-x"):
        link.publish_and_wait(bench.home.topics.audit(name), b"{}", retain=True)
    link.stop()
    found = bench.ctl("audit", "-o", "json")
    assert "mallory" not in found.stdout
    assert "it names key" in found.stderr
    assert "Skipped 1 message on topics that can be of no entry" in found.stderr
    assert "deployed" in found.stdout


def test_no_key_shows_in_a_process_list_or_a_log(bench: Bench) -> None:
    private = key_path(bench.home, "release").read_text().strip()
    process = bench.start("--debug", "serve")
    try:
        with Session(bench.home) as session:
            assert session.wait(lambda fleet: fleet.alive("serve"), 20)
        line = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        environ = Path(f"/proc/{process.pid}/environ").read_bytes()
        assert private.encode() not in line + environ
    finally:
        process.terminate()
        out, err = process.communicate(timeout=20)
    assert private not in out + err
