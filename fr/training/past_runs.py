"""Attempts of a finished run as examples: stored token ids, and which are learnt."""

import dataclasses
import functools
import hashlib
import itertools
import json
import random
from collections.abc import Iterable, Sequence

import numpy as np
from etils import epath
from jaxtyping import Bool, Int

from fr import distributed, store
from fr.config import Config
from fr.errors import UserError
from fr.models import Model
from fr.models.model import check_ids
from fr.registry import suggest
from fr.tasks.extract import THINK
from fr.training.disjoint_runs import check_disjoint
from fr.training.retries import RETRY, rarely_reached
from fr.types import GRADER_ERROR, RIGHT, Problem, is_failure

_COLUMNS = (
    "problem",
    "question",
    "operator",
    "grade",
    "answer",
    "text",
    "read",
    "truncated",
    "task",
    "reference",
    "meta",
)
_LISTS = ("prompt", "tokens", "forced")
_LOOKED_AT = 64  # attempts whose ids must decode to the text that was stored


@dataclasses.dataclass(frozen=True)
class Completion:
    """A completion of a run's plain prompt.

    Attributes:
        problem: Id of the problem.
        prompt: Token ids.
        tokens: Token ids of the completion, the stop token included.
        learnt: Which of its tokens are learnt.
        answer: The stated answer; None: there is none.
        text: Text of the attempt.
        grade: Grade of the attempt.
    """

    problem: str
    prompt: Int[np.ndarray, "P"]
    tokens: Int[np.ndarray, "T"]
    learnt: Bool[np.ndarray, "T"]
    answer: str | None = None
    text: str = ""
    grade: str = ""

    @property
    def ids(self) -> list[int]:
        """Token ids of prompt and completion."""
        return [*self.prompt.tolist(), *self.tokens.tolist()]


class PastRun:
    """Rollouts and attempts of the run `config.training.run`.

    Args:
        config: The whole configuration.
        model: The model that is trained.

    Raises:
        UserError: The folder has no rollouts, the run asked problems that this config
            evaluates on, or the model decodes the stored ids to another text.
    """

    def __init__(self, config: Config, model: Model):
        self.config, self.folder = config, epath.Path(config.training.run)
        self._rollouts = self._read("rollouts")
        self._problems = {row["problem"]: row for row in self._rollouts}
        self._prompts = {name: row["prompt"] for name, row in self._problems.items()}
        self._failed: dict[str, list[dict]] = {}
        for row in self._rollouts:
            if is_failure(row["grade"]):
                self._failed.setdefault(row["problem"], []).append(row)
        check_disjoint(config, {row["question"] for row in self._rollouts})
        self._check_ids(model)

    def right(self) -> list[Completion]:
        """Right rollouts, at most `max_per_problem` different ones per problem."""
        return self._chosen(self._plain(row) for row in self._rollouts if _teaches(row))

    def rescued(self) -> list[Completion]:
        """Right attempts at failed problems, at most `max_per_problem` per problem."""
        return self._chosen(
            self._completed(row) for row in self._attempts if _teaches(row)
        )

    def retried(self) -> list[Completion]:
        """Right rollouts and right attempts of `retry`, chosen together.

        This is rejection sampling (arXiv 2308.01825): all were drawn plainly.
        """
        rows = [row for row in self._attempts if row["operator"] == RETRY]
        plain = (self._plain(row) for row in self._rollouts if _teaches(row))
        again = (self._completed(row) for row in rows if _teaches(row))
        return self._chosen(itertools.chain(plain, again))

    def responses(self) -> list[Completion]:
        """Rollouts of any grade, at most `max_per_problem` different per problem."""
        judged = (row for row in self._rollouts if row["grade"] != GRADER_ERROR)
        return self._chosen(map(self._plain, judged))

    def problem(self, name: str) -> Problem:
        """A problem of the run, with its reference.

        Args:
            name: Id of the problem.

        Returns:
            The problem.
        """
        row = self._problems[name]
        meta, reference = json.loads(row["meta"]), row["reference"]
        return Problem(name, row["question"], reference, row["task"], meta)

    def failed(self) -> dict[str, list[Completion]]:
        """Different failed rollouts by problem, in the order of sampling."""
        found = {}
        for problem, rows in self._failed.items():
            found[problem] = _different((self._plain(row) for row in rows), "text")
        return found

    def all_rescued(self) -> dict[str, list[Completion]]:
        """Different right attempts by problem, in the order of the store."""
        found: dict[str, list[Completion]] = {}
        for row in self._attempts:
            if _teaches(row):
                found.setdefault(row["problem"], []).append(self._completed(row))
        return {
            problem: _different(some, self.config.training.distinct)
            for problem, some in found.items()
        }

    @functools.cached_property
    def _attempts(self) -> list[dict]:
        """The attempts by the operators that are wanted, at problems with rollouts."""
        wanted, rows = self.config.training.operators, self._read("attempts")
        there = dict.fromkeys(row["operator"] for row in rows)
        for name in wanted:
            if name not in there:
                raise UserError(
                    f"config.training.operators: {self.folder} has no attempt by "
                    f"{name!r}{suggest(name, there)}"
                )
        most, asked = self.config.training.most_retries, set(self._prompts)
        if most >= 0:
            asked &= rarely_reached(rows, most)
        return [
            row
            for row in rows
            if row["problem"] in asked
            and (not wanted or row["operator"] in wanted)
            and self._whole(row)
        ]

    def _read(self, name: str) -> list[dict]:
        table = store.read_table(self.folder / name, [*_COLUMNS, *_LISTS])
        if not table.num_rows:
            script = {"rollouts": "sample", "attempts": "intervene"}[name]
            raise UserError(
                f"config.training.run = {str(self.folder)!r} has no {name}/ to learn "
                f"from; make it by scripts/{script}.py, or name the --workdir of "
                "another run"
            )
        rows = table.to_pylist()
        for row in rows:
            for column in _LISTS:
                row[column] = np.array(
                    row[column], bool if column == "forced" else np.int32
                )
        return rows

    def _plain(self, row: dict) -> Completion:
        return self._completion(row, ())

    def _completed(self, row: dict) -> Completion:
        """An attempt under the plain prompt; another prompt is dropped.

        Tokens that an operator kept of a failed attempt begin the completion. The model
        drew them, so they are learnt.
        """
        kept = self._kept(row)
        return self._completion(row, () if kept is None else kept)

    def _kept(self, row: dict) -> np.ndarray | None:
        """Tokens of a failed rollout that an attempt kept; None: another prompt."""
        plain, prompt = self._prompts[row["problem"]], row["prompt"]
        kept, failed = prompt[len(plain) :], self._failed.get(row["problem"], [])
        if (
            not _starts(prompt, plain)
            or len(kept)
            and not any(_starts(f["tokens"], kept) for f in failed)
        ):
            return None
        return kept

    def _whole(self, row: dict) -> bool:
        """True if an attempt's whole completion is known.

        It is not if another prompt ends in kept tokens.
        """
        return self._kept(row) is not None or row["read"] in (
            None,
            row["text"],
            THINK + row["text"],
        )

    def _completion(self, row: dict, kept: Sequence[int] | np.ndarray) -> Completion:
        learns_all = self.config.training.pushed == "learn"
        learnt = np.concatenate([np.ones(len(kept), bool), learns_all | ~row["forced"]])
        tokens = np.concatenate([np.array(kept, np.int32), row["tokens"]])
        prompt, stated = self._prompts[row["problem"]], ("answer", "text", "grade")
        return Completion(
            row["problem"], prompt, tokens, learnt, *(row[name] for name in stated)
        )

    def _chosen(self, found: Iterable[Completion]) -> list[Completion]:
        """`max_per_problem` different completions of each problem, at random."""
        groups: dict[str, list[Completion]] = {}
        for one in found:
            groups.setdefault(one.problem, []).append(one)
        c, chosen = self.config.training, []
        for problem, some in groups.items():
            some = random.Random(f"{self.config.seed}/examples/{problem}").sample(
                some, len(some)
            )
            chosen += _different(some, c.distinct)[: c.max_per_problem or None]
        return chosen

    def _check_ids(self, model: Model) -> None:
        where = f"config.training.run = {str(self.folder)!r}"
        for row in self._rollouts[:_LOOKED_AT]:
            check_ids(row["tokens"].tolist(), model.config.vocab, f"{where}: a rollout")
            read = model.decode(
                row["tokens"] if row["truncated"] else row["tokens"][:-1]
            )
            if read != row["text"]:
                raise UserError(
                    f"{where}: {model.name} reads the ids of a rollout as "
                    f"{read[:40]!r}, and it was {row['text'][:40]!r}; train a model "
                    "that has the run's tokenizer (config.training.start)"
                )


def hold_out(problems: Iterable[str], config: Config, looks: bool) -> set[str]:
    """Choose problems to measure on: a share `training.held_out`, at least one.

    Args:
        problems: Ids of problems, with repeats.
        config: The whole configuration.
        looks: False: nothing is measured, so none is held out.

    Returns:
        Ids of the held-out problems.

    Raises:
        UserError: No problem would be left to learn from.
    """
    names = list(dict.fromkeys(problems))
    if not looks:
        return set()
    if len(names) < 2:
        raise UserError(
            f"{len(names)} problem of config.training.run = {config.training.run!r} "
            "has something to learn from, too few to hold one out; set eval_every = 0"
        )
    count = min(max(1, round(config.training.held_out * len(names))), len(names) - 1)
    return set(random.Random(f"{config.seed}/held out").sample(names, count))


def fingerprint(found: Iterable[Completion]) -> str:
    """A hash of completions: of their ids and of which are learnt.

    Args:
        found: Completions.

    Returns:
        32 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for one in found:
        for array in (one.prompt, one.tokens, one.learnt):
            digest.update(
                f"{len(array)} ".encode() + np.asarray(array, np.int32).tobytes()
            )
    return digest.hexdigest()[:32]


def print_counts(what: str, count: int, problems: Iterable[str], held: int) -> None:
    """Print the number of examples or pairs that are learnt from.

    Args:
        what: What is counted.
        count: Their number.
        problems: The problem of each.
        held: Number of held-out problems.
    """
    kept = f", {held} problems held out" if held else ""
    distributed.print0(f"  {count} {what} of {len(set(problems))} problems{kept}")


def _teaches(row: dict) -> bool:
    """True if an attempt is right and complete."""
    return row["grade"] == RIGHT and not row["truncated"]


def _starts(tokens: np.ndarray, kept: np.ndarray) -> bool:
    return len(kept) <= len(tokens) and bool((tokens[: len(kept)] == kept).all())


def _different(found: Iterable[Completion], by: str) -> list[Completion]:
    """The first of all equal completions; without an answer, by their tokens."""
    kinds: dict[object, Completion] = {}
    for one in found:
        own = (
            one.answer
            if by == "answer" and one.answer is not None
            else tuple(one.tokens.tolist())
        )
        kinds.setdefault(own, one)
    return list(kinds.values())
