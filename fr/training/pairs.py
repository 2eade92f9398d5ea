"""Pairs of completions as arrays, and the pairs of a failed and a rescued attempt that a run holds."""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from fr.config import Config
from fr.errors import UserError
from fr.training.past_runs import Completion, Past, shared_prefix
from fr.training.preference_loss import PreferenceBatch

_BUCKET = 32  # lengths are rounded up to it

Pair = tuple[Completion, Completion]  # the better one and the worse


@dataclasses.dataclass(frozen=True)
class Pairs:
    """M completions, and P pairs of them; columns of [M, W] count a completion's tokens."""

    tokens: Int[np.ndarray, "M T"]  # prompt and completion; -1 pads on the right
    start: Int[np.ndarray, "M"]
    mask: Bool[np.ndarray, "M W"]
    places: Int[np.ndarray, "P 2"]  # of the better one and of the worse
    margin: Float[np.ndarray, "P"]

    @property
    def needs(self) -> Int[np.ndarray, "M"]:
        """Columns that a completion needs, as `PolicyBatch.needs`."""
        return (self.tokens >= 0).sum(axis=1) - self.start.clip(
            max=self.tokens.shape[1] - self.mask.shape[1]
        )

    def batch(
        self,
        chosen: Sequence[int],
        ref_logp: Float[np.ndarray, "M W"] | None,
        size: int = 0,
    ) -> PreferenceBatch:
        """The rows of some pairs, the better one of each before the worse; up to `size` pairs without tokens."""
        rows, margin = self.places[chosen].reshape(-1), self.margin[chosen]
        reference = None if ref_logp is None else ref_logp[rows]
        batch = PreferenceBatch(
            self.tokens[rows], self.start[rows], self.mask[rows], margin, reference
        )
        if not (less := size - len(margin)) > 0:
            return batch
        values = PreferenceBatch(-1, 1, False, 0.0, None if reference is None else 0.0)

        def filled(x, value):
            more = less * len(x) // len(margin)
            return np.concatenate([x, np.full((more, *x.shape[1:]), value, x.dtype)])

        return jax.tree.map(filled, batch, values)


def arrays(
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    learnt: Sequence[Sequence[bool]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens, starts and masks of completions behind their prompts, as arrays of one shape."""
    start = np.array([len(prompt) for prompt in prompts], np.int32)
    length = np.array([len(completion) for completion in completions], np.int32)
    bucket = lambda count: -(-int(count) // _BUCKET) * _BUCKET
    tokens = np.full((len(start), bucket((start + length).max())), -1, np.int32)
    mask = np.zeros((len(start), bucket(length.max())), bool)
    for row, marks, prompt, completion, own in zip(
        tokens, mask, prompts, completions, learnt
    ):
        row[: len(prompt) + len(completion)] = [*prompt, *completion]
        marks[: len(own)] = own
    return tokens, start, mask


def as_pairs(found: Sequence[Pair]) -> Pairs:
    """Pairs without margins, each with rows of its own."""
    rows = [completion for pair in found for completion in pair]
    table = arrays(
        [one.prompt for one in rows],
        [one.tokens for one in rows],
        [one.learnt for one in rows],
    )
    return Pairs(
        *table, np.arange(len(rows)).reshape(-1, 2), np.zeros(len(found), np.float32)
    )


def failed_and_rescued(past: Past, config: Config) -> list[Pair]:
    """(rescued, failed) pairs of a run by `training.source`; raises UserError if there is none.

    Within a problem the two that begin alike longest make a pair, then the next two that are left, at most
    `max_per_problem`: none stands in two pairs. What they begin with in common is learnt in both or in neither
    (`pairs`), or in neither (`pairs_parted`). The control `pairs_shuffled` then gives every failed one the rescued
    one of another problem that is nearest to its own in length.
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
            f"config.training.run = {config.training.run!r} has no pair of a failed and a rescued attempt; try more "
            "operators or attempts there, or set config.training.operators = ()"
        )
    return found


def _matched(rescued: Sequence[Completion], failed: Sequence[Completion]) -> list[Pair]:
    """Pairs in the order of what they begin with in common, longest first; each completion in one at most."""
    alike = [
        (-shared_prefix(better.tokens, worse.tokens), i, j)
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
    """A pair whose common beginning is learnt from alike in both, or not at all."""
    count = shared_prefix(better.tokens, worse.tokens)
    common = better.learnt[:count] & worse.learnt[:count] & (not masked)
    learn = lambda one: dataclasses.replace(
        one, learnt=np.concatenate([common, one.learnt[count:]])
    )
    return learn(better), learn(worse)


def _shuffled(found: Sequence[Pair]) -> list[Pair]:
    """Every failed one with the rescued one of another problem, each used once, nearest in length to its own."""
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
