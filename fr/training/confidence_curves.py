"""Confidence along finished rollouts as rewards read it: scored while they are sampled, or sampled behind them."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int

from fr import distributed
from fr.config import RewardsConfig
from fr.models import Model
from fr.sampling.engine import Engine
from fr.sampling.probes import BUDGET, forced_rows, shares
from fr.sampling.sources import Plan
from fr.tasks.formats import build_probe
from fr.tasks.task import Task
from fr.types import RIGHT, Probe, Problem, Rollout, Trajectory

_FIELDS = ("probability", "mean_logp", "known")


@dataclasses.dataclass(frozen=True)
class Trajectories:
    """Confidence of B rollouts behind C cuts, in the sets of answers that were asked for; None: was not."""

    cuts: Int[np.ndarray, "B C"] | None = None
    own: Trajectory | None = None
    gold: Trajectory | None = None
    positions: int = 0  # processed for it, beside those of the rollouts

    def of(self, rows: Int[np.ndarray, "R"]) -> "Trajectories":
        """Those of some rows; positions are not theirs alone and are left out."""
        take = lambda one: (
            one
            and Trajectory(one.probability[rows], one.mean_logp[rows], one.known[rows])
        )
        return Trajectories(
            None if self.cuts is None else self.cuts[rows],
            take(self.own),
            take(self.gold),
        )


def joined(parts: Sequence[Trajectories]) -> Trajectories:
    """Trajectories of several groups as those of one batch."""

    def join(found):
        if found[0] is None:
            return None
        if isinstance(found[0], Trajectory):
            return Trajectory(
                *(np.concatenate([getattr(x, f) for x in found]) for f in _FIELDS)
            )
        return np.concatenate(found)

    return Trajectories(
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
) -> Plan:
    """What to ask of finished rows, for `Engine.sample`; `problems` are those of the rows, by their ids."""
    return lambda row, tokens: build_probe(
        problems[row.id], tokens, codec, config.cuts, sets
    )


def scored(
    rollouts: Sequence[Rollout], sets: Sequence[str], config: RewardsConfig
) -> Trajectories:
    """What such a plan found."""
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
    return Trajectories(
        cuts=np.array(cuts, np.int32),
        **{
            name: _trajectory([row.get(name) for row in rows], config.cuts)
            for name in sets
        },
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
) -> Trajectories:
    """Shares of `config.samples` answers that are drawn behind every cut (arXiv 2605.24396), without log-probs.

    `longest`: positions of the longest rollout there may be.
    """
    probes = [
        build_probe(problem, rollout.tokens, codec, config.cuts)
        for problem, rollout in asked
    ]
    known = [(problem, rollout, p) for (problem, rollout), p in zip(asked, probes) if p]
    rows = [
        row
        for _, rollout, p in known
        for row in forced_rows(rollout, p, seed, config.samples)
    ]
    cue = max((len(p.cue) for _, _, p in known), default=0)
    drawn = distributed.gather(
        engine.sample(distributed.local_slice(rows), longest + cue + BUDGET)
    )
    answers = list(itertools.chain(*drawn))
    behind, found = iter(answers), []
    for (problem, _), p in zip(asked, probes):
        given = list(itertools.islice(behind, config.cuts * config.samples if p else 0))
        accept = _accepted(task, codec, problem, p) if p else {}
        found.append(
            {
                name: shares(given, accept[name], config.samples)
                for name in sets
                if name in accept
            }
        )
    zeros = np.zeros(config.cuts, np.float32)
    return Trajectories(
        cuts=np.array([p.cuts if p else zeros for p in probes], np.int32),
        positions=sum(len(answer.row.prompt) + answer.generated for answer in answers),
        **{
            name: _trajectory(
                [(row[name], zeros) if name in row else None for row in found],
                config.cuts,
            )
            for name in sets
        },
    )


def _accepted(task: Task, codec: Model, problem: Problem, asked: Probe) -> dict:
    """By name of the set, whether the tokens behind the cue are an answer of it."""
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
