"""Rollouts to learn from: the problems of a step, sampled and graded."""

import dataclasses
import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool

from fr import distributed
from fr.config import Config
from fr.metrics import Stages
from fr.models import Model
from fr.sampling.engine import Engine
from fr.sampling.sampling_params import row_key
from fr.tasks.extract import PROMPT_TAIL, THINK, opens_thought
from fr.tasks.grading import grade_all
from fr.tasks.task import Task
from fr.training.checks import encode_prompts
from fr.training.confidence_curves import (
    ConfidenceCurves,
    join_curves,
    sampled,
    scored,
    scoring_plan,
)
from fr.training.data import visits
from fr.types import RIGHT, Cost, Problem, Request, Rollout

BUCKET = 16  # lengths are rounded up to it


@dataclasses.dataclass(frozen=True)
class GradedRollout:
    """A rollout with its grade.

    Attributes:
        problem: The problem that was asked.
        rollout: Tokens and their statistics.
        text: Decoded completion without the stop token.
        grade: One of `fr.types.GRADES`.
    """

    problem: Problem
    rollout: Rollout
    text: str
    grade: str

    @property
    def right(self) -> bool:
        """True if the answer is known to be right."""
        return self.grade == RIGHT


Group = list[GradedRollout]  # those at one problem
GroupFilter = Callable[[Sequence[Group], ConfidenceCurves], Bool[np.ndarray, "N"]]


@dataclasses.dataclass(frozen=True)
class StepRollouts:
    """The rollouts of a step.

    Attributes:
        groups: One list of rollouts per problem.
        confidence: Confidence along the rollouts of these groups.
        cost: Forward tokens of all that was sampled, dropped groups included.
        spare: Number of groups, the last ones, that only fill places.
        cursor: Visits to problems made so far.
        dropped: Groups that were sampled and are not a part of the step.
    """

    groups: list[Group]
    confidence: ConfidenceCurves
    cost: Cost
    spare: int
    cursor: int
    dropped: list[Group] = dataclasses.field(default_factory=list)


class Sampler:
    """Asks an engine problems and grades the answers.

    The result depends on the questions and on the engine's parameters alone.

    Args:
        config: The whole configuration.
        task: Gives prompts and grades answers.
        codec: Encodes and decodes.
        engine: Samples, and is given parameters by its owner.
        problems: Problems by split: "train", and "validation" to measure on.

    Raises:
        UserError: The longest prompt leaves no room for its completion.
    """

    def __init__(
        self,
        config: Config,
        task: Task,
        codec: Model,
        engine: Engine,
        problems: dict[str, list[Problem]],
    ):
        self.config, self.engine = config, engine
        self._task, self._codec, self._pool = task, codec, problems["train"]
        self._prompts = encode_prompts(config, task, codec, problems)
        # The longest of all problems, because every length compiles its own programs.
        self._longest = max(map(len, self._prompts.values()))

    @property
    def width(self) -> int:
        """Tokens of room after a prompt."""
        return _bucket(self.config.policy.max_new_tokens)

    @property
    def length(self) -> int:
        """Tokens of room in a row, prompt included."""
        return _bucket(self._longest) + self.width

    def draw(
        self,
        step: int,
        sets: Sequence[str],
        stages: Stages,
        differ: GroupFilter | None = None,
        cursor: int | None = None,
    ) -> StepRollouts:
        """Sample `policy.prompts` groups for a step.

        Args:
            step: From 1; keys follow from it and the seed, and with `policy.order` =
                drawn the problems too.
            sets: Sets of answers ("own", "gold") to measure confidence in.
            stages: Clock of the step.
            differ: (groups, confidence) -> flags of the groups whose rewards differ.
                The other groups are replaced by other problems, in at most
                `policy.max_resample_rounds` rounds (dynamic sampling of DAPO, arXiv
                2503.14476). Places that stay empty hold such groups, last; nothing is
                learnt from these.
            cursor: Visits made so far, from which permuted order goes on; None: all
                visits of `step - 1` steps with `policy.prompts` problems each.

        Returns:
            The rollouts of the step.
        """
        c = self.config.policy
        live = sets if self.config.rewards.confidence == "scored" else ()
        cursor = (step - 1) * c.prompts if cursor is None else cursor
        order = self._order(step, cursor)
        kept: list[tuple[Group, ConfidenceCurves]] = []
        alike: list[tuple[Group, ConfidenceCurves]] = []
        cost, asked_before = Cost(), set()
        for _ in range(c.max_resample_rounds if differ else 1):
            asked = list(itertools.islice(order, c.prompts - len(kept)))
            if not asked:
                break
            cursor += len(asked)
            # At the end of an epoch a problem may come twice in a step: its second
            # visit has other keys.
            names = []
            for problem in asked:
                names.append(f"step {step}" + " again" * (problem.id in asked_before))
                asked_before.add(problem.id)
            groups, more = self.ask(
                asked, c.rollouts, c.temperature, names, live, stages
            )
            found = self._confidence(groups, sets, stages)
            cost += more + Cost(probe=found.positions)
            chosen = differ(groups, found) if differ else np.ones(len(groups), bool)
            for i, group in enumerate(groups):
                rows = np.arange(i * c.rollouts, (i + 1) * c.rollouts)
                (kept if chosen[i] else alike).append((group, found.of(rows)))
        spare = c.prompts - len(kept)
        taken, dropped = kept + alike[:spare], alike[spare:]
        found = join_curves([trajectories for _, trajectories in taken])
        return StepRollouts(
            [group for group, _ in taken],
            found,
            cost,
            spare,
            cursor,
            [group for group, _ in dropped],
        )

    def _order(self, step: int, cursor: int) -> Iterator[Problem]:
        """The problems to ask, one after the other."""
        seed, pool = f"{self.config.seed}/policy", self._pool
        if self.config.policy.order == "drawn":
            # Seeding by a string goes through SHA-512: no two steps share a stream.
            return iter(random.Random(f"{seed}/{step}").sample(pool, len(pool)))
        # At most one epoch per step, so that no problem comes a third time.
        visited = itertools.islice(
            visits(f"{seed}/epochs", len(pool), cursor), len(pool)
        )
        return (pool[place] for _, place in visited)

    def ask(
        self,
        problems: Sequence[Problem],
        count: int,
        temperature: float,
        names: Sequence[str],
        sets: Sequence[str],
        stages: Stages,
    ) -> tuple[list[Group], Cost]:
        """Sample several rollouts of each problem.

        Each process samples its share of the problems, and all processes get the whole.

        Args:
            problems: Problems to ask.
            count: Rollouts per problem.
            temperature: Sampling temperature.
            names: One per problem, a part of its rollouts' keys.
            sets: Sets of answers to score confidence in while sampling.
            stages: Clock of the step.

        Returns:
            One group per problem, and the cost in forward tokens.
        """
        c, mine = self.config, distributed.local_slice(list(zip(problems, names)))
        params = {
            "temperature": temperature,
            "top_p": c.sampling.top_p,
            "top_k": c.sampling.top_k,
            "stop": self._codec.stop_tokens,
            "budget": c.policy.max_new_tokens,
        }
        owners = [problem for problem, _ in mine for _ in range(count)]
        rows = [
            Request(
                f"{p.id}/{name}/{i}",
                self._prompts[p.id],
                row_key(c.seed, p.id, name, i),
                params,
            )
            for p, name in mine
            for i in range(count)
        ]
        own = self.graded(rows, owners, sets, stages)
        with stages.time("exchange"):
            found = distributed.gather(own)
        attempts = list(itertools.chain(*(some for some, _ in found)))
        groups = [attempts[i : i + count] for i in range(0, len(attempts), count)]
        return groups, sum((cost for _, cost in found), Cost())

    def graded(
        self,
        rows: Sequence[Request],
        owners: Sequence[Problem],
        sets: Sequence[str],
        stages: Stages,
        kept: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
    ) -> tuple[list[GradedRollout], Cost]:
        """Sample and grade requests of this process.

        Args:
            rows: The requests, [N].
            owners: Problem of each, [N].
            sets: Sets of answers to score confidence in while sampling.
            stages: Clock of the step.
            kept: Tokens at the end of a prompt, by row, that the grader reads before
                the new ones.

        Returns:
            The attempts in order, and the cost in forward tokens.
        """
        c, owner = self.config, {row.id: problem for row, problem in zip(rows, owners)}
        plan = scoring_plan(owner, self._codec, sets, c.rewards) if sets else None
        read = self.engine.counts.prompt_tokens
        with stages.time("rollouts"):
            rollouts = self.engine.sample(
                rows, self._longest + c.policy.max_new_tokens, probe_plan=plan
            )
        with stages.time("grades"):
            new = [r.tokens if r.truncated else r.tokens[:-1] for r in rollouts]
            texts = [
                self._codec.decode((*kept.get(row.id, ()), *tokens))
                for row, tokens in zip(rows, new)
            ]
            decode = self._codec.decode
            asked = (
                row.prompt[: len(row.prompt) - len(kept.get(row.id, ()))]
                for row in rows
            )
            begun = (THINK * opens_thought(decode(p[-PROMPT_TAIL:])) for p in asked)
            grades = grade_all(
                self._task, [(p, b + text) for p, b, text in zip(owners, begun, texts)]
            )
        cost = Cost(
            prefill=self.engine.counts.prompt_tokens - read,
            generated=sum(r.generated for r in rollouts),
            probe=sum(r.confidence.positions for r in rollouts if r.confidence),
        )
        return [
            GradedRollout(*each) for each in zip(owners, rollouts, texts, grades)
        ], cost

    def _confidence(
        self, groups: Sequence[Group], sets: Sequence[str], stages: Stages
    ) -> ConfidenceCurves:
        """Confidence along the attempts, by the way that `rewards.confidence` names."""
        c = self.config
        asked = [
            (attempt.problem, attempt.rollout) for group in groups for attempt in group
        ]
        if not sets:
            return ConfidenceCurves()
        if c.rewards.confidence == "scored":
            return scored([rollout for _, rollout in asked], sets, c.rewards)
        longest = self._longest + c.policy.max_new_tokens
        with stages.time("forced answers"):
            return sampled(
                self.engine,
                self._task,
                self._codec,
                asked,
                sets,
                longest,
                c.rewards,
                c.seed,
            )


def _bucket(length: int) -> int:
    return -(-length // BUCKET) * BUCKET
