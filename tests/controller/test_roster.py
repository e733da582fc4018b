"""Who belongs to the fleet, and what follows from it."""

import pytest

from controller import roster
from controller.errors import EnrolmentError
from controller.fleet import Fleet
from controller.planner import plan
from controller.steps import NotPlanned, PutDesired
from protocols.desired import Desired
from protocols.enrolment import Enrolment, enrolment_of
from protocols.envelope import generate_key, public_key
from protocols.errors import MessageError, TrustError
from protocols.roster import Credential, RosterEntry
from tests.controller.world import (
    CONTROLLER,
    KEYS,
    ME,
    NOW_S,
    RELEASE,
    TOPICS,
    apply,
    controller,
    desired,
    fleet,
    inventory,
    status,
)

CERTIFICATE = Credential(kind="certificate")
FIRST, SECOND = (enrolment_of("a" * 32, f"machine {n}") for n in (1, 2))
ANOTHER_FILE = enrolment_of("b" * 32, "machine 1")
UNKNOWABLE = enrolment_of("a" * 32, None)


def put(found: Fleet, entry: RosterEntry) -> None:
    found.fold(TOPICS.roster(entry.device), RELEASE.sign_roster(entry), NOW_S)


def see(found: Fleet, name: str = "pi", enrolment: Enrolment | None = FIRST) -> None:
    """Let a device say what it is."""
    found.fold(TOPICS.device(name, "status"), status(name).encode(), NOW_S)
    said = inventory(name).with_(enrolment=enrolment)
    found.fold(TOPICS.device(name, "inventory"), said.encode(), NOW_S)


def add(found: Fleet, name: str = "pi", digest: str = FIRST.file) -> None:
    put(found, roster.add(found, name, digest, CERTIFICATE, by="ann", now_s=NOW_S))


def standing(found: Fleet, name: str = "pi") -> str:
    return found.device(name).standing


def planned(found: Fleet) -> list[Desired]:
    return apply(found, plan(found, {}, NOW_S, ME))


def test_a_fleet_without_a_roster_is_open() -> None:
    found = fleet()
    see(found)
    assert standing(found) == "open"
    assert planned(found) == [], "nothing is deployed, and nobody has to be told apart"


def test_the_first_entry_closes_it_and_the_last_to_go_opens_it() -> None:
    found = fleet()
    see(found, "old", None)
    add(found)
    assert (standing(found, "old"), roster.pending(found)) == ("pending", ["old"])
    assert [d.name for d in roster.unseen(found)] == ["pi"]
    found.fold(TOPICS.roster("pi"), b"", NOW_S)
    assert (standing(found, "old"), found.roster) == ("open", {})


def test_the_first_machine_is_remembered_and_a_copy_is_not_planned_for() -> None:
    found = fleet()
    add(found)
    see(found)
    assert standing(found) == "accepted"
    (told,) = planned(found)
    assert (told.enrolment, told.cascades) == (FIRST, ())
    assert planned(found) == [], "once"
    see(found, enrolment=SECOND)
    assert standing(found) == "stranger"
    (step,) = plan(found, {}, NOW_S, ME)
    assert isinstance(step, NotPlanned)
    assert step.message.startswith("cannot plan for pi: another machine")
    see(found)
    assert standing(found) == "accepted"
    assert found.rivals == {"pi"}, "that there is another one is not forgotten"
    assert plan(found, {}, NOW_S, ME) == []


@pytest.mark.parametrize("said", [None, ANOTHER_FILE])
def test_without_its_file_a_device_is_not_the_one(said: Enrolment | None) -> None:
    found = fleet()
    add(found)
    see(found, enrolment=said)
    assert standing(found) == "stranger"
    assert not any(isinstance(s, PutDesired) for s in plan(found, {}, NOW_S, ME))


def test_a_machine_without_a_number_is_the_one_until_another_has_one() -> None:
    found = fleet()
    add(found)
    see(found, enrolment=UNKNOWABLE)
    assert standing(found) == "accepted"
    planned(found)
    see(found, enrolment=UNKNOWABLE)
    assert standing(found) == "accepted", "a copy there cannot be told apart"


def test_a_person_may_accept_the_new_machine() -> None:
    found = fleet()
    add(found)
    see(found)
    planned(found)
    see(found, enrolment=SECOND)
    (entry,) = roster.accept(found, ["pi"], by="ann", now_s=NOW_S)
    assert (entry.generation, entry.state, entry.machine) == (2, "accepted", SECOND.machine)
    put(found, entry)
    assert (standing(found), found.rivals) == ("accepted", set())
    (told,) = planned(found)
    assert told.enrolment == SECOND
    see(found)
    assert standing(found) == "stranger", "the first machine is the stranger now"


def test_a_device_that_came_by_itself_is_accepted_by_name() -> None:
    found = fleet()
    add(found)
    see(found, "old", None)
    (entry,) = roster.accept(found, roster.pending(found), by="ann", now_s=NOW_S)
    put(found, entry)
    assert standing(found, "old") == "accepted"
    assert [d.name for d in roster.members(found)] == ["old"]


def test_a_revoked_device_is_planned_for_never_again() -> None:
    found = fleet()
    add(found)
    see(found)
    planned(found)
    put(found, roster.revoke(found, "pi", by="ann", now_s=NOW_S))
    assert standing(found) == "revoked"
    assert not found.device("pi").online, "its last words do not come through"
    assert plan(found, {}, NOW_S, ME) == []
    with pytest.raises(EnrolmentError, match="it was revoked"):
        roster.accept(found, ["pi"], by="", now_s=0)
    with pytest.raises(EnrolmentError, match="it was revoked"):
        roster.rotate(found, "pi", ANOTHER_FILE.file, CERTIFICATE, by="", now_s=0)
    add(found, digest=ANOTHER_FILE.file)
    assert found.roster["pi"].generation == 3
    assert standing(found) == "stranger", "what it came by before is worth nothing"
    see(found, enrolment=ANOTHER_FILE)
    assert standing(found) == "accepted"


def test_a_rotation_lets_the_old_file_be_good_until_it_is_finished() -> None:
    found = fleet()
    add(found)
    see(found)
    planned(found)
    new = ANOTHER_FILE.file
    put(found, roster.rotate(found, "pi", new, CERTIFICATE, by="ann", now_s=NOW_S))
    assert (standing(found), roster.unfinished(found)) == ("accepted", ["pi"])
    assert roster.rotated(found, "pi", by="ann", now_s=NOW_S) is None, "not seen yet"
    see(found, enrolment=SECOND)
    assert standing(found) == "stranger", "the old file still belongs to the first machine"
    see(found, enrolment=ANOTHER_FILE)
    assert standing(found) == "accepted"
    assert planned(found)[0].enrolment == ANOTHER_FILE
    with pytest.raises(EnrolmentError, match="--finish"):
        roster.rotate(found, "pi", "c" * 64, CERTIFICATE, by="", now_s=0)
    entry = roster.rotated(found, "pi", by="ann", now_s=NOW_S)
    assert entry is not None
    put(found, entry)
    assert roster.unfinished(found) == []
    see(found)
    assert standing(found) == "stranger", "the old file is not good any more"
    with pytest.raises(EnrolmentError, match="no new enrolment file"):
        roster.rotated(found, "pi", by="", now_s=0)


def test_a_second_file_before_the_first_was_used_replaces_it() -> None:
    found = fleet()
    add(found)
    see(found)
    for digest in ("c" * 64, ANOTHER_FILE.file):
        put(found, roster.rotate(found, "pi", digest, CERTIFICATE, by="", now_s=NOW_S))
    assert found.roster["pi"].replaces == FIRST.file
    assert standing(found) == "accepted"


def test_what_cannot_be_done_says_why() -> None:
    found = fleet()
    add(found)
    with pytest.raises(EnrolmentError, match=r"^cannot add pi: it is on the roster"):
        add(found)
    with pytest.raises(EnrolmentError, match=r"^cannot accept pi: it has not been seen"):
        roster.accept(found, ["pi"], by="", now_s=0)
    with pytest.raises(EnrolmentError, match=r"^cannot revoke nobody: no such device"):
        roster.revoke(found, "nobody", by="", now_s=0)
    with pytest.raises(EnrolmentError, match=r"^cannot rotate nobody: it is not on the roster"):
        roster.rotate(found, "nobody", "c" * 64, CERTIFICATE, by="", now_s=0)


def test_only_a_release_key_says_who_belongs() -> None:
    found = fleet()
    entry = roster.add(found, "pi", FIRST.file, CERTIFICATE, by="", now_s=0)
    with pytest.raises(TrustError):
        found.fold(TOPICS.roster("pi"), CONTROLLER.sign_desired(desired()), NOW_S)
    with pytest.raises(MessageError, match="in place of 'other'"):
        found.fold(TOPICS.roster("other"), RELEASE.sign_roster(entry), NOW_S)
    with pytest.raises(MessageError, match="fleet 'elsewhere'"):
        put(found, entry.with_(fleet="elsewhere"))
    assert found.roster == {}


def test_a_key_that_is_taken_away_opens_no_fleet() -> None:
    """Entries that only former keys have signed make nobody a member, and the fleet not open."""
    found = fleet()
    entry = roster.add(found, "pi", FIRST.file, CERTIFICATE, by="", now_s=0)
    envelope = RELEASE.sign_roster(entry)
    other = public_key(generate_key(), "release")
    later = KEYS.with_(version=1, keys=(other, CONTROLLER.public), former=(RELEASE.public,))
    after = Fleet(TOPICS, later, controllers={ME: controller()})
    see(after)
    assert standing(after) == "open"
    for topic in ("pi", "another"):
        with pytest.raises(TrustError):
            after.fold(TOPICS.roster(topic), envelope, NOW_S)
    assert (after.closed, after.roster, standing(after)) == (True, {}, "pending")
    assert plan(after, {}, NOW_S, ME) == []
    for topic in ("pi", "another"):
        after.fold(TOPICS.roster(topic), b"", NOW_S)
    assert (after.closed, standing(after)) == (False, "open")
    stranger = Fleet(TOPICS, KEYS.with_(keys=(other, CONTROLLER.public)))
    with pytest.raises(TrustError):
        stranger.fold(TOPICS.roster("pi"), envelope, NOW_S)
    assert not stranger.closed, "whom nobody ever trusted closes nothing"


def test_an_older_word_changes_nothing() -> None:
    found = fleet()
    add(found)
    first = found.roster["pi"]
    put(found, roster.revoke(found, "pi", by="", now_s=NOW_S))
    put(found, first)
    assert found.roster["pi"].state == "revoked"


def test_a_copy_of_a_fleet_is_its_own() -> None:
    found = fleet()
    add(found)
    copied = found.copy()
    see(found, enrolment=None)
    put(found, roster.revoke(found, "pi", by="", now_s=NOW_S))
    assert (copied.roster["pi"].state, copied.rivals) == ("added", set())
    assert controller().rivals == ()
