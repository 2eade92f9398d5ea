"""Small batches for tests of reward terms: 8 rows of 12 tokens, two problems of four
rows.
"""

import numpy as np

from fr.sampling.structs import TokenStats
from fr.types import (
    GRADER_ERROR,
    RIGHT,
    UNPARSED,
    WRONG,
    Problem,
    RewardBatch,
    Trajectory,
    Truth,
)

ROWS, TOKENS, CUTS, GROUP = 8, 12, 6, 4
PER_TOKEN = ("tokens", "mask", "sample_logp")
STATS = tuple(TokenStats.__dataclass_fields__)


def trajectory(probability, known=None) -> Trajectory:
    """Confidence in answers of three tokens each."""
    p = np.array(probability, np.float32)
    known = np.ones(len(p), bool) if known is None else np.array(known)
    return Trajectory(p, np.log(np.maximum(p, 1e-6)) / 3, known)


def batch(seed: int = 0, **fields) -> RewardBatch:
    """A batch of random numbers with everything in it; `fields` replace what a test is
    about.
    """
    draw = np.random.default_rng(seed)
    length = draw.integers(5, TOKENS + 1, ROWS)
    at = np.arange(TOKENS)
    live = at < length[:, None]
    problems = [
        Problem(f"p{i}", f"question {i}", f"gold {i}", "t", {"solution": f"gold {i}"})
        for i in range(2)
    ]
    given = {
        "tokens": np.where(live, draw.integers(0, 5, live.shape), -1),
        "mask": live & (at != 1),  # the second token of each row was forced
        "length": length,
        "truncated": draw.random(ROWS) < 0.3,
        "answer": np.stack([length - 3, length - 1], axis=1),
        "texts": tuple(f"so {i} no but {i} up that 7" for i in range(ROWS)),
        "problems": tuple(problems[i // GROUP] for i in range(ROWS)),
        "stats": {
            name: np.where(live, draw.random(live.shape, np.float32), 0)
            for name in STATS
        },
        "sample_logp": np.where(live, -draw.random(live.shape, np.float32), 0),
        "cuts": np.sort(draw.integers(0, length[:, None] - 3, (ROWS, CUTS)), axis=1),
        "own": trajectory(draw.random((ROWS, CUTS))),
        "truth": Truth(
            (RIGHT, WRONG, UNPARSED, RIGHT, WRONG, WRONG, GRADER_ERROR, RIGHT),
            tuple(problems[i // GROUP].answer for i in range(ROWS)),
            trajectory(draw.random((ROWS, CUTS))),
        ),
        "group": GROUP,
        "step": 3,
        "judged": draw.normal(size=ROWS),
    }
    shown = [*fields.get("stats", {}).values(), *map(fields.get, PER_TOKEN)]
    width = next((x.shape[1] for x in shown if x is not None), TOKENS)
    rows = next(
        (len(fields[n]) for n in (*PER_TOKEN, "length", "texts") if n in fields), ROWS
    )
    if "stats" in fields:
        rows = len(next(iter(fields["stats"].values())))
    return RewardBatch(**_fitted(given, rows, width) | fields)


def _fitted(given: dict, rows: int, width: int) -> dict:
    """The default fields for the number of rows and tokens that a test gives."""

    def fit(name: str, value):
        if name == "stats":
            return {n: fit("tokens", x) for n, x in value.items()}
        if isinstance(value, tuple) or (isinstance(value, np.ndarray) and rows < ROWS):
            value = value[:rows]
        if name in PER_TOKEN and width != TOKENS:
            value = np.resize(value, (len(value), width))
        return value

    return {name: fit(name, value) for name, value in given.items()}
