"""Has signatures checked by a child process that goes home when there is nothing to check.

The cryptography package is 7 MB of memory that an idle agent would keep for ever: it is needed for
a few milliseconds at each new document. The child is this module too: `python -m agent.signatures`
reads lines of three base64 words (public key, signature, message) and answers each with 1 or 0.
"""

import logging
import selectors
import subprocess
import sys
from base64 import b64decode, b64encode

from agent.errors import ChildError
from protocols.envelope import ed25519_holds

log = logging.getLogger("sluice.signatures")

_ANSWER_S = 20.0


class SignatureChecker:
    """Checks Ed25519 signatures; `holds` is what `protocols.envelope.verify` takes."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None

    def holds(self, public: bytes, signature: bytes, message: bytes) -> bool:
        """Whether a signature holds.

        Raises:
            ChildError: it could not be checked, so that nothing is known of it.
        """
        if self._child is None:
            self._child = _start()
        line = b" ".join(b64encode(word) for word in (public, signature, message))
        try:
            answer = _ask(self._child, line)
        except OSError as error:
            self.rest()
            raise ChildError(f"cannot check a signature: {error}") from error
        if answer not in {b"1\n", b"0\n"}:
            self.rest()
            raise ChildError(
                "cannot check a signature: its process ended; is `cryptography` installed? "
                "(pip install cryptography)"
            )
        return answer == b"1\n"

    def rest(self) -> None:
        """Let the child go; the next signature starts another."""
        if self._child is None:
            return
        child, self._child = self._child, None
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                _close(pipe)
        try:
            child.wait(2)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _start() -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "agent.signatures"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,
            bufsize=0,
        )
    except OSError as error:
        raise ChildError(f"cannot check a signature: {error}") from error


def _ask(child: subprocess.Popen[bytes], line: bytes) -> bytes:
    if child.stdin is None or child.stdout is None:
        return b""
    view = memoryview(line + b"\n")
    while view:
        view = view[child.stdin.write(view) :]
    with selectors.DefaultSelector() as waiting:
        waiting.register(child.stdout, selectors.EVENT_READ)
        if not waiting.select(_ANSWER_S):
            raise TimeoutError(f"no answer in {_ANSWER_S:g} s")
    return child.stdout.read(2) or b""


def _close(pipe: object) -> None:
    try:
        pipe.close()  # type: ignore[attr-defined]
    except OSError:
        log.debug("the signature process had closed its pipe")


def main() -> None:
    """Be the child: answer until standard input ends."""
    for line in sys.stdin.buffer:
        public, signature, message = (b64decode(word) for word in line.split(b" "))
        sys.stdout.buffer.write(b"1\n" if ed25519_holds(public, signature, message) else b"0\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
