"""Checks signatures on request, in a process of its own: `python -m agent.signatures`.

Reads lines of three base64 words (public key, signature, message) and answers each with 1 or 0.
"""

import sys
from base64 import b64decode

from protocols.envelope import ed25519_holds


def main() -> None:
    """Answer until standard input ends."""
    for line in sys.stdin.buffer:
        public, signature, message = (b64decode(word) for word in line.split(b" "))
        sys.stdout.buffer.write(b"1\n" if ed25519_holds(public, signature, message) else b"0\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
