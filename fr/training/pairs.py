"""Pairs of completions as arrays, and pairs of failed and rescued attempts of a run."""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from fr.config import Config
from fr.errors import UserError
from fr.training.past_runs import Completion, PastRun
from fr.training.preference_loss import PreferenceBatch

BUCKET = 32  # lengths are rounded up to it

Pair = tuple[Completion, Completion]  # the better one and the worse


@dataclasses.dataclass(frozen=True)
class Pairs:
    """M completions, and P pairs of them; columns [W] count a completion's tokens.

    Attributes:
        tokens: Prompt and completion; -1 pads on the right.
        start: Index of the first token of each completion.
        mask: Learnt tokens.
        places: Index of the better completion of each pair, and of the worse.
        margin: Required difference of their rewards (arXiv 2507.21931).
    """

    tokens: Int[np.ndarray, "M T"]
    start: Int[np.ndarray, "M"]
    mask: Bool[np.ndarray, "M W"]
    places: Int[np.ndarray, "P 2"]
    margin: Float[np.ndarray, "P"]

    @property
    def columns_used(self) -> Int[np.ndarray, "M"]:
        """Columns that each completion needs, as `PaddedBatch.columns_used`."""
        return (self.tokens >= 0).sum(axis=1) - self.start.clip(
            max=self.tokens.shape[1] - self.mask.shape[1]
        )

    def batch(
        self,
        chosen: Sequence[int] | np.ndarray,
        ref_logp: Float[np.ndarray, "M W"] | None,
        size: int = 0,
    ) -> PreferenceBatch:
        """The rows of some pairs, the better one of each before the worse.

        Args:
            chosen: Indices of pairs.
            ref_logp: Log-probs of all completions under the reference; None: not
                needed.
            size: Pairs of the batch; missing ones are filled with pairs without tokens.

        Returns:
            The batch.
        """
        rows, margin = self.places[chosen].reshape(-1), self.margin[chosen]
        reference = None if ref_logp is None else ref_logp[rows]
        batch = PreferenceBatch(
            self.tokens[rows], self.start[rows], self.mask[rows], margin, reference
        )
        if not (less := size - len(margin)) > 0:
            return batch

        def filled(x, value):
            more = less * len(x) // len(margin)
            return np.concatenate([x, np.full((more, *x.shape[1:]), value, x.dtype)])

        # In the order of the fields: tokens, start, mask, margin, ref_logp.
        arrays, structure = jax.tree.flatten(batch)
        values = zip(arrays, (-1, 1, False, 0.0, 0.0))
        return jax.tree.unflatten(structure, [filled(x, value) for x, value in values])


def padded_rows(
    prompts: Sequence[Sequence[int] | np.ndarray],
    completions: Sequence[Sequence[int] | np.ndarray],
    learnt: Sequence[Sequence[bool] | np.ndarray],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Completions after their prompts as arrays of one shape.

    Args:
        prompts: Token ids.
        completions: Token ids.
        learnt: Which tokens of each completion are learnt.

    Returns:
        Tokens [M, T], starts [M] and masks [M, W]; T and W are rounded up to 32.
    """
    start = np.array([len(prompt) for prompt in prompts], np.int32)
    length = np.array([len(completion) for completion in completions], np.int32)
    bucket = lambda count: -(-int(count) // BUCKET) * BUCKET
    tokens = np.full((len(start), bucket((start + length).max())), -1, np.int32)
    mask = np.zeros((len(start), bucket(length.max())), bool)
    for row, marks, prompt, completion, own in zip(
        tokens, mask, prompts, completions, learnt
    ):
        row[: len(prompt) + len(completion)] = [*prompt, *completion]
        marks[: len(own)] = own
    return tokens, start, mask


def pairs_of(found: Sequence[Pair]) -> Pairs:
    """Pairs without margins; every pair has its own two rows.

    Args:
        found: Pairs of completions.

    Returns:
        The pairs as arrays.
    """
    rows = [completion for pair in found for completion in pair]
    table = padded_rows(
        [one.prompt for one in rows],
        [one.tokens for one in rows],
        [one.learnt for one in rows],
    )
    return Pairs(
        *table, np.arange(len(rows)).reshape(-1, 2), np.zeros(len(found), np.float32)
    )


def failed_and_rescued(past: PastRun, config: Config) -> list[Pair]:
    """(rescued, failed) pairs of a run, by `training.source`.

    Within a problem the two completions with the longest common beginning make a pair,
    then the next two that are left, at most `max_per_problem`; no completion is in two
    pairs. The common beginning is learnt in both or in neither (`pairs`), or always in
    neither (`pairs_parted`). The control `pairs_shuffled` gives each failed completion
    the rescued one of another problem that is nearest in length to its own.

    Args:
        past: The run.
        config: The whole configuration.

    Returns:
        The pairs, the better completion first.

    Raises:
        UserError: There is no pair.
    """
    failed, found = past.failed(), []
    for problem, rescued in past.all_rescued().items():
        matched = _matched(rescued, failed.get(problem, []))[
            : config.training.max_per_problem or None
        ]
        found += matched
    if config.training.source == "pairs_shuffled":
        found = _shuffled(found)
    else:
        found = [
            _in_common(*pair, config.training.source == "pairs_parted")
            for pair in found
        ]
    found = [
        (better, worse)
        for better, worse in found
        if better.learnt.any() or worse.learnt.any()
    ]
    if not found:
        raise UserError(
            f"config.training.run = {config.training.run!r} has no pair of a failed "
            "and a rescued attempt; try more operators or attempts there, or set "
            "config.training.operators = ()"
        )
    return found


def _matched(rescued: Sequence[Completion], failed: Sequence[Completion]) -> list[Pair]:
    """Pairs by length of their common beginning; a completion is in one at most."""
    alike = [
        (-common_prefix(better.tokens, worse.tokens), i, j)
        for i, better in enumerate(rescued)
        for j, worse in enumerate(failed)
    ]
    taken, lost, found = set(), set(), []
    for _, i, j in sorted(alike):
        if i not in taken and j not in lost:
            taken.add(i)
            lost.add(j)
            found.append((rescued[i], failed[j]))
    return found


def _in_common(better: Completion, worse: Completion, masked: bool) -> Pair:
    """A pair whose common beginning is learnt in both completions or in neither."""
    count = common_prefix(better.tokens, worse.tokens)
    common = better.learnt[:count] & worse.learnt[:count] & (not masked)
    learn = lambda one: dataclasses.replace(
        one, learnt=np.concatenate([common, one.learnt[count:]])
    )
    return learn(better), learn(worse)


def _shuffled(found: Sequence[Pair]) -> list[Pair]:
    """Each failed completion with the rescued one of another problem.

    Each is used once; the one nearest in length to its own is taken.
    """
    left, mixed = list(range(len(found))), []
    for own, failed in found:
        others = [i for i in left if found[i][0].problem != failed.problem]
        if others:
            nearest = min(
                others,
                key=lambda i: (abs(len(found[i][0].tokens) - len(own.tokens)), i),
            )
            left.remove(nearest)
            mixed.append((found[nearest][0], failed))
    return mixed


def common_prefix(one: Int[np.ndarray, "A"], other: Int[np.ndarray, "B"]) -> int:
    """Length of the common beginning of two completions.

    Args:
        one: Token ids.
        other: Token ids.

    Returns:
        Number of tokens.
    """
    count = min(len(one), len(other))
    differ = np.flatnonzero(one[:count] != other[:count])
    return int(differ[0]) if len(differ) else count
