"""CPU sets and nice values of real threads; what comes back is what the kernel says."""

import os
import threading
from collections.abc import Callable
from typing import TypeVar

from agent.affinity import get_cpus, get_nice, set_cpus, set_nice

NO_THREAD = 2**22 + 1
"""Beyond the largest thread id that the kernel gives."""

Result = TypeVar("Result")


def in_a_thread(work: Callable[[], Result]) -> Result:
    """Run in a thread of its own, so that the test's thread keeps its CPUs and nice value."""
    results: list[Result] = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join()
    return results[0]


def test_a_thread_is_put_on_one_cpu_and_no_other_thread_is() -> None:
    before = get_cpus()
    assert before
    one = before[-1:]
    assert in_a_thread(lambda: set_cpus(one)) == one
    assert get_cpus() == before == tuple(sorted(os.sched_getaffinity(0)))


def test_cpus_that_do_not_exist_change_nothing_and_that_is_what_is_said() -> None:
    before = get_cpus()
    assert in_a_thread(lambda: set_cpus((9999,))) == before
    assert in_a_thread(lambda: set_cpus(())) == before
    assert in_a_thread(lambda: set_cpus((-1,))) == before


def test_a_thread_becomes_nicer_alone() -> None:
    before = get_nice()
    assert before is not None
    nicer = min(19, before + 3)
    assert in_a_thread(lambda: set_nice(nicer)) == nicer
    assert get_nice() == before


def test_another_thread_by_its_id() -> None:
    done, ready, ids = threading.Event(), threading.Event(), list[int]()

    def live() -> None:
        ids.append(threading.get_native_id())
        ready.set()
        done.wait()

    thread = threading.Thread(target=live)
    thread.start()
    ready.wait()
    before = get_cpus()
    assert before
    assert set_cpus(before[:1], ids[0]) == get_cpus(ids[0]) == before[:1]
    assert set_nice(19, ids[0]) == get_nice(ids[0]) == 19
    assert get_cpus() == before
    done.set()
    thread.join()


def test_a_thread_that_is_not_there() -> None:
    assert set_cpus((0,), NO_THREAD) is None
    assert set_nice(5, NO_THREAD) is None
