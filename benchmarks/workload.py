"""The workload that every system is timed on."""

import dataclasses
import hashlib
import itertools

from fr import tasks
from fr.config import TaskConfig
from fr.errors import UserError
from fr.models import Model


@dataclasses.dataclass(frozen=True)
class Workload:
    """Questions of a task, cut to one length.

    No token ends a text, so all systems decode the same number of tokens.
    """

    task: str
    problems: int  # number of prompts
    rollouts: int  # of each problem
    new_tokens: int  # per rollout
    prompt_tokens: int  # per prompt
    # Most batches that a number of rows is timed on: one row alone takes hours.
    batches: int = 4

    @property
    def total(self) -> int:
        """Rollouts of the whole job."""
        return self.problems * self.rollouts

    def limit(self, rows: int) -> int:
        """Limit the rollouts that a number of rows is timed on.

        Args:
            rows: number of rows of a batch.

        Returns:
            Number of rollouts.
        """
        return min(self.total, self.batches * rows)

    def prompts(self, model: Model) -> list[list[int]]:
        """Encode the prompts.

        Args:
            model: its tokenizer encodes the questions.

        Returns:
            Ids, [problems][prompt_tokens].

        Raises:
            UserError: if the task has too few problems.
        """
        found = tasks.make(TaskConfig(name=self.task)).problems("test", self.problems)
        if len(found) < self.problems:
            raise UserError(
                f"task {self.task} has {len(found)} test problems, the benchmark wants "
                f"{self.problems}"
            )
        return [self._cut(model, found[i:] + found[:i]) for i in range(self.problems)]

    def _cut(self, model: Model, problems: list) -> list[int]:
        ids = []
        # A question may be shorter than a prompt is to be: the next ones follow it.
        for problem in itertools.cycle(problems):
            ids += model.encode(f" {problem.question}" if ids else problem.question)
            if len(ids) >= self.prompt_tokens:
                return ids[: self.prompt_tokens]

    def record(self, prompts: list[list[int]]) -> dict:
        """Describe the workload for the JSON.

        Args:
            prompts: ids of the prompts.

        Returns:
            The fields, and a digest that tells whether two runs read the same prompts.
        """
        digest = hashlib.sha256(repr(prompts).encode()).hexdigest()[:16]
        return {
            **dataclasses.asdict(self),
            "prompts_sha256": digest,
            "temperature": 1.0,
        }


DEFAULT = Workload(
    "word_problems", problems=8, rollouts=16, new_tokens=64, prompt_tokens=32, batches=1
)
FULL = dataclasses.replace(DEFAULT, problems=64, new_tokens=128, batches=64 * 16)
# which number of rows suits a system best
SEEK = dataclasses.replace(DEFAULT, new_tokens=16)
SHORT = Workload("countdown", problems=2, rollouts=8, new_tokens=16, prompt_tokens=8)
