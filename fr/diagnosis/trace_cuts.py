"""Places at which a trace may be cut: the ends of its steps, in tokens."""

import numpy as np
from jaxtyping import Int

from fr.tasks.formats import CompletionText


def step_ends(written: CompletionText) -> Int[np.ndarray, "C"]:
    """Tokens up to the end of each step of the reasoning.

    Args:
        written: The trace.

    Returns:
        Numbers of tokens in order, 0 first, all below the length of the trace.
    """
    ends = {written.count(end) for end in written.ends}
    return np.array(sorted(end for end in ends if end < len(written.tokens)), int)


def equal_cuts(ends: Int[np.ndarray, "C"], count: int) -> tuple[int, ...]:
    """Cuts nearest to equal shares of a trace.

    Args:
        ends: Possible cuts in tokens, in order, 0 first.
        count: Number of cuts, K.

    Returns:
        K cuts from 0 to the last one; a trace of few steps has some of them twice.
    """
    wanted = np.linspace(0, ends[-1], count)
    nearest = np.abs(ends[:, None] - wanted).argmin(axis=0)
    return tuple(int(cut) for cut in ends[nearest])
