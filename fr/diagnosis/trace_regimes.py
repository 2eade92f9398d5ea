"""The regime of a failed attempt, told from its text alone: no reference, no label."""

from collections.abc import Sequence

from fr.diagnosis.features import thoughts
from fr.tasks.steps import Step, find_steps

EXECUTION, PREMATURE, UNDERTHINKING, WANDERING = REGIMES = (
    "execution",
    "premature",
    "underthinking",
    "wandering",
)

FEW = 2  # candidates after which a search that stops has stopped early
_VERDICTS = ("no", "up", "yes")  # Countdown's marks of a candidate
_SIGNS = "+-*/"


def regime_of(
    text: str, answer: str | None, truncated: bool, switches: Sequence[str]
) -> str:
    """The regime of an attempt that failed; the first rule that holds decides.

    - `execution`: a step states a false result, by exact arithmetic
    - `premature`: an answer after fewer steps than it has operations, at least one
    - `underthinking`: it ended by itself after at most 2 candidates. A candidate is a
      step with a verdict (Countdown), else a thought between switch words
    - `wandering`: everything else, among it all that ended without an answer

    The regimes and their names are after arXiv 2501.18585 (underthinking), 2505.20296
    (wandering) and 2605.24396 (premature); the rules are ours.

    Args:
        text: The completion.
        answer: Its stated answer; None: there is none.
        truncated: It ended without a stop token.
        switches: Words that leave a thought for another.

    Returns:
        One of `REGIMES`.
    """
    steps = find_steps(text)
    if not all(step.true for step in steps):
        return EXECUTION
    if truncated or answer is None:
        return WANDERING
    if len(steps) < max(1, sum(answer.count(sign) for sign in _SIGNS)):
        return PREMATURE
    return UNDERTHINKING if _candidates(text, steps, switches) <= FEW else WANDERING


def _candidates(text: str, steps: Sequence[Step], switches: Sequence[str]) -> int:
    marked = sum(step.mark in _VERDICTS for step in steps)
    return marked or sum(words > 0 for words in thoughts(text, switches))
