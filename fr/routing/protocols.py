"""Two ways of reading the same attempts: the source's, and the one without the winner's curse.

In the source's protocol (arXiv 2606.05145) a problem is called steerable by the very rates it is then scored
with, and the z-scores are taken over those problems. In `split halves` [ours] one half of the attempts
decides which problems count and which fixed operator is best, and the other half gives the rates; the
z-scores are over all failed problems.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int

from fr.config import RoutingConfig
from fr.diagnosis.labels import STEERABLE, label
from fr.routing.attempts import fixed_rates, halve, recover_attempts, successes
from fr.routing.profiles import Profiles

_FEWEST = 4  # attempts that can be halved without a half of one


@dataclasses.dataclass(frozen=True)
class View:
    """A cell as a protocol sees it. H: halvings, each used both ways (H = 1 in the source's protocol)."""

    kept: Int[np.ndarray, "N"]  # rows of the profile that the protocol can use
    steerable: Bool[np.ndarray, "H N"]  # problems that count, by the deciding attempts
    deciding: Float[np.ndarray, "H N O"]  # rates that choices are made from
    scoring: Float[np.ndarray, "H N O"]  # rates that results are read from
    calibration: Int[np.ndarray, "M"]  # rows of the profile that z-statistics are over
    dropped: int = 0  # problems without enough attempts, or whose number is unknown
    fixed: tuple[str, ...] = ()  # deterministic operators: the same rate in both halves


def source_view(profiles: Profiles, routing: RoutingConfig) -> View:
    """Every rate decides and scores."""
    steerable = (
        label(profiles.rates, profiles.operators, routing.margin, routing.hard)
        == STEERABLE
    )
    rates = profiles.rates[None]
    return View(
        np.arange(len(profiles)),
        steerable[None],
        rates,
        rates,
        np.flatnonzero(steerable),
    )


def halves_view(
    profiles: Profiles, routing: RoutingConfig, rng: np.random.Generator
) -> View | None:
    """Disjoint halves, both ways: [0, S) decide by the first half, [S, 2S) by the second.

    Problems with fewer than 4 attempts of an operator, or an unknown number, are dropped and counted; None if
    no problem is left. Half the attempts means noisier labels than the source's: two different sets of
    problems.
    """
    attempts = recover_attempts(profiles)
    fixed = fixed_rates(profiles)
    kept = np.flatnonzero(((attempts >= _FEWEST) | fixed).all(axis=1))
    if not len(kept):
        return None
    correct = successes(profiles.rates, attempts)
    one, other = halve(correct[kept], attempts[kept], fixed, routing.splits, rng)
    deciding, scoring = np.concatenate([one, other]), np.concatenate([other, one])
    # A deterministic operator has its rate, whatever number of attempts was printed.
    deciding[..., fixed] = scoring[..., fixed] = profiles.rates[kept][:, fixed]
    return View(
        kept,
        label(deciding, profiles.operators, routing.margin, routing.hard) == STEERABLE,
        deciding,
        scoring,
        np.arange(len(profiles)),
        len(profiles) - len(kept),
        tuple(name for name, same in zip(profiles.operators, fixed) if same),
    )


def repeats(view: View) -> tuple[float, float]:
    """Share of the problems called steerable by one half that the other calls so too; and of all problems."""
    again = np.roll(view.steerable, len(view.steerable) // 2, axis=0)
    called = max(1, view.steerable.sum())
    return float((view.steerable & again).sum() / called), float(view.steerable.mean())
