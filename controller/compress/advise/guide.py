"""Trying recipes on a model within a time, and choosing among what came of them."""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from controller.compress.advise.advice import Advice, Untried
from controller.compress.advise.choice import Form, choose
from controller.compress.advise.plan import (
    Base,
    Effort,
    Estimates,
    is_hopeless,
    patience_s,
    timing_s,
    why_not,
    with_loss,
)
from controller.compress.advise.reasons import reasons
from controller.compress.advise.recipes import (
    ORIGINAL,
    Recipe,
    Step,
    Technique,
    family_of,
    name_of,
    recipes,
    slug_of,
)
from controller.compress.advise.target import Target
from controller.compress.advise.work import (
    Data,
    Made,
    Make,
    Probe,
    Probed,
    Time,
    WorkStoppedError,
    do,
)
from controller.compress.errors import CompressError
from controller.compress.measure import Clocked, Pace
from controller.compress.timings import was_disturbed

OnStep = Callable[[str, float, float], None]
"""Takes what is done, and the seconds that are spent and that there are."""

CHANNEL_SIZES = ("macs=0.1", "macs=0.03", "macs=0.25")
"""What channels are cut down to where a module is given, as shares of the original."""

_DEFAULT_LOSS = 0.005
"""Searches may lose half a point where the target does not speak of accuracy."""
_HURRIED_S = 3.0
"""How long timing may take once a person has stopped the trying."""
_TIMED_S, _START_S, _RUNS, _TURN = 0.4, 1.0, 50, 5
_ROUNDS = 3
"""So many rounds of turns have to fit in the time for timing; else each turn is one run."""
_END_S, _END_SHARE = 3.0, 0.1
"""Of the budget: starting and ending the program, writing what there is."""
_BEYOND = "it would have gone beyond the time that is left"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked.

    Attributes:
        model: the original's file.
        name: for messages.
        data: labelled samples.
        target: what a form has to hold.
        budget_s: how long all of it may take.
        module: to cut channels with; None: none.
        channels: the sizes that they are cut down to.
        only: what to try, with all that it builds on; None: `recipes` says.
    """

    model: Path
    name: str
    data: Data
    target: Target
    budget_s: float
    module: str | None = None
    channels: tuple[str, ...] = CHANNEL_SIZES
    only: tuple[Recipe, ...] | None = None


def advise(
    question: Question,
    folder: Path,
    on_step: OnStep = lambda *_: None,
    begun_s: float | None = None,
) -> Advice:
    """Try recipes within a time, measure what comes of them, and choose.

    Ctrl-C ends the trying: what there is then is timed for some seconds and chosen from.

    Args:
        question: what is asked.
        folder: where the forms' files are put, `<slug>.tflite` each; it is there.
        on_step: told what is done.
        begun_s: when the budget began, as `time.monotonic` has it; None: now.

    Raises:
        CompressError: the original does not run on the samples, these have no labels or are too
            few, or there is not even time to measure it.
    """
    guide = _Guide(question, folder, on_step, time.monotonic() if begun_s is None else begun_s)
    with tempfile.TemporaryDirectory(prefix="sluice-advise-") as scratch:
        guide.scratch = Path(scratch)
        guide.measure_original()
        try:
            guide.try_all()
        except KeyboardInterrupt:
            guide.is_stopped = True
        guide.time_all()
    return guide.advice()


@dataclass
class _Guide:
    question: Question
    folder: Path
    on_step: OnStep
    begun_s: float
    scratch: Path = field(default_factory=Path)
    forms: list[Form] = field(default_factory=list)
    untried: list[Untried] = field(default_factory=list)
    is_stopped: bool = False
    is_disturbed: bool = False
    _made: dict[tuple[str, ...], tuple[Form, Made]] = field(default_factory=dict)
    _estimates: Estimates = field(default_factory=Estimates)
    _training_s: float = 0.0

    def measure_original(self) -> None:
        """Measure the original; without it there is nothing to compare with."""
        self._say(f"measuring {ORIGINAL}")
        try:
            made, took_s = self._make((), self._left_s())
        except WorkStoppedError as error:
            raise CompressError(
                f"cannot advise on {self.question.name} within {self.question.budget_s:g} s: "
                "measuring the original alone takes longer; give more time, or fewer samples"
            ) from error
        self._take((), made, took_s)

    def try_all(self) -> None:
        """Try one recipe after the other while there is time."""
        _, original = self._made[()]
        if original.why_narrow:
            self.untried.append(Untried("quantization", original.why_narrow))
        channels, only = self._channels(), self.question.only
        every = recipes(is_float=not original.why_narrow, channels=channels)
        is_trained = self.question.module is None or bool(channels)
        for recipe in every if only is None else only:
            if recipe[0].technique is Technique.CHANNELS and not is_trained:
                continue  # why is said already
            why = why_not(recipe, self._losses(), self.question.target.limit("accuracy_loss"))
            why = why or self._try(recipe)
            if why:
                self.untried.append(Untried(name_of(recipe), why))

    def time_all(self) -> None:
        """Time all forms in turns, in one process; what cannot be timed in time stays untimed."""
        left_s = self._left_s() - _START_S
        if self.is_stopped:
            left_s = min(left_s, _HURRIED_S)
        if left_s <= 0:
            return
        self._say(f"timing {len(self.forms)} forms in turns")
        job = Time(
            paths=tuple(str(self._path(form.recipe)) for form in self.forms),
            pace=self._pace(left_s),
            sample_shape=self._made[()][1].sample_shape,
        )
        try:
            clocked = do(job, Clocked, self._left_s(), self.scratch)
        except CompressError as error:
            self.untried.append(Untried("timing", _short(error)))
            return
        except KeyboardInterrupt:
            self.is_stopped = True
            return
        times = tuple(zip(clocked.timings, clocked.cpu_s, strict=True))
        # With one thread the CPU time of a run is what it takes where nobody else wants the CPU.
        self.is_disturbed = any(was_disturbed(one, cpu_s, 1) for one, cpu_s in times)
        self.forms = [
            replace(
                form,
                latency_us=cpu_s * 1e6 if self.is_disturbed else one.median,
                cpu_us=cpu_s * 1e6,
            )
            for form, (one, cpu_s) in zip(self.forms, times, strict=True)
        ]

    def advice(self) -> Advice:
        """Choose, and say why."""
        target, counts = self.question.target, self._made[()][1].halves
        choice = choose(self.forms, target)
        return Advice(
            forms=tuple(self.forms),
            choice=choice,
            reasons=tuple(reasons(choice, self.forms[0], target, counts)),
            untried=tuple(self.untried),
            halves=counts,
            is_stopped=self.is_stopped,
            is_disturbed=self.is_disturbed,
            spent_s=self._spent_s(),
        )

    def _try(self, recipe: Recipe) -> str:
        """Make a form, and return why there is none; empty: there is."""
        before, made_before = self._made[family_of(recipe[:-1])]
        effort = Effort(made_before.measure_s, made_before.half_s)
        base = Base(effort, made_before.layers, self._training_s)
        estimate_s = self._estimates.seconds(recipe[-1], base)
        left_s = self._left_s() - timing_s(len(self.forms) + 1, self.question.budget_s)
        if estimate_s > left_s:
            return f"it would take about {estimate_s:.0f} s, {max(0.0, left_s):.0f} s are left"
        limit_s = patience_s(estimate_s, left_s)
        recipe = (*before.recipe, self._settled(recipe[-1], before))
        self._say(name_of(recipe))
        try:
            made, took_s = self._make(recipe, limit_s)
        except WorkStoppedError:
            self._estimates.learn(recipe[-1], base, max(limit_s, estimate_s))
            return (
                _BEYOND if limit_s >= left_s else f"it would have taken more than {limit_s:.0f} s"
            )
        except CompressError as error:
            return _short(error)
        self._estimates.learn(recipe[-1], base, took_s)
        same = next((form.name for form in self.forms if form.sha256 == made.sha256), None)
        if same is not None:
            return f"it gives the same file as {same}"
        self._take(recipe, made, took_s)
        return ""

    def _settled(self, step: Step, before: Form) -> Step:
        """Return a step with the loss that it may search within."""
        limit = self.question.target.limit("accuracy_loss")
        lost = self.forms[0].accuracy - before.accuracy
        return with_loss(step, _DEFAULT_LOSS if limit is None else limit, lost)

    def _make(self, recipe: Recipe, limit_s: float) -> tuple[Made, float]:
        """Do the last step of a recipe in a process of its own."""
        question, began_s = self.question, time.monotonic()
        source = self._path(recipe[:-1]) if recipe[:-1] else question.model
        name = name_of(recipe)
        job = Make(
            model=str(source.absolute()),
            out=str(self._path(recipe).absolute()),
            name=f"{question.name} ({name})" if recipe else question.name,
            step=recipe[-1] if recipe else None,
            data=question.data,
            kind=self._made[()][1].kind if recipe else None,
            module=question.module,
            weigh=question.target.limit("memory") is not None,
        )

        def on_step(title: str, done: int, total: int) -> None:
            if is_hopeless(done, total, time.monotonic() - began_s, limit_s):
                raise WorkStoppedError(f"cannot do it: it would take more than {limit_s:.0f} s")
            self._say(f"{name}: {title}" if total <= 1 else f"{name}: {title} ({done} of {total})")

        made = do(job, Made, limit_s, self.scratch, on_step)
        return made, time.monotonic() - began_s

    def _take(self, recipe: Recipe, made: Made, took_s: float) -> None:
        form = Form(
            recipe=recipe,
            sha256=made.sha256,
            file_bytes=made.file_bytes,
            wire_bytes=made.wire_bytes,
            parameters=made.parameters,
            nonzero=made.nonzero,
            accuracy=made.accuracy,
            held_out=made.held_out,
            memory_bytes=made.memory_bytes,
            took_s=took_s,
        )
        self.forms.append(form)
        self._made[family_of(recipe)] = (form, made)

    def _channels(self) -> Sequence[str]:
        """Return the sizes to cut channels down to, once it is known how long teaching takes."""
        question = self.question
        if question.module is None:
            return ()
        self._say("finding out how long teaching takes")
        try:
            job = Probe(module=question.module)
            probed = do(job, Probed, patience_s(0.0, self._left_s()), self.scratch)
        except CompressError as error:
            self.untried.append(Untried(Technique.CHANNELS, _short(error)))
            return ()
        shape = self._made[()][1].sample_shape
        if probed.sample_shape != shape:
            why = f"the module's network takes {list(probed.sample_shape)}, samples {list(shape)}"
            self.untried.append(Untried(Technique.CHANNELS, f"cannot compare: {why}"))
            return ()
        self._training_s = probed.training_s
        return question.channels

    def _pace(self, left_s: float) -> Pace:
        """Return how often forms are timed, so that it ends in time.

        Slow forms take turns run by run: a round of longer turns could outlast the time.
        """
        samples = self._made[()][1].halves[0]
        answer_s = sum(made.half_s for _, made in self._made.values()) / samples
        is_slow = answer_s * (_TURN + 1) * _ROUNDS > left_s
        return Pace(
            warm_s=min(0.5, left_s / 10),
            runs=_RUNS,
            seconds=min(_TIMED_S * len(self.forms), left_s / 2),
            limit_s=left_s / 2,
            turn=1 if is_slow else _TURN,
        )

    def _losses(self) -> dict[tuple[str, ...], float]:
        original = self.forms[0].accuracy
        return {family: original - form.accuracy for family, (form, _) in self._made.items()}

    def _path(self, recipe: Recipe) -> Path:
        return self.folder / f"{slug_of(recipe)}.tflite"

    def _spent_s(self) -> float:
        return time.monotonic() - self.begun_s

    def _left_s(self) -> float:
        budget_s = self.question.budget_s
        return max(0.0, budget_s - min(_END_S, _END_SHARE * budget_s) - self._spent_s())

    def _say(self, title: str) -> None:
        self.on_step(title, self._spent_s(), self.question.budget_s)


def _short(error: CompressError) -> str:
    return " ".join(str(error).split())
