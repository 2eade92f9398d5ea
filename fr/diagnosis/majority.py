"""The vote over attempts: one answer is returned and nobody checks it, so no gold enters."""

from collections import Counter
from collections.abc import Sequence

import numpy as np


def plurality(answers: Sequence[str | None], generator: np.random.Generator) -> int | None:
    """Index of the first attempt with the most frequent answer; None (unparsed) abstains, ties are drawn.

    None if nobody votes.
    """
    votes = Counter(answer for answer in answers if answer is not None)
    if not votes:
        return None
    most = max(votes.values())
    best = [answer for answer in votes if votes[answer] == most]
    return list(answers).index(best[generator.integers(len(best))])
