"""Planned attempts: a request, and what the request does not say."""

import dataclasses
from collections.abc import Callable

import numpy as np

from fr.interventions import Intervention
from fr.runs.run import Run
from fr.sampling.sampling_params import row_key
from fr.sampling.sources import PauseAction
from fr.types import Problem, Request

# Operator whose keys the attempts of all operators have where they share them.
SHARED = "retry"


@dataclasses.dataclass(frozen=True)
class Planned:
    """One attempt to make: its request, and what the request does not say."""

    row: Request  # prompt, key and sampling parameters
    problem: Problem  # the problem that is attempted
    operator: str  # its name
    attempt: int  # index among the problem's attempts by this operator
    reads_ancestor: bool  # the ancestor reads along in the decode loop
    # Tokens at the end of the prompt that the grader reads before the new text.
    cue: int = 0
    # Called with the row's tokens at its pause tokens; gives what to insert.
    on_pause: Callable[[np.ndarray], PauseAction] | None = None
    quiet: bool = False  # no statistics of its tokens are kept

    @property
    def group(self) -> int:
        """Rows of a group are decoded by one engine, and share shards."""
        return self.reads_ancestor + 2 * self.steered + 4 * self.quiet

    @property
    def steered(self) -> bool:
        """The row names steering vectors."""
        return "vector" in self.row.params


def plan_attempt(
    run: Run,
    prompt: tuple[int, ...],
    problem: Problem,
    operator: str,
    attempt: int,
    own: dict,
    reads: bool,
) -> Planned:
    """Plan an attempt under the run's sampling settings, changed by an operator's own.

    Args:
        run: The run, whose seed and specialist are read.
        prompt: Token ids of the whole prompt.
        problem: The problem that is attempted.
        operator: Name of the operator; `fr.types.ROLLOUT` for a plain rollout.
        attempt: Index among the problem's attempts by this operator.
        own: Fields of SamplingParams that differ from `config.sampling`.
        reads: The ancestor reads along in the decode loop.

    Returns:
        The planned attempt; its key depends on seed, problem, operator and index alone.
    """
    c = run.config.sampling
    params = {
        "temperature": c.temperature,
        "top_p": c.top_p,
        "top_k": c.top_k,
        "stop": run.specialist.stop_tokens,
        "budget": c.max_new_tokens,
        **own,
    }
    key = row_key(run.config.seed, problem.id, operator, attempt)
    return Planned(
        Request(f"{problem.id}/{operator}/{attempt}", prompt, key, params),
        problem,
        operator,
        attempt,
        reads,
    )


def plan_change(
    run: Run,
    prompt: tuple[int, ...],
    problem: Problem,
    operator: str,
    attempt: int,
    change: Intervention,
    reads: bool,
    shared: str = SHARED,
) -> Planned:
    """Plan an attempt as an operator changes it.

    With `intervention.keys = "shared"` its key depends on seed, problem and index
    alone: until their first different token, two operators draw the same numbers.

    Args:
        run: The run.
        prompt: Token ids of the problem's prompt.
        problem: The problem that is attempted.
        operator: Name of the operator.
        attempt: Index among the problem's attempts by this operator.
        change: The operator's edit. Tokens that it keeps of a failed attempt follow the
            prompt, and the grader reads them.
        reads: The ancestor reads along in the decode loop.
        shared: Operator whose keys it has where operators share them.

    Returns:
        The planned attempt.
    """
    if change.prompt is not None:
        prompt = run.specialist.encode(change.prompt)
    planned = plan_attempt(
        run, (*prompt, *change.kept), problem, operator, attempt, change.params, reads
    )
    key = planned.row.key
    if run.config.intervention.keys == "shared":
        key = row_key(run.config.seed, problem.id, shared, attempt)
    row = dataclasses.replace(planned.row, key=key, rest=change.rest)
    return dataclasses.replace(
        planned, row=row, cue=len(change.kept), on_pause=change.on_pause
    )
