"""The tuner's process: a request on standard input, a line of JSON for everything that is done."""

import contextlib
import faulthandler
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from agent.runner import blackbox, memory
from agent.runner.blackbox import BlackBox
from agent.sensors.power_now import PowerReader
from agent.tuner import halving
from agent.tuner.candidates import Candidate, candidates, pipelines
from agent.tuner.energy import by_one_method
from agent.tuner.halving import FINAL, Effort
from agent.tuner.power_watch import PowerWatch
from agent.tuner.request import Begun, Failed, Line, Measured, TuneModel, TuneRequest
from agent.tuner.trial import Subject, Trial
from protocols.inference.runtime import ModelError
from protocols.profile import Energy, LayoutRun, ProfileKey, StageProfile

log = logging.getLogger("sluice.tuner")

Say = Callable[[Line], None]
Pairs = list[tuple[Subject, Candidate]]


def main() -> None:
    """Measure what is asked for; end when standard input's request is done."""
    faulthandler.enable()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    memory.settle()
    request = TuneRequest.decode(sys.stdin.buffer.read())
    tune(request, _print)


def tune(request: TuneRequest, say: Say) -> None:
    """Measure all models, one after the other, and say what came of each.

    A model's profile is said once it is complete: with its pipelines, where it is part of a chain.
    """
    trial = Trial(BlackBox(blackbox.create()))
    power = _power_watch(request)
    models = {model.artifact: model for model in request.models}
    beside = dict(_pipelines(trial, power, request, models, say))
    for artifact, model in models.items():
        say(Begun(artifact=artifact))
        try:
            runs = _alone(trial, power, request, model)
        except ModelError as error:
            say(Failed(artifact=artifact, message=str(error)))
            continue
        say(Measured(profile=_profile(request, artifact, [*runs, *beside.get(artifact, [])])))


def _power_watch(request: TuneRequest) -> PowerWatch | None:
    """Return what watches the device's power; None: nothing tells it."""
    reader = PowerReader(Path(request.sysroot), request.providers)
    return None if reader.method is None else PowerWatch(reader, reader.method)


def _alone(
    trial: Trial, power: PowerWatch | None, request: TuneRequest, model: TuneModel
) -> list[LayoutRun]:
    subject = _subject(model)
    # The first load of a process brings the interpreter's library in, which is nobody's need.
    trial.measure(subject, Candidate("intra-op", 1, None), Effort(1, 0.0))

    def measure(candidate: Candidate, effort: Effort) -> LayoutRun | None:
        try:
            return trial.measure(subject, candidate, effort)
        except ModelError as error:
            log.warning("%s: %s", candidate, error)
            return None

    found = halving.run(candidates(request.cores), measure)
    if not found:
        raise ModelError(model.artifact[:12], "it runs in no layout", "tune")
    energies = _energies(trial, power, [[(subject, one)] for one in found])
    return _with_energy(list(found.values()), energies)


def _pipelines(
    trial: Trial,
    power: PowerWatch | None,
    request: TuneRequest,
    models: dict[str, TuneModel],
    say: Say,
) -> Iterator[tuple[str, list[LayoutRun]]]:
    """Measure every chain as a pipeline; yield by artifact the run of the best dealing of CPUs."""
    for chain in request.chains:
        say(Begun(artifact=chain[0]))
        best: list[LayoutRun] = []
        best_pairs: Pairs = []
        for dealt in pipelines(len(chain), request.cores):
            pairs = [(_subject(models[part]), one) for part, one in zip(chain, dealt, strict=True)]
            with contextlib.suppress(ModelError):  # said when the model is measured alone
                runs = trial.measure_beside(pairs, FINAL)
                if not best or runs[0].answers_per_s > best[0].answers_per_s:
                    best, best_pairs = runs, pairs
        with contextlib.suppress(ModelError):
            best = _with_energy(best, _energies(trial, power, [best_pairs] if best else []))
        yield from ((part, [run]) for part, run in zip(chain, best, strict=False))


def _energies(
    trial: Trial, power: PowerWatch | None, tries: Sequence[Pairs]
) -> list[Energy] | None:
    """Return the energy of an answer of every try's models; None: of some it is not known."""
    if power is None or not tries:
        return None
    found, idle_w = list[Energy](), power.idle_w()
    for pairs in tries:
        energies = trial.measure_energy(pairs, power, idle_w)
        if energies is None:
            return None
        found += energies
    return found


def _with_energy(runs: list[LayoutRun], energies: list[Energy] | None) -> list[LayoutRun]:
    if energies is None:
        return runs
    return [run.with_(energy=one) for run, one in zip(runs, energies, strict=True)]


def _subject(model: TuneModel) -> Subject:
    return Subject(Path(model.path), model.sample_shape)


def _profile(request: TuneRequest, artifact: str, runs: Sequence[LayoutRun]) -> StageProfile:
    mask = tuple(sorted(cpu for group in request.cores for cpu in group.cpus))
    key = ProfileKey(artifact=artifact, runtime=request.runtime, kernel=request.kernel, cpus=mask)
    comparable = by_one_method(runs, request.watts_per_cpu)
    return StageProfile(key=key, measured_ts=time.time(), runs=comparable)


def _print(line: Line) -> None:
    sys.stdout.write(f"{line.model_dump_json()}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
