"""Sessions on real brokers, with a scripted fleet that fetches and checks what it is given."""

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.broker import EmbeddedBroker, find_mosquitto, start_broker
from controller.deployments import abort_steps, create_deployment, deployment_steps, pinned
from controller.errors import HomeError
from controller.fleet import Fleet
from controller.home import Home
from controller.planner import PlannerPolicy
from controller.progress import outcome, progress
from controller.serve import serve
from controller.session import Session
from controller.signing import key_path, load_signer
from controller.steps import PutPins
from protocols.bundle import Bundle, BundleRef
from protocols.chunks import with_lists
from protocols.desired import Deployment, DesiredCascade, StagePin
from protocols.device import Rungs, Sample
from protocols.envelope import Envelope, KeySet
from protocols.errors import LinkError, SluiceError
from protocols.link import Link
from protocols.pull import Puller
from tests.brokers import running_broker
from tests.controller.cascades import Piece, make_bundle, shelve
from tests.controller.conftest import FLEET, new_home
from tests.fleet import Device, Script
from tests.fleet import Fleet as Scripted

BUNDLE = make_bundle()
QUICK = PlannerPolicy(revise_after_s=0.5, restore_after_s=3600)


def scripted(home: Home, *names: str, script: Script = Script(), **more: object) -> Scripted:  # noqa: B008
    devices = [
        Device(name, home.topics, trust=home.trust(), script=script, **more)  # type: ignore[arg-type]
        for name in names
    ]
    return Scripted(home.broker, *devices)


def deploy(session: Session, ref: BundleRef, bundle: Bundle, nonce: str = "a") -> Deployment:
    made = create_deployment(session.fleet, ref, bundle, nonce=nonce, now_s=time.time())
    session.execute(deployment_steps(made, bundle))
    return made


def wait_done(session: Session, made: Deployment, bundle: Bundle = BUNDLE, code: int = 0) -> None:
    def settled(fleet: Fleet) -> bool:
        found = outcome(progress(made, fleet, bundle))
        return found.settled and found.exit_code == code and made.id in fleet.deployments

    if not session.wait(settled, 20):
        raise AssertionError(progress(made, session.fleet, bundle))


def wait(session: Session, look: Callable[[Fleet], object], timeout_s: float = 20.0) -> None:
    assert session.wait(lambda fleet: look(fleet) or None, timeout_s), session.fleet


def known(*names: str) -> Callable[[Fleet], object]:
    return lambda fleet: all(
        name in fleet.devices and fleet.devices[name].inventory and fleet.devices[name].online
        for name in names
    )


def test_a_deploy_without_a_server_controls_while_it_watches(home: Home) -> None:
    ref = shelve(home, BUNDLE)
    with scripted(home, "a", "b"), Session(home, "deploy") as session:
        wait(session, known("a", "b"))
        assert session.acting

        made = deploy(session, ref, BUNDLE)

        wait_done(session, made)
        seen, count = session.wait_events(0, 5)
        assert count >= 2
        planned = [event for event in seen if event.kind == "planned"]
        assert {event.source for event in planned} == {session.name}
        assert all("digits@1 is deployed" in event.message for event in planned)
    with Session(home) as later:
        assert later.fleet.controllers == {}, "a deploy leaves no trace"
        assert later.fleet.devices["a"].desired is not None


def test_serve_plans_and_deploy_only_watches(home: Home) -> None:
    ref = shelve(home, BUNDLE)
    with (
        scripted(home, "a"),
        Session(home, "serve") as server,
        Session(home, "deploy") as session,
    ):
        wait(session, lambda fleet: fleet.alive("serve") == [server.name])
        wait(session, known("a"))
        assert not session.acting

        made = deploy(session, ref, BUNDLE)

        wait_done(session, made)
        assert session.fleet.alive("deploy") == []


def test_a_server_that_has_no_catalog_pulls_the_bundle(home: Home, tmp_path: Path) -> None:
    ref = shelve(home, BUNDLE)
    elsewhere = copy_of(home, tmp_path / "server")
    key_path(home, "controller").unlink()
    with (
        scripted(home, "a"),
        Session(elsewhere, "serve", name="server"),
        Session(home, "deploy") as session,
    ):
        wait(session, known("a"))
        made = deploy(session, ref, BUNDLE)
        wait_done(session, made)
    assert elsewhere.artifact_path(ref.artifact.sha256).is_file()


def copy_of(home: Home, folder: Path) -> Home:
    """Return another home of the same fleet, with the controller key alone."""
    made = Home.open(folder, broker=home.broker.url, fleet=FLEET, environ={})
    made.keys_dir.mkdir(parents=True)
    made.trust_file.write_bytes(home.trust_file.read_bytes())
    path = key_path(made, "controller")
    path.touch(0o600)
    path.write_bytes(key_path(home, "controller").read_bytes())
    return made


def test_a_server_that_restarts_in_the_middle_completes(home: Home) -> None:
    ref = shelve(home, BUNDLE)
    key_path(home, "controller").rename(home.folder / "aside")
    with Session(home, "deploy") as session:
        made = deploy(session, ref, BUNDLE)
    (home.folder / "aside").rename(key_path(home, "controller"))

    with scripted(home, "a", "b"), Session(home) as watch:
        with Session(home, "serve"):
            wait(watch, lambda fleet: any(d.desired for d in fleet.devices.values()))
        with Session(home, "serve"):
            wait_done(watch, made)
        assert {d.desired.generation for d in watch.fleet.selected() if d.desired} == {1}


def test_abort_and_pins_reach_the_devices(home: Home) -> None:
    first, second = shelve(home, BUNDLE), make_bundle(version=2)
    second_ref = shelve(home, second)
    with scripted(home, "a"), Session(home, "deploy") as session:
        wait(session, known("a"))
        wait_done(session, deploy(session, first, BUNDLE))
        made = deploy(session, second_ref, second, "b")
        wait_done(session, made, second)

        pins = pinned(session.fleet, "a", [StagePin(cascade="digits", stage="large", loaded=False)])
        session.execute([PutPins(pins)])
        wait(session, lambda fleet: loaded(fleet, "a") == {"small"})

        session.execute(abort_steps(session.fleet, made.id, session.bundles))
        wait(session, lambda fleet: running_version(fleet, "a") == 1)


def loaded(fleet: Fleet, name: str) -> set[str]:
    reported = fleet.devices[name].reported
    return {
        stage.name
        for cascade in (reported.cascades if reported else ())
        for stage in cascade.stages
        if stage.state == "loaded"
    }


def running_version(fleet: Fleet, name: str) -> int | None:
    reported = fleet.devices[name].reported
    for cascade in reported.cascades if reported else ():
        if cascade.running is not None and cascade.phase == "running":
            return cascade.running.version
    return None


def test_what_cannot_fit_is_said_once_and_sends_nothing(home: Home) -> None:
    huge = make_bundle((Piece("only", [("fp32", 90_000.0)]),))
    ref = shelve(home, huge)
    with scripted(home, "a"), Session(home, "deploy") as session:
        wait(session, known("a"))
        made = deploy(session, ref, huge)
        wait_done(session, made, huge, code=2)
        seen, _ = session.wait_events(0, 10)

        assert session.fleet.devices["a"].desired is None
        assert [event.kind for event in seen if event.source == session.name] == ["refused"]


def test_lasting_pressure_is_answered(home: Home) -> None:
    ref = shelve(home, BUNDLE)
    with scripted(home, "a") as devices, Session(home, "deploy", policy=QUICK) as session:
        wait(session, known("a"))
        wait_done(session, deploy(session, ref, BUNDLE))

        devices.devices["a"].rungs = Rungs(residency=2)

        wait(session, lambda fleet: "memory short" in _reason(fleet, "a"))
        wait(session, lambda fleet: _desired_cascade(fleet, "a").dropped == ("large",))


def _reason(fleet: Fleet, name: str) -> str:
    desired = fleet.devices[name].desired
    return desired.reason if desired is not None else ""


def _desired_cascade(fleet: Fleet, name: str) -> DesiredCascade:
    desired = fleet.devices[name].desired
    assert desired is not None
    return desired.cascades[0]


def test_two_servers_share_the_devices_and_each_has_one_writer(home: Home, tmp_path: Path) -> None:
    """Each server has a controller key of its own, so that every document says who wrote it."""
    other = second_controller(home, tmp_path / "other")
    names = [f"pi-{n}" for n in range(12)]
    writers: dict[str, set[str]] = {name: set() for name in names}
    ref = shelve(home, BUNDLE)

    def written(topic: str, payload: bytes, _retained: bool) -> None:  # noqa: FBT001
        name = home.topics.parse(topic).name
        writers[name].add(Envelope.decode(payload).signatures[0].keyid)

    spy = Link(home.broker, "spy", written)
    spy.subscribe(home.topics.device("+", "desired"))
    spy.start()
    with (
        Session(home, "serve", name="one") as one,
        Session(other, "serve", name="two") as two,
        scripted(home, *names),
        Session(home, "deploy") as session,
    ):
        for each in (one, two, session):
            wait(each, lambda fleet: fleet.alive("serve") == ["one", "two"])
        wait(session, known(*names))
        wait_done(session, deploy(session, ref, BUNDLE))
    spy.stop()
    ids = {load_signer(home, "controller").key_id, load_signer(other, "controller").key_id}
    assert all(len(found) == 1 for found in writers.values()), writers
    assert set.union(*writers.values()) == ids, "both take part"


def second_controller(home: Home, folder: Path) -> Home:
    """Make a home with another controller key, and let both homes trust both."""
    other = new_home(folder, home.broker.url)
    mine, theirs = home.trust(), other.trust()
    both = KeySet(fleet=FLEET, keys=(*mine.keys, *theirs.keys))
    for each in (home, other):
        each.trust_file.write_bytes(both.encode())
    return other


def test_when_a_server_goes_the_other_takes_over(home: Home, tmp_path: Path) -> None:
    other = second_controller(home, tmp_path / "other")
    ref = shelve(home, BUNDLE)
    names = ("a", "b", "c", "d")
    with ExitStack() as stack:
        one = Session(home, "serve", name="one")
        stack.enter_context(one)
        two = stack.enter_context(Session(other, "serve", name="two"))
        wait(two, lambda fleet: fleet.alive("serve") == ["one", "two"])
        one.close()
        wait(two, lambda fleet: fleet.alive("serve") == ["two"])
        stack.enter_context(scripted(home, *names))
        session = stack.enter_context(Session(home, "deploy"))
        wait(session, known(*names))
        wait_done(session, deploy(session, ref, BUNDLE))
        stack.pop_all().close()


def test_lost_chunks_are_put_out_again(home: Home) -> None:
    ref = shelve(home, BUNDLE)
    lost = BUNDLE.stages[0].variants[0].artifact
    link = Link(home.broker, "eraser", lambda *_: None)
    link.start()
    with Session(home, "deploy") as session:
        made = deploy(session, ref, BUNDLE)
    link.publish_and_wait(home.topics.chunk(lost.sha256, 0), b"", retain=True)
    link.stop()
    with Session(home, "serve") as server:
        wait(server, lambda fleet: made.id in fleet.deployments)
        server.repair(ref, server.bundles[ref.artifact.sha256])
        with scripted(home, "a"):
            wait_done(server, made)


def test_artifacts_that_are_there_are_not_sent_again(home: Home) -> None:
    ref = shelve(home, BUNDLE)
    with Session(home, "deploy") as session:
        made = create_deployment(session.fleet, ref, BUNDLE, nonce="a", now_s=1.0)
        steps = deployment_steps(made, BUNDLE)
        sent: list[int] = []
        session.execute(steps, sent.append)
        session.execute(steps, sent.append)

    total = sum(a.size_bytes for a in with_lists((*BUNDLE.artifacts, ref.artifact)))
    assert sum(sent) == 2 * total
    assert sent[-1] == total, "the second time in one word"


def test_what_no_deployment_needs_any_more_leaves_the_broker(home: Home) -> None:
    newer = make_bundle(version=2)
    first, second = shelve(home, BUNDLE), shelve(home, newer)
    models = [variant.artifact for stage in BUNDLE.stages for variant in stage.variants]
    kept = newer.stages[1].variants[0].artifact
    places = [(ref.sha256, 0) for ref in (*models, first.artifact, kept)]
    with Session(home, "serve") as server, scripted(home, "a"):
        wait(server, known("a"))
        wait_done(server, deploy(server, first, BUNDLE))
        made = deploy(server, second, newer, "b")
        wait_done(server, made, newer)
        server._clear_unneeded()
        with Puller(home.broker, home.topics, "reader") as puller:
            assert len(puller.look(places, 0.5)) == len(places), "not at the first look"
            server._clear_unneeded()
            time.sleep(0.3)
            assert puller.look(places, 0.5).keys() == {first.artifact.sha256, kept.sha256}
        wait_done(server, deploy(server, first, BUNDLE, "c"))


def test_a_broker_that_is_not_there_is_said(tmp_path: Path) -> None:
    home = new_home(tmp_path)

    with pytest.raises(LinkError, match=r"cannot reach broker mqtt://127\.0\.0\.1:1:"):
        Session(home, connect_timeout_s=0.2).open()


@pytest.mark.skipif(find_mosquitto() is None, reason="only mosquitto can refuse a client")
def test_a_broker_that_refuses_us_is_said_at_once(tmp_path: Path) -> None:
    home = new_home(tmp_path)
    with running_broker(tmp_path, kind="mosquitto", more="allow_anonymous false\n") as url:
        refused = Home.open(home.folder, broker=url, fleet=home.fleet, environ={})
        why = r"cannot use broker .*: Not authorized; check username and password_file in .*toml"
        with pytest.raises(LinkError, match=why):
            Session(refused, connect_timeout_s=60.0).open()


def test_who_serves_needs_the_key_and_who_watches_needs_nothing(home: Home, tmp_path: Path) -> None:
    bare = Home.open(tmp_path / "bare", broker=home.broker.url, fleet=FLEET, environ={})
    with Session(bare) as session:
        assert session.fleet.devices == {}
    with pytest.raises(HomeError, match=r"trust\.json"):
        Session(bare, "deploy")
    key_path(home, "controller").chmod(0o644)
    with pytest.raises(HomeError, match="mode 0644"):
        Session(home, "serve").open()
    with Session(home, "deploy") as session:
        assert not session.acting


def test_serve_ends_when_told_and_holds_its_name(home: Home) -> None:
    stop, ready = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: serve(home, QUICK, stop, ready=lambda _: ready.set()))
    thread.start()
    assert ready.wait(10)

    with pytest.raises(HomeError, match="cannot serve as"):
        serve(home)
    with Session(home) as session:
        wait(session, lambda fleet: fleet.alive("serve"))
        stop.set()
        thread.join(10)
        wait(session, lambda fleet: not fleet.alive("serve"))
    assert not thread.is_alive()


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    if find_mosquitto() is None:
        pytest.skip("mosquitto is not installed")
    broker = start_broker(tmp_path / "broker", kind="mosquitto")
    yield broker
    broker.stop()


def test_a_broker_that_is_killed_and_comes_back(mosquitto: EmbeddedBroker, tmp_path: Path) -> None:
    home = new_home(tmp_path / "home", mosquitto.url)
    ref = shelve(home, BUNDLE)
    with Session(home, "serve") as server:
        mosquitto.process.kill()
        mosquitto.process.wait()
        assert server.wait(lambda _: not server.connected, 10)
        again = start_broker(tmp_path / "broker", port=mosquitto.port, kind="mosquitto")
        mosquitto.process = again.process
        assert server.wait(lambda _: server.connected, 20)
        with scripted(home, "a"), Session(home, "deploy") as session:
            wait(session, known("a"))
            wait_done(session, deploy(session, ref, BUNDLE))


# Whatever comes on whatever topic.

MALFORMED = 2000


def test_two_thousand_malformed_payloads_change_nothing(
    one_home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    home = one_home
    ref = shelve(home, BUNDLE)
    with scripted(home, "a"), Session(home, "serve") as server:
        with Session(home, "deploy") as session:
            wait(session, known("a"))
            wait_done(session, deploy(session, ref, BUNDLE))
        vandal = Link(home.broker, "vandal", lambda *_: None)
        vandal.start()
        before = server.fleet
        for topic, payload in malformed(home, before):
            vandal.publish(topic, payload)
        vandal.publish_and_wait(home.topics.device("b", "status"), b"{}")

        with Session(home, "deploy") as session:
            second = make_bundle(version=2)
            made = deploy(session, shelve(home, second), second, "b")
            wait_done(session, made, second)
        vandal.stop()
        assert not [record for record in caplog.records if record.levelname == "ERROR"]
        assert set(server.fleet.devices) == {"a"}
        assert server.fleet.devices["a"].inventory == before.devices["a"].inventory


def malformed(home: Home, fleet: Fleet) -> list[tuple[str, bytes]]:
    """Return payloads drawn by hypothesis: bytes, and valid documents that were damaged."""
    valid = valid_documents(home, fleet)
    drawn: list[tuple[str, bytes]] = []

    @settings(
        max_examples=MALFORMED,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(topic=st.sampled_from(sorted(valid)), data=st.data())
    def draw(topic: str, data: st.DataObject) -> None:
        whole = valid[topic]
        at = data.draw(st.integers(0, len(whole) - 1))
        damaged = whole[:at] + data.draw(st.binary(max_size=4)) + whole[at + 2 :]
        truncated, junk = whole[:at], data.draw(st.binary(min_size=1, max_size=200))
        payload = data.draw(st.sampled_from([damaged, truncated or b"{", junk]))
        if payload != whole and not _is_valid(fleet, topic, payload):
            drawn.append((topic, payload))

    while len(drawn) < MALFORMED:
        draw()
    return drawn


def _is_valid(fleet: Fleet, topic: str, payload: bytes) -> bool:
    try:
        fleet.copy().fold(topic, payload, 0.0)
    except SluiceError:
        return False
    return True


def valid_documents(home: Home, fleet: Fleet) -> dict[str, bytes]:
    device = fleet.devices["a"]
    assert device.status
    assert device.inventory
    assert device.reported
    assert device.desired
    topics, (made,) = home.topics, fleet.deployments.values()
    controller = next(iter(fleet.controllers.values()))
    fake = Device("a", topics, sample=Sample(time_s=1.0))
    return {
        topics.device("a", "status"): device.status.encode(),
        topics.device("a", "inventory"): device.inventory.encode(),
        topics.device("a", "reported"): device.reported.encode(),
        topics.device("a", "telemetry"): fake.telemetry()[1],
        topics.device("a", "events"): fake.event("loaded", "loaded")[1],
        topics.device("a", "desired"): load_signer(home, "controller").sign_desired(device.desired),
        topics.device("a", "pins"): load_signer(home, "release").sign_pins(pinned(fleet, "a", [])),
        topics.deployment(made.id): load_signer(home, "release").sign_deployment(made),
        topics.controller(controller.controller): controller.encode(),
    }


def test_documents_are_written_anew_before_they_expire(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.session.LOOK_EVERY_S", 0.1)
    ref = shelve(home, BUNDLE)
    brief = dataclasses.replace(home, expire_after_s=2.0)
    with scripted(home, "a"), Session(brief, "deploy") as session:
        wait(session, known("a"))
        wait_done(session, deploy(session, ref, BUNDLE))
        first = session.fleet.device("a").desired
        assert first is not None
        assert first.expires_ts is not None
        assert first.expires_ts - first.ts == pytest.approx(2.0)

        def renewed(fleet: Fleet) -> bool:
            desired = fleet.device("a").desired
            return desired is not None and desired.generation >= first.generation + 2

        wait(session, renewed)
