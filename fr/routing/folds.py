"""Which problems a policy learns from and which it is judged on; a protocol that cannot be is said so."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Int

from fr.routing.pool import Pool

OUT_OF_FOLD = ("kfold", "leave_cell_out", "leave_family_out")


@dataclasses.dataclass(frozen=True)
class Fold:
    """Rows that a policy may learn from, and rows that it is judged on; no problem is in both."""

    train: Bool[np.ndarray, "N"]
    test: Bool[np.ndarray, "N"]


def make_folds(
    pool: Pool, protocol: str, folds: int, rng: np.random.Generator
) -> list[Fold] | str:
    """The folds of `protocol`, which together judge every row once, or a plain word why there are none.

    kfold splits each family's problems, so that a problem of two cells is on one side in both. Leaving a cell
    or a family out keeps the same problem of another model in training: said by the protocol's name.
    """
    if protocol == "kfold":
        if len(np.unique(pool.problem)) < 2 * folds:
            return f"needs {2 * folds} problems for {folds} folds"
        fold = assign(pool, np.ones(len(pool), bool), folds, rng)
        return [Fold(fold != k, fold == k) for k in range(folds)]
    groups, what = (
        (pool.cell, "cell") if protocol == "leave_cell_out" else (pool.family, "family")
    )
    count = int(groups.max()) + 1
    if count < 2:
        return f"needs two {'cells' if what == 'cell' else 'families'}; the profiles have one {what}"
    return [Fold(groups != g, groups == g) for g in range(count)]


def assign(
    pool: Pool, rows: Bool[np.ndarray, "N"], folds: int, rng: np.random.Generator
) -> Int[np.ndarray, "N"]:
    """A fold for every row, that of its problem, even within each family; −1 outside of `rows`."""
    fold = np.full(len(pool), -1)
    for family in range(len(pool.families)):
        chosen = rows & (pool.family == family)
        problems, member = np.unique(pool.problem[chosen], return_inverse=True)
        fold[chosen] = (rng.permutation(len(problems)) % folds)[member]
    return fold


def resample_problems(
    pool: Pool, rows: Int[np.ndarray, "M"], resamples: int, rng: np.random.Generator
) -> np.ndarray:
    """[R+1, M] how often each resample holds each row: a problem brings its rows of all cells along.

    Problems of the same cells are exchanged with each other only, so that every cell keeps its size (but for a
    question that a cell holds several times). Row 0 is the sample itself.
    """
    problems, member = np.unique(pool.problem[rows], return_inverse=True)
    held: list[set[int]] = [set() for _ in problems]
    for row, p in zip(rows, member):
        held[p].add(int(pool.cell[row]))
    weights = np.ones((resamples + 1, len(problems)))
    for kind in sorted({tuple(sorted(cells)) for cells in held}):
        alike = [p for p, cells in enumerate(held) if cells == set(kind)]
        drawn = rng.multinomial(
            len(alike), np.full(len(alike), 1 / len(alike)), size=resamples
        )
        weights[1:, alike] = drawn
    return weights[:, member]
