"""Measures of CoT-decoding, where attempts are branches (arXiv 2402.10200)."""

from collections.abc import Sequence

import numpy as np

from fr.evaluation.measures import MeasureContext, Sums, register_measure
from fr.evaluation.measures_votes import answers_of
from fr.stats.calibration import answer_confidence
from fr.stats.pass_at_k import plurality, surest, weighted
from fr.store import Attempt
from fr.tasks.formats import answer_span
from fr.types import RIGHT, Problem


@register_measure("branches", plain=("margin_right", "margin_wrong"))
def branches(
    problem: Problem, attempts: Sequence[Attempt], context: MeasureContext
) -> Sums:
    """Accuracy of one answer chosen from the branches, and their margins.

    Delta of a branch is the mean over its answer's tokens of p(1st) - p(2nd).
    `branch_greedy` takes the branch of the likeliest first token, `branch_margin` the
    largest Delta, `branch_summed` the answer with the largest sum of Delta,
    `branch_vote` the most frequent answer. `margin_right` and `margin_wrong` are the
    mean Delta of right and of wrong branches, probabilities.
    """
    ordered = sorted(attempts, key=lambda a: a.attempt)
    answers, deltas = answers_of(problem, ordered), []
    for a in ordered:
        span = answer_span(problem, a.tokens.tolist(), context.codec)
        deltas.append(answer_confidence(a.stats["margin"], span))
    # A branch without an answer of its own has no Delta and cannot be chosen.
    stated = [None if np.isnan(d) else answer for answer, d in zip(answers, deltas)]
    right = [a.grade == RIGHT for a in ordered]
    draw = np.random.default_rng([context.config.seed, *problem.id.encode()])
    chosen = {
        "greedy": 0,
        "margin": surest(stated, deltas, draw),
        "summed": weighted(stated, deltas, draw),
        "vote": plurality(stated, draw),
    }
    found = {
        f"branch_{name}": (float(i is not None and right[i]), 1.0)
        for name, i in chosen.items()
    }
    for name, wanted in (("right", True), ("wrong", False)):
        own = [d for d, hit in zip(deltas, right) if hit is wanted and not np.isnan(d)]
        found[f"margin_{name}"] = (float(sum(own)), float(len(own)))
    return found
