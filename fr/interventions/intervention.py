"""Records of operators: what they read, and how they change an attempt."""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from fr.config import Config
from fr.diagnosis.features import running_confidence
from fr.diagnosis.junction import Calibration, Trace
from fr.sampling.sampling_params import row_key
from fr.sampling.sources import PauseAction
from fr.tasks.formats import Codec, CompletionText, Format, format_of
from fr.tasks.steps import Step, find_steps
from fr.types import Problem, Prompt


@dataclasses.dataclass(frozen=True)
class Failure:
    """A failed attempt at the problem.

    Attributes:
        written: Its text and tokens.
        trace: Scores of its tokens.
    """

    written: CompletionText
    trace: Trace

    @functools.cached_property
    def lowest_confidence(self) -> Callable[[int], float]:
        """The lowest running DeepConf confidence, by window in tokens."""
        drawn = self.trace.scores["top20_confidence"][self.trace.sampled]
        return functools.cache(
            lambda window: float(
                running_confidence(drawn, window)[min(window, len(drawn)) - 1 :].min()
            )
        )

    @functools.cached_property
    def false_step(self) -> Step | None:
        """The first step of its reasoning with false arithmetic; None: all are true."""
        return next(
            (step for step in find_steps(self.written.reasoning) if not step.true), None
        )


@dataclasses.dataclass(frozen=True)
class OperatorContext:
    """All that an operator may read when it fills one attempt at a problem.

    Attributes:
        config: The whole configuration.
        problem: The problem.
        attempt: Number of the attempt, from 0.
        calibration: Thresholds and background of the problem's failures.
        has_ancestor: The run has a second model.
        prompt: The prompt of a plain attempt.
        failures: Failed rollouts of the problem.
        codec: Encodes and decodes; None: the operator is asked without a model.
        cut: First tokens of `failure` that the attempt keeps; 0: it begins at the
            prompt.
    """

    config: Config
    problem: Problem
    attempt: int
    calibration: Calibration
    has_ancestor: bool
    prompt: Prompt = ""
    failures: tuple[Failure, ...] = ()
    codec: Codec | None = None
    cut: int = 0

    @property
    def failure(self) -> Failure:
        """The failure that this attempt may start from; attempts rotate them."""
        return self.failures[self.attempt % len(self.failures)]

    @property
    def format(self) -> Format:
        """The format of the task's completions."""
        return format_of(self.problem.task)

    def generator(self) -> np.random.Generator:
        """A generator of this attempt, independent of the row's draws."""
        return np.random.default_rng(
            row_key(self.config.seed, "operator", self.problem.id, self.attempt)
        )


@dataclasses.dataclass(frozen=True)
class Intervention:
    """Differences of an attempt from a plain one.

    Attributes:
        params: Fields of `SamplingParams`.
        prompt: Read in place of the task's prompt; None: the task's.
        kept: Tokens that follow the prompt and are read, not decoded.
        rest: Tokens that followed them in their trace; see `Request`.
        on_pause: Called at the row's pause tokens with its tokens; gives the action.
    """

    params: dict = dataclasses.field(default_factory=dict)
    prompt: Prompt | None = None
    kept: tuple[int, ...] = ()
    rest: tuple[int, ...] = ()
    on_pause: Callable[[np.ndarray], PauseAction] | None = None


@dataclasses.dataclass(frozen=True)
class Operator:
    """One bounded intervention; see `register`.

    Attributes:
        name: Name in `config.intervention.operators`.
        fill: context -> `Intervention`, or only its `params`.
        needs_ancestor: It cannot run without an ancestor.
        uses_ancestor: It reads an ancestor if there is one, and is charged for it.
        deterministic: All attempts are equal, so one is made.
        uses_oracle: It uses truth that no model gave, such as arithmetic.
        reads_failures: It starts from failed attempts, or from statistics of them.
        words: format -> texts that the tokenizer must be able to write.
        uses_vectors: Its rows name steering vectors, which the engine must hold.
    """

    name: str
    fill: Callable[[OperatorContext], dict | Intervention]
    needs_ancestor: bool = False
    uses_ancestor: bool = False
    deterministic: bool = False
    uses_oracle: bool = False
    reads_failures: bool = False
    words: Callable[[Format], tuple[str, ...]] = lambda form: ()
    uses_vectors: bool = False

    def change(self, context: OperatorContext) -> Intervention:
        """The intervention of one attempt.

        Args:
            context: The problem, its failures and the attempt's number.

        Returns:
            The intervention.
        """
        filled = self.fill(context)
        return filled if isinstance(filled, Intervention) else Intervention(filled)
