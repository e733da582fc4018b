"""What the tuner tries: layouts, numbers of threads and CPU sets. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from protocols.device import CoreClass
from protocols.schedule import Layout


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to run a model."""

    layout: Layout
    threads: int
    cpus: tuple[int, ...] | None
    """None: any of the mask."""


def candidates(cores: Sequence[CoreClass]) -> tuple[Candidate, ...]:
    """Return what is worth trying on a machine, each once, the plainest first.

    One thread and more, doubled each time, and all; on machines with several kinds of cores within
    each kind alone, and over all of them. CPUs that are all alike are not chosen among: which of
    them is free only the kernel knows, so their set stays open, except for replicas, which would
    otherwise move about and lose their caches.

    Args:
        cores: fastest first, cut by the mask; empty: not known, one thread it is.
    """
    if not cores:
        return (Candidate("intra-op", 1, None),)
    every = tuple(cpu for group in cores for cpu in group.cpus)
    sets = [group.cpus for group in cores]
    if len(cores) > 1:
        sets.append(every)
    found = [one for cpus in sets for one in _within(cpus, is_open=len(cores) == 1)]
    return tuple(dict.fromkeys(found))


def pipelines(parts: int, cores: Sequence[CoreClass]) -> tuple[tuple[Candidate, ...], ...]:
    """Return ways to run consecutive parts of a split model beside each other.

    The CPUs are dealt out, fastest first, so that the parts have equally many (the first ones one
    more where it does not come out even).

    Args:
        parts: how many there are, at least 2.
        cores: fastest first, cut by the mask.

    Returns:
        Nothing where there are fewer CPUs than parts: they would only take turns.
    """
    every = tuple(cpu for group in cores for cpu in group.cpus)
    if parts > len(every):
        return ()
    single = tuple(Candidate("pipeline", 1, (cpu,)) for cpu in every[:parts])
    shares, at = [], 0
    for part in range(parts):
        size = len(every) // parts + (part < len(every) % parts)
        shares.append(every[at : at + size])
        at += size
    dealt = tuple(Candidate("pipeline", len(share), share) for share in shares)
    return (single,) if dealt == single else (single, dealt)


def _within(cpus: tuple[int, ...], *, is_open: bool) -> Iterator[Candidate]:
    for threads in _counts(len(cpus)):
        yield Candidate("intra-op", threads, None if is_open else cpus)
    for replicas in _counts(len(cpus)):
        if replicas > 1:
            yield Candidate("replicas", replicas, cpus[:replicas])


def _counts(most: int) -> list[int]:
    """Return 1, 2, 4 ... and the most."""
    counts, number = [], 1
    while number < most:
        counts.append(number)
        number *= 2
    return [*counts, most]
