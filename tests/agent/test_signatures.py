"""Signatures are checked in a process of its own."""

from base64 import b64decode

from agent.signatures import SignatureChecker
from protocols.envelope import BUNDLE, generate_key, public_key, sign
from tests.agent.reporting.test_publisher import STATUS


def test_it_checks_in_a_process_of_its_own() -> None:
    key = generate_key()
    envelope = sign(STATUS, BUNDLE, [key])
    public = b64decode(public_key(key, "release").public)
    body, signature = b64decode(envelope.payload), b64decode(envelope.signatures[0].sig)
    message = b"DSSEv1 %d %s %d %s" % (len(BUNDLE), BUNDLE.encode(), len(body), body)
    checker = SignatureChecker()
    assert checker.holds(public, signature, message)
    assert not checker.holds(public, signature, message + b"x")
    assert not checker.holds(public, b"", message)
    checker.rest()
    assert checker.holds(public, signature, message)
    checker.rest()
    checker.rest()
