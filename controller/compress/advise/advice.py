"""What comes of asking: forms, the choice among them, and what there is no form of. Pure."""

from dataclasses import dataclass

from controller.compress.advise.choice import Choice, Form
from controller.compress.advise.commands import Origin, commands


@dataclass(frozen=True, slots=True)
class Untried:
    """A recipe that there is no form of, and why."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Advice:
    """What came of it.

    Attributes:
        forms: all that was made, the original first; `slug_of` their recipes names their files.
        choice: which one to take.
        reasons: in words.
        untried: what there is no form of, and why.
        halves: samples that choices were made on, and samples held out.
        is_stopped: a person ended it before its time.
        is_disturbed: other programs had the CPU while forms were timed: their latencies are then
            the CPU time of a run.
        spent_s: how long it took.
    """

    forms: tuple[Form, ...]
    choice: Choice
    reasons: tuple[str, ...]
    untried: tuple[Untried, ...]
    halves: tuple[int, int]
    is_stopped: bool
    is_disturbed: bool
    spent_s: float

    def commands(self, form: Form, origin: Origin) -> tuple[str, ...]:
        """Return the commands that make a form again from the original, byte for byte."""
        return commands(form.recipe, origin)
