"""The fleet's certificate authority: keys and certificates as PEM bytes. No I/O, no clock.

EC P-256, since every OpenSSL that a board may have (1.0.2 and newer) and every TLS stack of a
broker takes it; Ed25519 certificates need OpenSSL 1.1.1 on both sides and are refused by some.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from controller.errors import EnrolmentError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

NOT_BEFORE = datetime(2000, 1, 1, tzinfo=UTC)
"""A board without a battery for its clock wakes in the past, and needs the broker all the same."""

AUTHORITY_YEARS = 30
CERTIFICATE_YEARS = 10
"""A device that nobody visits cannot be given another one; what ends a certificate is the CRL."""

_DAYS_A_YEAR = 365.25
_CRL_BACKDATED = timedelta(hours=1)
"""The broker's clock may be behind ours: a list from its future would shut everybody out."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its private key, both PEM. The key never shows in a repr."""

    certificate: bytes
    key: bytes = field(repr=False)
    serial: int
    fingerprint: str
    """SHA-256 of the certificate's DER, in hexadecimal."""
    not_after_ts: float


def create_authority(fleet: str, now_s: float) -> Issued:
    """Return a new certificate authority for a fleet."""
    from cryptography import x509  # noqa: PLC0415

    key = _new_key()
    builder = _builder(f"Sluice fleet {fleet}", f"Sluice fleet {fleet}", now_s, AUTHORITY_YEARS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(authority=True), critical=True)
    return _sign(builder, key, key)


def issue_server(authority: Issued, hosts: Sequence[str], now_s: float) -> Issued:
    """Return a broker's certificate for the names and addresses that devices call it by.

    Raises:
        EnrolmentError: there is no host, or one can stand in no certificate.
    """
    from cryptography import x509  # noqa: PLC0415

    if not hosts:
        raise EnrolmentError("cannot make the broker's certificate: no --host")
    builder = _leaf(authority, "broker", now_s, x509.oid.ExtendedKeyUsageOID.SERVER_AUTH)
    names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
    return _sign(builder.add_extension(names, critical=False), _new_key(), _key_of(authority))


def issue_client(authority: Issued, identity: str, now_s: float) -> Issued:
    """Return the certificate of a device or a person; the broker calls it by its common name."""
    from cryptography import x509  # noqa: PLC0415

    builder = _leaf(authority, identity, now_s, x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH)
    return _sign(builder, _new_key(), _key_of(authority))


def revocation_list(
    authority: Issued, serials: Iterable[int], now_s: float, last_s: float
) -> tuple[bytes, float]:
    """Return the list of revoked certificates as PEM, and its time.

    It ends with the authority: once a list has ended, the broker lets nobody in.

    Args:
        authority: that issued them.
        serials: of the revoked certificates.
        now_s: Unix time in seconds.
        last_s: time of the list before this one, 0 for none. Of two lists with one time, which
            has whole seconds, a broker that runs goes on with the older one.
    """
    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415

    at_s = max(int(now_s), int(last_s) + 1)
    certificate = _certificate_of(authority)
    at = datetime.fromtimestamp(at_s, UTC) - _CRL_BACKDATED
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(certificate.subject)
        .last_update(at)
        .next_update(certificate.not_valid_after_utc)
        .add_extension(x509.CRLNumber(at_s), critical=False)
    )
    for serial in sorted(set(serials)):
        revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(at)
        builder = builder.add_revoked_certificate(revoked.build())
    signed = builder.sign(_key_of(authority), hashes.SHA256())
    return signed.public_bytes(Encoding.PEM), float(at_s)


def revoked_in(revocations: bytes) -> set[int]:
    """Return the serial numbers of a revocation list (PEM).

    Raises:
        EnrolmentError: it is none.
    """
    from cryptography import x509  # noqa: PLC0415

    try:
        return {one.serial_number for one in x509.load_pem_x509_crl(revocations)}
    except ValueError as error:
        raise EnrolmentError(f"cannot read the list of revoked certificates: {error}") from error


def read_issued(certificate: bytes, key: bytes) -> Issued:
    """Return what two PEM files hold.

    Raises:
        EnrolmentError: they do not hold a certificate and its key.
    """
    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415
        load_pem_private_key,
    )

    try:
        found = x509.load_pem_x509_certificate(certificate)
        private = load_pem_private_key(key, password=None)
    except (ValueError, TypeError) as error:
        raise EnrolmentError(f"cannot read certificate and key: {error}") from error
    if private.public_key() != found.public_key():
        raise EnrolmentError("cannot use a certificate and a key that do not belong together")
    return _issued(found, key)


def ends_ts(certificate: bytes) -> float:
    """Return when a certificate (PEM) ends, Unix time in seconds."""
    from cryptography import x509  # noqa: PLC0415

    return x509.load_pem_x509_certificate(certificate).not_valid_after_utc.timestamp()


def hosts_of(certificate: bytes) -> tuple[str, ...]:
    """Return the names and addresses that a broker's certificate (PEM) holds for."""
    from cryptography import x509  # noqa: PLC0415

    found = x509.load_pem_x509_certificate(certificate)
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return tuple(str(name.value) for name in names)


def _builder(subject: str, issuer: str, now_s: float, years: int) -> "x509.CertificateBuilder":
    from cryptography import x509  # noqa: PLC0415

    end = datetime.fromtimestamp(int(now_s), UTC) + timedelta(days=_DAYS_A_YEAR * years)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOT_BEFORE)
        .not_valid_after(end)
    )


def _leaf(
    authority: Issued, subject: str, now_s: float, purpose: "x509.ObjectIdentifier"
) -> "x509.CertificateBuilder":
    """A certificate for one purpose alone: a device's must never pass as the broker's."""
    from cryptography import x509  # noqa: PLC0415

    above = _certificate_of(authority)
    (issuer,) = above.subject.get_attributes_for_oid(x509.oid.NameOID.COMMON_NAME)
    builder = _builder(subject, str(issuer.value), now_s, CERTIFICATE_YEARS)
    return (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    )


def _sign(
    builder: "x509.CertificateBuilder",
    key: "ec.EllipticCurvePrivateKey",
    signing: "ec.EllipticCurvePrivateKey",
) -> Issued:
    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    above = x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key())
    certificate = (
        builder.public_key(key.public_key())
        .add_extension(own, critical=False)
        .add_extension(above, critical=False)
        .sign(signing, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return _issued(certificate, pem)


def _issued(certificate: "x509.Certificate", key: bytes) -> Issued:
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415

    return Issued(
        certificate=certificate.public_bytes(Encoding.PEM),
        key=key,
        serial=certificate.serial_number,
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        not_after_ts=certificate.not_valid_after_utc.timestamp(),
    )


def _name(common: str) -> "x509.Name":
    from cryptography import x509  # noqa: PLC0415

    return x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, common)])


def _usage(*, authority: bool) -> "x509.KeyUsage":
    from cryptography import x509  # noqa: PLC0415

    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> "x509.GeneralName":
    from cryptography import x509  # noqa: PLC0415

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host.encode("idna").decode())
    except (UnicodeError, ValueError) as error:
        raise EnrolmentError(f"cannot make a certificate for host {host!r}: {error}") from error


def _new_key() -> "ec.EllipticCurvePrivateKey":
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    return ec.generate_private_key(ec.SECP256R1())


def _key_of(issued: Issued) -> "ec.EllipticCurvePrivateKey":
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415
        load_pem_private_key,
    )

    key = load_pem_private_key(issued.key, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise EnrolmentError("cannot sign certificates: the authority's key is no EC key")
    return key


def _certificate_of(issued: Issued) -> "x509.Certificate":
    from cryptography import x509  # noqa: PLC0415

    return x509.load_pem_x509_certificate(issued.certificate)
