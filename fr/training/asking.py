"""Asking a model problems outside of a stage: rows, rollouts and grades in memory."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from fr import distributed
from fr.config import Config
from fr.models import Model
from fr.models.model import check_context
from fr.models.transformer import Transformer
from fr.sampling.devices import Devices
from fr.sampling.engine import Engine
from fr.sampling.sampling_params import row_key
from fr.tasks.extract import PROMPT_TAIL, THINK, opens_thought
from fr.tasks.grading import grade_all
from fr.tasks.task import Task
from fr.types import RIGHT, Problem, Request, Rollout


class Asker:
    """Asks a model problems with row parameters, and grades the answers.

    Attributes:
        spent: Forward tokens of what was sampled, by purpose.
    """

    def __init__(
        self,
        config: Config,
        task: Task,
        model: Model,
        module: Transformer,
        devices: Devices,
    ):
        """Keep what rows are made of.

        Args:
            config: `sampling` and the seed are read.
            task: Makes prompts and grades answers.
            model: Encodes, decodes and has the parameters.
            module: Its decoder.
            devices: Devices to run on.
        """
        self._config, self._task, self._model = config, task, model
        self._module, self._devices = module, devices
        self.spent: dict[str, int] = {}  # tokens by what was asked

    def engine(self, vectors: Float[np.ndarray, "L K D"] | None) -> Engine:
        """Make an engine.

        Args:
            vectors: Table of steering vectors; None: a plain engine.

        Returns:
            The engine, without statistics of tokens.
        """
        c = self._config.sampling
        return Engine(
            self._module,
            self._model.params,
            slots=c.slots,
            chunk=c.chunk,
            prefill=c.prefill,
            statistics=False,
            devices=self._devices,
            vectors=vectors,
        )

    def rows(
        self, problems: Sequence[Problem], count: int, what: str, params: dict
    ) -> tuple[list[Request], list[Problem]]:
        """Make requests under the sampling settings of the run.

        Args:
            problems: Problems to ask.
            count: Attempts at each.
            what: Purpose, a part of the random keys.
            params: Further fields of `SamplingParams`; they change no key.

        Returns:
            The requests, problem by problem, and the problem of each.
        """
        c = self._config
        own = {
            "temperature": c.sampling.temperature,
            "top_p": c.sampling.top_p,
            "top_k": c.sampling.top_k,
            "stop": self._model.stop_tokens,
            "budget": c.sampling.max_new_tokens,
            **params,
        }
        steered = "/".join(map(str, params.values()))
        rows, owners = [], []
        for problem in problems:
            prompt = self._model.encode(self._task.prompt(problem))
            for i in range(count):
                key = row_key(c.seed, problem.id, "steering", what, i)
                name = f"{problem.id}/{what}/{steered}/{i}"
                rows.append(Request(name, prompt, key, own))
                owners.append(problem)
        return rows, owners

    def sample(
        self, engine: Engine, rows: Sequence[Request], what: str
    ) -> list[Rollout]:
        """Sample requests; each process makes its share.

        Args:
            engine: An engine of this asker.
            rows: The requests.
            what: Purpose, under which their tokens are counted.

        Returns:
            Rollouts in the order of the requests.

        Raises:
            UserError: The model has too few positions.
        """
        new = self._config.sampling.max_new_tokens
        longest = max(len(row.prompt) for row in rows) + new
        asked = "the longest prompt of the algorithm vector"
        check_context([self._model], longest, asked, "config.sampling.max_new_tokens")
        mine = distributed.local_slice(list(rows))
        found = distributed.gather(engine.sample(mine, longest))
        rollouts = [rollout for some in found for rollout in some]
        tokens = sum(len(r.row.prompt) + r.generated for r in rollouts)
        self.spent[what] = self.spent.get(what, 0) + tokens
        return rollouts

    def right(
        self, owners: Sequence[Problem], rollouts: Sequence[Rollout]
    ) -> list[bool]:
        """Grade answers.

        Args:
            owners: The problem of each rollout.
            rollouts: The rollouts.

        Returns:
            True where the answer is right.
        """
        texts, decode = [], self._model.decode
        for r in rollouts:
            begun = opens_thought(decode(r.row.prompt[-PROMPT_TAIL:]))
            text = decode(r.tokens if r.truncated else r.tokens[:-1])
            texts.append(THINK * begun + text)
        grades = grade_all(self._task, list(zip(owners, texts)))
        return [grade == RIGHT for grade in grades]
