"""`sluice-agent tune`: measure the models of this device now, or any `.tflite` files."""

import hashlib
import json
import queue
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from agent.cascades.tunable import chains, tunable
from agent.config import Config
from agent.errors import AgentError, StartError
from agent.inbox import TunerExited, TunerSaid
from agent.reporting.inventory import runtime_name
from agent.sensors import Hardware, read_hardware
from agent.sensors.core_speed import measure_speeds
from agent.signatures import SignatureChecker
from agent.storage.artifacts import ArtifactStore
from agent.storage.bundles import BundleStore
from agent.storage.core_speeds import CoreSpeedFile
from agent.storage.ledger import LedgerFile
from agent.storage.profiles import ProfileFile
from agent.trust import read_key_sets
from agent.tuner.process import TunerProcess
from agent.tuner.request import Failed, Measured, TuneModel, TuneRequest
from protocols.bundle import Bundle
from protocols.desired import DesiredCascade
from protocols.profile import LayoutRun, StageProfile

_HEAD = ("layout", "threads", "cpus", "runs", "p50 ms", "p95 ms", "per s", "CPU ms", "load ms",
         "peak MiB", "joules")  # fmt: skip


def tune_files(paths: Sequence[Path], watts_per_cpu: float | None, *, as_json: bool) -> int:
    """Measure files and print what came of it; nothing is kept.

    Raises:
        StartError: there is no such file, or no interpreter.
    """
    hardware = read_hardware(measure=measure_speeds)
    models = tuple(TuneModel(artifact=_digest(path), path=str(path.absolute())) for path in paths)
    names = {model.artifact: path.name for model, path in zip(models, paths, strict=True)}
    request = _request(hardware, watts_per_cpu).with_(models=models)
    return _carry_out(request, names, None, as_json=as_json)


def tune_device(config: Config, *, as_json: bool) -> int:
    """Measure what serves on this device, print it, and keep it for the agent.

    An agent that runs meanwhile takes it within a minute.

    Raises:
        StartError: nothing has been deployed yet, or there is no interpreter.
    """
    speeds = CoreSpeedFile(config.state_dir / "cores.json", measure_speeds)
    hardware = read_hardware(config.sensors.sysroot, speeds.find_or_measure)
    store = ArtifactStore(config.state_dir)
    served = tuple(_served(config, store))
    if not served:
        raise StartError(f"cannot tune: nothing serves on {config.id} yet; deploy a cascade first")
    request = _request(hardware, config.tune.watts_per_cpu).with_(
        models=tunable(served, store.folder),
        chains=chains(served),
        sysroot=str(config.sensors.sysroot),
        providers=config.sensors.providers,
    )
    names = {
        variant.artifact.sha256: f"{bundle.name}/{stage.name} {variant.name}"
        for _wanted, bundle in served
        for stage in bundle.stages
        for variant in stage.variants
    }
    profiles = ProfileFile(
        config.state_dir / "profiles.json", request.runtime, request.kernel, hardware.cpus
    )
    return _carry_out(request, names, profiles, as_json=as_json)


def _served(config: Config, store: ArtifactStore) -> Iterator[tuple[DesiredCascade, Bundle]]:
    """Yield what served last, by the ledger, as far as its bundle is here."""
    checker = SignatureChecker()
    try:
        ledger = LedgerFile(config.state_dir / "ledger.json").now
        trust, _ = read_key_sets(config.state_dir / "keys.json", config.key_set())
        bundles = BundleStore(store, trust, checker.holds, ledger.has_served)
        for kept in ledger.good.values():
            if kept:
                yield kept[0], bundles.bundle(kept[0])
    except AgentError as error:
        raise StartError(f"cannot tune: {error}") from error
    finally:
        checker.rest()


def _request(hardware: Hardware, watts_per_cpu: float | None) -> TuneRequest:
    runtime = runtime_name()
    if runtime is None:
        raise StartError("cannot tune: no interpreter is installed; install ai-edge-litert")
    return TuneRequest(
        models=(),
        cores=hardware.cores,
        runtime=runtime,
        kernel=hardware.kernel,
        watts_per_cpu=watts_per_cpu,
    )


def _carry_out(
    request: TuneRequest, names: dict[str, str], profiles: ProfileFile | None, *, as_json: bool
) -> int:
    """Run the tuner, print each model as it is done; return 1 if one could not be measured."""
    said: queue.SimpleQueue[TunerSaid | TunerExited] = queue.SimpleQueue()
    process = TunerProcess(request, said.put)
    code, done = 0, list[StageProfile]()
    try:
        while not isinstance(message := said.get(), TunerExited):
            match message.line:
                case Measured(profile=profile):
                    done.append(profile)
                    if profiles is not None:
                        profiles.put(profile)
                    if not as_json:
                        sys.stdout.write(_table(names[profile.key.artifact], profile))
                case Failed(message=words):
                    code = 1
                    sys.stderr.write(f"{words}\n")
    finally:
        process.kill()
    if message.code:
        sys.stderr.write(f"cannot tune on: the interpreter died ({message.code}) inside a model\n")
        code = 1
    if as_json:
        shown = [{"model": names[p.key.artifact], **p.model_dump(mode="json")} for p in done]
        sys.stdout.write(f"{json.dumps(shown, indent=2)}\n")
    return code


def _table(name: str, profile: StageProfile) -> str:
    """Return a table of all runs; a star marks the soonest and the one that answers most."""
    marked = {id(profile.for_latency), id(profile.for_throughput)}
    rows = [_HEAD, *(_row(run) for run in profile.runs)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(_HEAD))]
    lines = [name]
    for number, row in enumerate(rows):
        star = "*" if number and id(profile.runs[number - 1]) in marked else " "
        cells = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        lines.append(f" {star} {'  '.join(cells)}")
    return "\n".join([*lines, "", ""])


def _row(run: LayoutRun) -> tuple[str, ...]:
    return (
        run.layout,
        str(run.threads),
        "any" if run.cpus is None else ",".join(map(str, run.cpus)),
        str(run.count),
        f"{run.p50_ms:g}",
        f"{run.p95_ms:g}",
        f"{run.answers_per_s:g}",
        f"{run.cpu_ms:g}",
        f"{run.load_ms:g}",
        f"{run.peak_rss_mib:g}",
        "" if run.energy is None else f"{run.energy.joules:g} ({run.energy.method})",
    )


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise StartError(f"cannot tune {path}: {error.strerror}") from error
