"""Rollouts to learn from: which problems a step has, what the sampler makes of them, and how rewards see that."""

import dataclasses
import itertools
import random
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from fr import distributed
from fr.config import Config
from fr.errors import UserError
from fr.metrics import Stages
from fr.models import Model
from fr.models.model import check_context
from fr.sampling.engine import Engine
from fr.sampling.rows import row_key
from fr.tasks.extract import PROMPT_TAIL, THINK, opens_thought
from fr.tasks.formats import answer_span, reasoning_tokens
from fr.tasks.grading import grade_all
from fr.tasks.task import Task
from fr.training.confidence_curves import (
    Trajectories,
    joined,
    sampled,
    scored,
    scoring_plan,
)
from fr.training.epochs import visits
from fr.types import RIGHT, Cost, Problem, Request, RewardBatch, Rollout, Truth

BUCKET = 16  # lengths are rounded up to it


@dataclasses.dataclass(frozen=True)
class Attempt:
    """A graded rollout; its text goes without the stop token."""

    problem: Problem
    rollout: Rollout
    text: str
    grade: str

    @property
    def right(self) -> bool:
        """Whether it is known to be right."""
        return self.grade == RIGHT


Group = list[Attempt]  # those at one problem
Varied = Callable[[Sequence[Group], Trajectories], Bool[np.ndarray, "N"]]


@dataclasses.dataclass(frozen=True)
class Drawn:
    """The rollouts of a step."""

    groups: list[Group]
    confidence: Trajectories
    cost: Cost
    spare: int  # groups, the last ones, that only fill places
    cursor: int  # visits to problems that have been made
    dropped: list[Group] = dataclasses.field(
        default_factory=list
    )  # drawn, and not a part of the step


class Sampler:
    """Asks an engine problems and grades what it says: a function of what is asked and of the parameters alone."""

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
        count = config.policy.prompts
        if len(self._pool) < count:
            raise UserError(
                f"config.policy.prompts = {count}, and there are {len(self._pool)} to train on"
            )
        everything = itertools.chain.from_iterable(problems.values())
        self._prompts = {
            problem.id: codec.encode(task.prompt(problem)) for problem in everything
        }
        # The longest there is, not that of a step: every length has programs of its own.
        self._longest = max(map(len, self._prompts.values()))
        what, new = (
            f"the longest prompt ({self._longest} tokens)",
            config.policy.max_new_tokens,
        )
        check_context(
            [codec], self._longest + new, what, "config.policy.max_new_tokens"
        )

    @property
    def width(self) -> int:
        """Tokens that there is room for behind a prompt."""
        return _bucket(self.config.policy.max_new_tokens)

    @property
    def length(self) -> int:
        """Tokens that there is room for in a row, prompt included."""
        return _bucket(self._longest) + self.width

    def draw(
        self,
        step: int,
        sets: Sequence[str],
        stages: Stages,
        varied: Varied | None = None,
        cursor: int | None = None,
    ) -> Drawn:
        """`policy.prompts` groups for a step, with confidence in `sets` along their attempts.

        Args:
            step: from 1; keys follow from it and the seed, and with `policy.order` = drawn the problems too.
            varied: tells for groups and their confidence which have rewards that differ; a group that has not
                makes room for another problem, in `policy.max_resample_rounds` rounds at most
                (DAPO, arXiv 2503.14476).
                Places that stay empty hold such groups, last, and nothing is learnt from these.
            cursor: visits that have been made, from which permuted order goes on; None: those of `step - 1` steps
                that asked `policy.prompts` problems each.
        """
        c = self.config.policy
        live = sets if self.config.rewards.confidence == "scored" else ()
        cursor = (step - 1) * c.prompts if cursor is None else cursor
        order = self._order(step, cursor)
        kept, alike, cost, asked_before = [], [], Cost(), set()
        for _ in range(c.max_resample_rounds if varied else 1):
            asked = list(itertools.islice(order, c.prompts - len(kept)))
            if not asked:
                break
            cursor += len(asked)
            # Where one epoch ends and the next begins a problem may come twice in a step: with keys of its own.
            names = []
            for problem in asked:
                names.append(f"step {step}" + " again" * (problem.id in asked_before))
                asked_before.add(problem.id)
            groups, more = self.ask(
                asked, c.rollouts, c.temperature, names, live, stages
            )
            found = self._confidence(groups, sets, stages)
            cost += more + Cost(probe=found.positions)
            chosen = varied(groups, found) if varied else np.ones(len(groups), bool)
            for i, group in enumerate(groups):
                rows = np.arange(i * c.rollouts, (i + 1) * c.rollouts)
                (kept if chosen[i] else alike).append((group, found.of(rows)))
        spare = c.prompts - len(kept)
        taken, dropped = kept + alike[:spare], alike[spare:]
        found = joined([trajectories for _, trajectories in taken])
        return Drawn(
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
            # A string seeds Python's generator through SHA-512: no two (seed, step) share a stream.
            return iter(random.Random(f"{seed}/{step}").sample(pool, len(pool)))
        # Of the rounds of one step no more than a whole epoch, or a problem came a third time.
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
        """`count` attempts at each problem; its name is a part of their keys.

        Each of several processes asks its part of the problems, and all get the whole.
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
        own = self._attempts(rows, owners, sets, stages)
        with stages.time("exchange"):
            found = distributed.gather(own)
        attempts = list(itertools.chain(*(some for some, _ in found)))
        groups = [attempts[i : i + count] for i in range(0, len(attempts), count)]
        return groups, sum((cost for _, cost in found), Cost())

    def _attempts(
        self,
        rows: list[Request],
        owners: list[Problem],
        sets: Sequence[str],
        stages: Stages,
    ) -> tuple[list[Attempt], Cost]:
        """The rows' attempts at the problems that own them, graded."""
        c, owner = self.config, {row.id: problem for row, problem in zip(rows, owners)}
        plan = scoring_plan(owner, self._codec, sets, c.rewards) if sets else None
        read = self.engine.counts.prompt_tokens
        with stages.time("rollouts"):
            rollouts = self.engine.sample(
                rows, self._longest + c.policy.max_new_tokens, plan=plan
            )
        with stages.time("grades"):
            texts = [
                self._codec.decode(r.tokens if r.truncated else r.tokens[:-1])
                for r in rollouts
            ]
            decode = self._codec.decode
            begun = (
                THINK * opens_thought(decode(row.prompt[-PROMPT_TAIL:])) for row in rows
            )
            grades = grade_all(
                self._task, [(p, b + text) for p, b, text in zip(owners, begun, texts)]
            )
        cost = Cost(
            prefill=self.engine.counts.prompt_tokens - read,
            generated=sum(r.generated for r in rollouts),
            probe=sum(r.confidence.positions for r in rollouts if r.confidence),
        )
        return [Attempt(*each) for each in zip(owners, rollouts, texts, grades)], cost

    def _confidence(
        self, groups: Sequence[Group], sets: Sequence[str], stages: Stages
    ) -> Trajectories:
        """Confidence along the attempts, by the way that `rewards.confidence` names."""
        c = self.config
        asked = [
            (attempt.problem, attempt.rollout) for group in groups for attempt in group
        ]
        if not sets:
            return Trajectories()
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

    def lines(
        self, groups: Sequence[Group], cut: bool = False
    ) -> tuple[Int[np.ndarray, "B T"], Int[np.ndarray, "B"]]:
        """Prompts with their completions, -1 pads on the right, and where completions begin.

        With `cut`, completions go without the sentence that states their answer.
        """
        attempts = list(itertools.chain.from_iterable(groups))
        start = np.array([len(a.rollout.row.prompt) for a in attempts], np.int32)
        # Of one shape whatever was drawn: another shape would be another program.
        tokens = np.full((len(attempts), self.length), -1, np.int32)
        for line, a, at in zip(tokens, attempts, start):
            own = a.rollout.tokens
            own = own[: reasoning_tokens(a.problem, own, self._codec)] if cut else own
            line[:at], line[at : at + len(own)] = a.rollout.row.prompt, own
        return tokens, start

    def batch(
        self,
        groups: Sequence[Group],
        trajectories: Trajectories,
        step: int,
        judged: Float[np.ndarray, "B"] | None = None,
    ) -> RewardBatch:
        """What rewards read of a step's attempts."""
        attempts = list(itertools.chain.from_iterable(groups))
        rollouts = [attempt.rollout for attempt in attempts]
        spans = [
            answer_span(a.problem, a.rollout.tokens, self._codec) for a in attempts
        ]
        return RewardBatch(
            tokens=self._table([r.tokens for r in rollouts], fill=-1),
            mask=self._table([~r.forced for r in rollouts]),
            length=np.array([r.length for r in rollouts], np.int32),
            truncated=np.array([r.truncated for r in rollouts]),
            answer=np.array(spans, np.int32),
            texts=tuple(a.text for a in attempts),
            problems=tuple(a.problem for a in attempts),
            stats={
                name: self._table([r.stats[name] for r in rollouts])
                for name in self.engine.fields
            },
            sample_logp=self._table([r.sample_logp for r in rollouts]),
            cuts=trajectories.cuts,
            own=trajectories.own,
            truth=Truth(
                grades=tuple(a.grade for a in attempts),
                answers=tuple(a.problem.answer for a in attempts),
                confidence=trajectories.gold,
            ),
            group=self.config.policy.rollouts,
            step=step,
            judged=judged,
        )

    def _table(self, rows: Sequence[np.ndarray], fill=0) -> np.ndarray:
        """Rows of unequal length as one array [B, width]."""
        table = np.full((len(rows), self.width), fill, rows[0].dtype)
        for line, row in zip(table, rows):
            line[: len(row)] = row
        return table


def _bucket(length: int) -> int:
    return -(-length // BUCKET) * BUCKET
