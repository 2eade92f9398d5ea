"""Confidence as the papers measure it: answers are sampled behind every cut, and the accepted ones are counted.

Beside a probe it costs a prompt of its own for every cut, prompt + tokens up to the cut + cue, and up to BUDGET
decoded tokens for every sample.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int

from fr.sampling.rows import row_key
from fr.types import Probe, Rollout, Row

SAMPLES, BUDGET = 10, 32  # of a cut, and tokens of each (arXiv 2605.24396)


def forced_rows(
    rollout: Rollout, probe: Probe, seed: int, samples: int = SAMPLES
) -> list[Row]:
    """Rows that answer behind the cuts of a probe, `samples` of each cut in turn, at temperature 1.

    They stop where the rollout's own row does.
    """
    row, params = (
        rollout.row,
        {"budget": BUDGET, "stop": rollout.row.params.get("stop", ())},
    )
    return [
        Row(
            f"{row.id}/cut {c}/{i}",
            (*row.prompt, *rollout.tokens[:cut].tolist(), *probe.cue),
            row_key(seed, row.id, "forced answer", c, i),
            params,
        )
        for c, cut in enumerate(probe.cuts)
        for i in range(samples)
    ]


def shares(
    answers: Sequence[Rollout],
    accept: Callable[[Int[np.ndarray, "T"]], bool],
    samples: int = SAMPLES,
) -> Float[np.ndarray, "C"]:
    """Share of accepted tokens behind each cut; `answers` are the rollouts of `forced_rows` in their order."""
    accepted = np.array([accept(answer.tokens) for answer in answers], np.float32)
    return accepted.reshape(-1, samples).mean(axis=1)
