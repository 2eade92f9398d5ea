"""Measures of several attempts together: votes, and the entropy of their answers."""

from collections import Counter
from collections.abc import Sequence

from fr.evaluation.measures import MeasureContext, Sums, register_measure
from fr.stats.votes import answer_entropy, vote_rate
from fr.store import Attempt
from fr.tasks.canonical import canonical_answers
from fr.types import RIGHT, Problem


def answers_of(problem: Problem, attempts: Sequence[Attempt]) -> list[str | None]:
    """Key of each attempt's answer; equal answers have equal keys, None has none.

    Args:
        problem: The problem.
        attempts: Attempts at it.

    Returns:
        A key or None per attempt.
    """
    texts = [a.text if a.read is None else a.read for a in attempts]
    return canonical_answers(problem.task, texts)


@register_measure("votes")
def votes(
    problem: Problem, attempts: Sequence[Attempt], context: MeasureContext
) -> Sums:
    """Share of problems that a plurality of k attempts solves, for k of `ks`: `vote@k`.

    The mean over all draws of k attempts without replacement. Ties are drawn, and an
    attempt without an answer abstains (arXiv 2203.11171).
    """
    answers = answers_of(problem, attempts)
    stated = Counter(answer for answer in answers if answer is not None)
    right = {answer for a, answer in zip(attempts, answers) if a.grade == RIGHT}
    missing = len(answers) - stated.total()
    ks = context.config.evaluation.ks
    return {
        f"vote@{k}": (vote_rate(stated, right, missing, k), 1.0)
        for k in ks
        if 1 < k <= len(answers)
    }


@register_measure("answer_entropy", plain=("answer_entropy",))
def entropy_of_answers(
    problem: Problem, attempts: Sequence[Attempt], context: MeasureContext
) -> Sums:
    """Entropy of a problem's answers, -sum_a p_a log p_a, in nats, mean over problems.

    p_a is the share of answer a among the attempts that state one.
    """
    stated = [a for a in answers_of(problem, attempts) if a is not None]
    return {"answer_entropy": (answer_entropy(stated), float(bool(stated)))}
