"""Certificates say who they are for, and for what; OpenSSL and mosquitto judge them elsewhere."""

import pytest
from cryptography import x509

from controller.enrolment.authority import (
    Issued,
    create_authority,
    ends_ts,
    hosts_of,
    issue_client,
    issue_server,
    read_issued,
    revocation_list,
    revoked_in,
)
from controller.errors import EnrolmentError

NOW_S = 1_800_000_000.0


@pytest.fixture(scope="module")
def authority() -> Issued:
    return create_authority("home", NOW_S)


def test_a_certificate_is_good_before_the_clock_is_set_and_for_years(authority: Issued) -> None:
    device = issue_client(authority, "pi-1", NOW_S)
    found = x509.load_pem_x509_certificate(device.certificate)
    assert found.not_valid_before_utc.year == 2000
    assert ends_ts(device.certificate) == device.not_after_ts > NOW_S + 9 * 365 * 86400
    assert authority.not_after_ts > device.not_after_ts
    assert found.subject.rfc4514_string() == "CN=pi-1"
    found.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.certificate))


def test_the_brokers_certificate_holds_for_names_and_addresses(authority: Issued) -> None:
    hosts = ("broker.lan", "10.0.0.2", "fd00::1", "bücher.example")
    found = hosts_of(issue_server(authority, hosts, NOW_S).certificate)
    assert found == ("broker.lan", "10.0.0.2", "fd00::1", "xn--bcher-kva.example")


@pytest.mark.parametrize("hosts", [(), ("x" * 80,), ("a..b",)])
def test_what_is_no_host_is_refused(authority: Issued, hosts: tuple[str, ...]) -> None:
    with pytest.raises(EnrolmentError, match=r"^cannot make (a|the broker's) certificate"):
        issue_server(authority, hosts, NOW_S)


def test_lists_of_one_second_follow_each_other(authority: Issued) -> None:
    """A broker that runs goes on with the older of two lists that have one time."""
    first, at_s = revocation_list(authority, [], NOW_S, 0.0)
    second, then_s = revocation_list(authority, [7, 5, 7], NOW_S, at_s)
    assert (revoked_in(first), revoked_in(second)) == (set(), {5, 7})
    assert then_s == at_s + 1
    before, after = (x509.load_pem_x509_crl(one).last_update_utc for one in (first, second))
    assert before < after
    assert after.timestamp() < NOW_S, "a broker whose clock is behind must not shut everybody out"


def test_a_list_lasts_as_long_as_the_authority(authority: Issued) -> None:
    content, _ = revocation_list(authority, [], NOW_S, 0.0)
    ends = x509.load_pem_x509_crl(content).next_update_utc
    assert ends is not None
    assert ends.timestamp() == authority.not_after_ts


def test_a_pair_that_is_none_is_refused(authority: Issued) -> None:
    one, two = (issue_client(authority, name, NOW_S) for name in ("a", "b"))
    assert read_issued(one.certificate, one.key).serial == one.serial
    with pytest.raises(EnrolmentError, match="do not belong together"):
        read_issued(one.certificate, two.key)
    with pytest.raises(EnrolmentError, match=r"^cannot read certificate and key"):
        read_issued(one.certificate, b"nothing")
    with pytest.raises(EnrolmentError, match=r"^cannot read the list"):
        revoked_in(b"nothing")


def test_no_key_shows_in_a_repr(authority: Issued) -> None:
    assert authority.key.decode().splitlines()[1] not in repr(authority)
