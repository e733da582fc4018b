"""The supervisor's side of the tuner: what is known, whether to measure now, what came of it."""

import logging
from collections.abc import Callable, Mapping, Sequence

from agent.errors import ChildError
from agent.inbox import TunerExited, TunerSaid
from agent.storage.profiles import ProfileFile
from agent.tuner import when
from agent.tuner.process import TunerProcess
from agent.tuner.request import Begun, Failed, Measured, TuneModel, TuneRequest
from protocols.device import CascadeStats, CoreClass, Rungs, Sample, StageStats
from protocols.profile import LayoutRun, StageProfile

log = logging.getLogger("sluice.tuner")

Post = Callable[[TunerSaid | TunerExited], None]
Subjects = tuple[tuple[TuneModel, ...], tuple[tuple[str, ...], ...]]


class Tuning:
    """Owned by the supervisor's one deciding thread.

    Args:
        profiles: what has been measured.
        blank: a request without models: cores, runtime, kernel and watts of this device.
        idle_s: so long must the device have idled; None: it never measures by itself.
        post: takes what the tuner's process says.
    """

    def __init__(
        self, profiles: ProfileFile, blank: TuneRequest, idle_s: float | None, post: Post
    ) -> None:
        self._profiles, self._blank, self._idle_s, self._post = profiles, blank, idle_s, post
        self._memo = when.Memo()
        self._process: TunerProcess | None = None
        self._inside: str | None = None
        self._cpu_s, self._counted_s, self._serving_cpus = 0.0, 0.0, 0.0

    @property
    def profiles(self) -> tuple[StageProfile, ...]:
        """Those that hold for this device as it is."""
        return self._profiles.valid

    def pids(self) -> tuple[int, ...]:
        """Return the tuner's process id: what it uses is no foreign load."""
        return () if self._process is None else (self._process.pid,)

    def look(
        self,
        sample: Sample,
        rungs: Rungs,
        subjects: Callable[[], Subjects],
        now_s: float,
    ) -> None:
        """Begin to measure if it is time; stop at once if the device is needed.

        Args:
            sample: the last one.
            rungs: where the governor stands.
            subjects: asked only when it is time: the models of the stages that serve, and the
                artifacts of consecutive parts.
            now_s: monotonic clock.
        """
        if self._idle_s is None:
            return
        load = when.Load(sample, rungs, self._serving_cpus)
        self._memo = when.look(self._memo, load, now_s)
        if self._process is not None:
            if self._memo.idle_since_s is None:
                self.stop(when.busy(load))
        elif when.is_due(self._memo, self._idle_s, now_s):
            self._begin(*subjects(), now_s)

    def counted(
        self,
        cascades: Sequence[CascadeStats],
        stages: Mapping[str, StageStats],
        rungs: Rungs,
        now_s: float,
    ) -> None:
        """Note what requests cost, and whose latency has drifted from what was measured.

        Args:
            cascades: the serving runner's statistics.
            stages: the same by artifact.
            rungs: where the governor stands.
            now_s: monotonic clock.
        """
        cpu_s, span_s = when.served(cascades), now_s - self._counted_s
        if span_s > 0:
            self._serving_cpus = max(0.0, cpu_s - self._cpu_s) / span_s
        self._cpu_s, self._counted_s = cpu_s, now_s
        self._memo = when.compare(self._memo, stages, self.profiles, rungs, now_s)

    def said(self, said: TunerSaid, now_s: float) -> str:
        """Take a line of the tuner; return what is to be told of it, empty: nothing."""
        if self._process is None or said.pid != self._process.pid:
            return ""
        match said.line:
            case Begun(artifact=artifact):
                self._inside = artifact
            case Measured(profile=profile):
                self._profiles.put(profile)
                self._memo = when.measured(self._memo, profile.key.artifact)
                return _summary(profile)
            case Failed(artifact=artifact, message=message):
                self._memo = when.failed(self._memo, artifact, now_s)
                return message
        return ""

    def exited(self, exited: TunerExited, now_s: float) -> None:
        """Note the end of the process; one that died had something inside that killed it."""
        if self._process is None or exited.pid != self._process.pid:
            return
        self._process = None
        if exited.code and self._inside is not None:
            log.warning("the tuner died with %d inside %s", exited.code, self._inside[:12])
            self._memo = when.failed(self._memo, self._inside, now_s)
        self._inside = None

    def reload(self) -> None:
        """Take what `sluice-agent tune` has written."""
        self._profiles.reload()

    def use(self, cores: tuple[CoreClass, ...]) -> None:
        """Measure other CPUs from now on; what runs is of the old ones."""
        self.stop("other CPUs may be used")
        self._blank = self._blank.with_(cores=cores)
        self._profiles.use(cpu for group in cores for cpu in group.cpus)

    def stop(self, why: str = "the agent stops") -> None:
        """End what runs: the rest is measured another time."""
        process, self._process = self._process, None
        if process is not None:
            log.info("tuning is put off: %s", why)
            process.kill()

    def _begin(
        self, models: Sequence[TuneModel], chains: Sequence[tuple[str, ...]], now_s: float
    ) -> None:
        artifacts = [model.artifact for model in models]
        wanted = when.untuned(self._memo, artifacts, self.profiles, now_s)
        if not wanted:
            return
        # A pipeline is measured with all its parts, also those that were measured before.
        whole = [chain for chain in chains if set(chain) & set(wanted)]
        names = {*wanted, *(part for chain in whole for part in chain)}
        request = self._blank.with_(
            models=tuple(model for model in models if model.artifact in names), chains=tuple(whole)
        )
        try:
            self._process = TunerProcess(request, self._post)
        except ChildError as error:
            log.warning("%s", error)
            for artifact in wanted:
                self._memo = when.failed(self._memo, artifact, now_s)
            return
        log.info("tuning %d models", len(request.models))


def _summary(profile: StageProfile) -> str:
    soonest, most = profile.for_latency, profile.for_throughput
    words = f"{profile.key.artifact[:12]}: soonest {run_words(soonest)}"
    return words if most == soonest else f"{words}; most {run_words(most)}"


def run_words(run: LayoutRun) -> str:
    """Say a measurement in a few words, for people."""
    where = "" if run.cpus is None else f" on CPUs {','.join(map(str, run.cpus))}"
    spent = "" if run.energy is None else f", {run.energy.joules:g} J ({run.energy.method})"
    return (
        f"{run.threads} x {run.layout}{where}: p95 {run.p95_ms:g} ms, "
        f"{run.answers_per_s:g} answers/s, {run.cpu_ms:g} CPU-ms{spent}"
    )
