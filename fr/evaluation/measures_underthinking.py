"""Underthinking: right thoughts that a wrong response left (arXiv 2501.18585)."""

from collections.abc import Sequence

from fr.errors import UserError
from fr.evaluation.measures import MeasureContext, Sums, register_measure
from fr.store import Attempt
from fr.tasks.formats import CompletionText, format_of
from fr.tasks.thoughts import thought_ends
from fr.types import Problem, is_failure

# Probability of a right forced answer from which on a thought is correct [ours].
CORRECT = 0.5


@register_measure("underthinking", plain=("thoughts", "thought_tokens"))
def underthinking(
    problem: Problem, attempts: Sequence[Attempt], context: MeasureContext
) -> Sums:
    """Share of a wrong response that follows its first correct thought.

        xi_UT = mean over wrong responses of (1 - T' / T)

    T are the tokens of a response without its stop token, T' those up to the end of its
    first correct thought; without one the response adds 0 [ours]. A thought ends where
    a switch word begins, the last one where the reasoning ends. It is correct if an
    answer that is forced after its end is right with probability 1/2 or more, by the
    probe's score. Responses without such a probe, which needs a reference, are left
    out.

    Args:
        problem: The problem.
        attempts: All attempts at it.
        context: `evaluation.cuts_at` must be thoughts.

    Returns:
        `underthinking`, a share, and `left_correct`, the share of the wrong responses
        with a correct thought. `thoughts` per response, and mean `thought_tokens`.

    Raises:
        UserError: The probes are not at the ends of thoughts.
    """
    if context.config.evaluation.cuts_at != "thoughts":
        raise UserError(
            "config.evaluation.measures: 'underthinking' forces an answer after every "
            "thought; set config.evaluation.cuts_at = 'thoughts'"
        )
    form = format_of(problem.task)
    left, wrong, correct, thoughts, probed, tokens = 0.0, 0, 0, 0, 0, 0
    for attempt in attempts:
        text = CompletionText(form, attempt.tokens.tolist(), context.codec)
        count = len(thought_ends(text.reasoning, form.switches))
        thoughts += count
        gold = attempt.confidence.get("gold_probability")
        if gold is None:
            continue
        cuts = attempt.confidence["cuts"][:count]
        probed += count
        tokens += int(cuts[-1]) if count else 0
        if is_failure(attempt.grade):
            wrong += 1
            first = next((c for c, p in zip(cuts, gold) if p >= CORRECT), None)
            if first is not None:
                correct += 1
                left += 1 - int(first) / (len(text.tokens) - text.ended)
    return {
        "underthinking": (left, wrong),
        "left_correct": (correct, wrong),
        "thoughts": (thoughts, len(attempts)),
        "thought_tokens": (tokens, probed),
    }
