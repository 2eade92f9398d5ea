"""What an operator is: a name, what it needs, and a function that says how one attempt differs from a plain one."""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from fr.config import Config
from fr.diagnosis.features import running_confidence
from fr.diagnosis.junction import Calibration, Trace
from fr.registry import Registry
from fr.sampling.rows import row_key
from fr.sampling.sources import Resume
from fr.tasks.formats import Codec, CompletionText, Format, encode_text, format_of
from fr.tasks.steps import Step, find_steps
from fr.types import Problem, Prompt

OPERATORS = Registry("operator")


@dataclasses.dataclass(frozen=True)
class Failure:
    """A failed attempt at the problem: what it wrote, and its scores."""

    written: CompletionText
    trace: Trace

    @functools.cached_property
    def least_sure(self) -> Callable[[int], float]:
        """The least running confidence of a window of so many tokens (`fr.diagnosis.features.running_confidence`)."""
        drawn = self.trace.scores["top20_confidence"][self.trace.sampled]
        return functools.cache(
            lambda window: float(
                running_confidence(drawn, window)[min(window, len(drawn)) - 1 :].min()
            )
        )

    @functools.cached_property
    def false_step(self) -> Step | None:
        """The first step of its reasoning that is not true arithmetic."""
        return next(
            (step for step in find_steps(self.written.reasoning) if not step.true), None
        )


@dataclasses.dataclass(frozen=True)
class Setting:
    """All that an operator may look at when it fills attempt `attempt` of a problem."""

    config: Config
    problem: Problem
    attempt: int
    calibration: Calibration
    has_ancestor: bool
    prompt: Prompt = ""  # what a plain attempt reads
    failures: tuple[Failure, ...] = ()
    codec: Codec | None = None

    @property
    def failure(self) -> Failure:
        """The one that this attempt may start from: attempts take turns through them."""
        return self.failures[self.attempt % len(self.failures)]

    @property
    def format(self) -> Format:
        """How completions of the task are written."""
        return format_of(self.problem.task)

    def generator(self) -> np.random.Generator:
        """A generator of this attempt's own, apart from the row's draws."""
        return np.random.default_rng(
            row_key(self.config.seed, "operator", self.problem.id, self.attempt)
        )


@dataclasses.dataclass(frozen=True)
class Change:
    """How an attempt differs from a plain one."""

    params: dict = dataclasses.field(default_factory=dict)  # fields of SamplingParams
    prompt: Prompt | None = None  # read instead of the task's
    kept: tuple[
        int, ...
    ] = ()  # tokens that stand behind the prompt and are read, not decoded
    speak: Callable[[np.ndarray], Resume] | None = (
        None  # to the row, at its pause tokens, from its tokens
    )


@dataclasses.dataclass(frozen=True)
class Operator:
    """One bounded intervention: `fill(setting)` gives a Change, or only its `params`."""

    name: str
    fill: Callable[[Setting], dict | Change]
    needs_ancestor: bool = False  # cannot run without one
    uses_ancestor: bool = False  # reads one where there is one, and then pays for it
    deterministic: bool = False  # every attempt is the same, so one is made
    outside: bool = False  # uses truth that no model gave it, such as arithmetic
    words: Callable[[Format], tuple[str, ...]] = (
        lambda form: ()
    )  # what the tokenizer must be able to write

    def change(self, setting: Setting) -> Change:
        """How this attempt differs from a plain one."""
        filled = self.fill(setting)
        return filled if isinstance(filled, Change) else Change(filled)


def register(
    name: str, *, needs_ancestor: bool = False, uses_ancestor: bool = False, **traits
) -> Callable:
    """Decorator that files a `fill` function as an operator; keywords are the fields of Operator."""

    def add(
        fill: Callable[[Setting], dict | Change],
    ) -> Callable[[Setting], dict | Change]:
        uses = uses_ancestor or needs_ancestor
        OPERATORS.register(name)(Operator(name, fill, needs_ancestor, uses, **traits))
        return fill

    return add


def select(
    names: tuple[str, ...], has_ancestor: bool, codec: Codec, task: str
) -> tuple[list[Operator], dict[str, str]]:
    """The operators that can run on a task, and of each that cannot the reason."""
    operators, why = [OPERATORS[name] for name in names], {}
    for operator in operators:
        unwritten = [
            word
            for word in operator.words(format_of(task))
            if encode_text(codec, word) is None
        ]
        if operator.needs_ancestor and not has_ancestor:
            why[operator.name] = "needs an ancestor"
        elif unwritten:
            why[operator.name] = f"the tokenizer cannot write {unwritten[0].strip()!r}"
    return [operator for operator in operators if operator.name not in why], why
