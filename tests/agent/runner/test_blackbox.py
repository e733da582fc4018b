import os

from agent.runner import blackbox
from agent.runner.blackbox import BlackBox


def test_those_inside_are_suspects() -> None:
    fd = blackbox.create()
    box = BlackBox(fd)
    one, other, idle = box.claim("digits"), box.claim("a" * 63), box.claim("idle")
    assert blackbox.suspects(fd) == ()
    with one, other:
        assert blackbox.suspects(fd) == ("a" * 63, "digits")
        with idle:
            pass
        assert blackbox.suspects(fd) == ("a" * 63, "digits")
    assert blackbox.suspects(fd) == ()
    os.close(fd)


def test_a_new_runner_starts_clean_and_slots_are_used_again() -> None:
    fd = blackbox.create()
    BlackBox(fd).claim("dead").__enter__()
    assert blackbox.suspects(fd) == ("dead",)
    box = BlackBox(fd)
    assert blackbox.suspects(fd) == ()
    for _ in range(5000):
        box.release(box.claim("digits"))
    mark = box.claim("x")
    with mark:
        assert blackbox.suspects(fd) == ("x",)
    os.close(fd)
