"""Confidence along finished rollouts, scored while sampling or sampled afterwards."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int

from fr import distributed
from fr.config import RewardsConfig
from fr.models import Model
from fr.sampling.engine import Engine
from fr.sampling.probes import BUDGET, accepted_share, forced_requests
from fr.sampling.sources import ProbePlan
from fr.tasks.formats import build_probe
from fr.tasks.task import Task
from fr.types import RIGHT, Probe, Problem, Rollout, Trajectory

_FIELDS = ("probability", "mean_logp", "known")


@dataclasses.dataclass(frozen=True)
class ConfidenceCurves:
    """Confidence of B rollouts at C cuts, by set of answers; None: not measured.

    Attributes:
        cuts: Tokens kept at each cut.
        own: Confidence in the row's own answer.
        gold: Confidence in the right answers.
        positions: Forward tokens spent on it, beyond the rollouts' own.
    """

    cuts: Int[np.ndarray, "B C"] | None = None
    own: Trajectory | None = None
    gold: Trajectory | None = None
    positions: int = 0

    def of(self, rows: Int[np.ndarray, "R"]) -> "ConfidenceCurves":
        """The curves of some rows.

        Args:
            rows: Indices of rollouts.

        Returns:
            Their curves; `positions` is 0, since it is known for the whole batch only.
        """
        take = lambda one: (
            one
            and Trajectory(one.probability[rows], one.mean_logp[rows], one.known[rows])
        )
        return ConfidenceCurves(
            None if self.cuts is None else self.cuts[rows],
            take(self.own),
            take(self.gold),
        )


def join_curves(parts: Sequence[ConfidenceCurves]) -> ConfidenceCurves:
    """Concatenate the curves of several groups.

    Args:
        parts: Curves in the order of the batch.

    Returns:
        Curves of the batch.
    """

    def join(found):
        if found[0] is None:
            return None
        if isinstance(found[0], Trajectory):
            return Trajectory(
                *(np.concatenate([getattr(x, f) for x in found]) for f in _FIELDS)
            )
        return np.concatenate(found)

    return ConfidenceCurves(
        *(
            join([getattr(part, name) for part in parts])
            for name in ("cuts", "own", "gold")
        )
    )


def scoring_plan(
    problems: Mapping[str, Problem],
    codec: Model,
    sets: Sequence[str],
    config: RewardsConfig,
) -> ProbePlan:
    """The probe of each finished row, as a plan for `Engine.sample`.

    Args:
        problems: Problems by the ids of their rows.
        codec: Encodes and decodes.
        sets: Sets of answers ("own", "gold") to score.
        config: Settings of rewards; `cuts` is the number of cuts.

    Returns:
        (row, tokens) -> probe.
    """
    return lambda row, tokens: build_probe(
        problems[row.id], tokens, codec, config.cuts, sets
    )


def scored(
    rollouts: Sequence[Rollout], sets: Sequence[str], config: RewardsConfig
) -> ConfidenceCurves:
    """The curves that a `scoring_plan` measured.

    Args:
        rollouts: Finished rollouts with their `confidence`.
        sets: Sets of answers that were scored.
        config: Settings of rewards.

    Returns:
        Probability of a forced answer of each set, and its mean log-prob per token.
    """
    found = [rollout.confidence for rollout in rollouts]
    rows = [
        {
            name: (c.probability(name), c.mean_logp(name))
            for name in sets
            if name in c.logp
        }
        if c
        else {}
        for c in found
    ]
    cuts = [c.cuts if c else np.zeros(config.cuts) for c in found]
    curves = {
        name: _trajectory([row.get(name) for row in rows], config.cuts) for name in sets
    }
    return ConfidenceCurves(
        cuts=np.array(cuts, np.int32),
        own=curves.get("own"),
        gold=curves.get("gold"),
    )


def sampled(
    engine: Engine,
    task: Task,
    codec: Model,
    asked: Sequence[tuple[Problem, Rollout]],
    sets: Sequence[str],
    longest: int,
    config: RewardsConfig,
    seed: int,
) -> ConfidenceCurves:
    """Shares of forced answers that are sampled at each cut (arXiv 2605.24396).

    Args:
        engine: Samples the answers.
        task: Grades answers against gold.
        codec: Encodes and decodes.
        asked: Problems and their rollouts.
        sets: Sets of answers ("own", "gold").
        longest: Tokens of the longest possible rollout, prompt included.
        config: Settings of rewards; `samples` answers per cut.
        seed: Seed of the answers' keys.

    Returns:
        Shares in [0, 1]; log-probs are 0.
    """
    probes = [
        build_probe(problem, rollout.tokens, codec, config.cuts)
        for problem, rollout in asked
    ]
    known = [(problem, rollout, p) for (problem, rollout), p in zip(asked, probes) if p]
    rows = [
        row
        for _, rollout, p in known
        for row in forced_requests(rollout, p, seed, config.samples)
    ]
    cue = max((len(p.cue) for _, _, p in known), default=0)
    drawn = distributed.gather(
        engine.sample(distributed.local_slice(rows), longest + cue + BUDGET)
    )
    answers = list(itertools.chain(*drawn))
    drawn_answers, found = iter(answers), []
    for (problem, _), p in zip(asked, probes):
        given = list(
            itertools.islice(drawn_answers, config.cuts * config.samples if p else 0)
        )
        accept = _accepted(task, codec, problem, p) if p else {}
        found.append(
            {
                name: accepted_share(given, accept[name], config.samples)
                for name in sets
                if name in accept
            }
        )
    zeros = np.zeros(config.cuts, np.float32)
    given_of = lambda row, name: (row[name], zeros) if name in row else None
    curves = {
        name: _trajectory([given_of(row, name) for row in found], config.cuts)
        for name in sets
    }
    return ConfidenceCurves(
        cuts=np.array([p.cuts if p else zeros for p in probes], np.int32),
        positions=sum(len(answer.row.prompt) + answer.generated for answer in answers),
        own=curves.get("own"),
        gold=curves.get("gold"),
    )


def _accepted(task: Task, codec: Model, problem: Problem, asked: Probe) -> dict:
    """By name of the set: a test if the tokens after the cue are one of its answers."""
    ended = lambda tokens: tokens[-1] in codec.stop_tokens
    text = lambda ids: codec.decode(ids[:-1]).strip()
    given = lambda tokens: codec.decode(
        (*asked.cue, *(tokens[:-1] if ended(tokens) else tokens))
    )
    accept = {"gold": lambda tokens: task.grade(problem, given(tokens)) == RIGHT}
    if own := {text(ids) for ids in asked.answers.get("own", ())}:
        accept["own"] = lambda tokens: ended(tokens) and text(tokens) in own
    return accept


def _trajectory(
    rows: Sequence[tuple[np.ndarray, np.ndarray] | None], cuts: int
) -> Trajectory:
    """Probability and log-prob of every row; None: nothing was asked of it."""
    nothing = (np.zeros(cuts), np.zeros(cuts))
    probability, mean_logp = np.array(
        [row or nothing for row in rows], np.float32
    ).swapaxes(0, 1)
    return Trajectory(
        probability, mean_logp, np.array([row is not None for row in rows])
    )
