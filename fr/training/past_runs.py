"""The attempts of a run that is over, as training reads them: token ids as they were stored, and what is learnt."""

import dataclasses
import functools
import hashlib
import random
from collections.abc import Iterable, Sequence

import numpy as np
from etils import epath
from jaxtyping import Bool, Int

from fr import distributed, store, tasks
from fr.config import Config
from fr.errors import UserError
from fr.models import Model
from fr.models.model import check_ids
from fr.registry import suggest
from fr.tasks.extract import THINK
from fr.types import RIGHT, is_failure
from fr.workdir import read_object

_COLUMNS = (
    "problem",
    "question",
    "operator",
    "grade",
    "answer",
    "text",
    "read",
    "truncated",
)
_LISTS = ("prompt", "tokens", "forced")
_LOOKED_AT = 64  # attempts whose ids must decode to the text that was stored


@dataclasses.dataclass(frozen=True)
class Completion:
    """A plain prompt of the run, a completion of it, and which of its tokens are learnt."""

    problem: str
    prompt: Int[np.ndarray, "P"]
    tokens: Int[np.ndarray, "T"]  # stop token included
    learnt: Bool[np.ndarray, "T"]
    answer: str | None = None

    @property
    def ids(self) -> list[int]:
        """Prompt and completion."""
        return [*self.prompt.tolist(), *self.tokens.tolist()]


class Past:
    """Rollouts and attempts of the run `config.training.run`.

    Raises UserError, in one line, for a folder that has none, for a run that asked problems which this config
    evaluates on, and for a model that reads the stored ids as another text.
    """

    def __init__(self, config: Config, model: Model):
        self.config, self.folder = config, epath.Path(config.training.run)
        self._rollouts = self._read("rollouts")
        self._prompts = {row["problem"]: row["prompt"] for row in self._rollouts}
        self._failed: dict[str, list[dict]] = {}
        for row in self._rollouts:
            if is_failure(row["grade"]):
                self._failed.setdefault(row["problem"], []).append(row)
        check_disjoint(config, {row["question"] for row in self._rollouts})
        self._check_ids(model)

    def right(self) -> list[Completion]:
        """Right rollouts, `max_per_problem` different ones of each problem."""
        return self._chosen(self._plain(row) for row in self._rollouts if _teaches(row))

    def rescued(self) -> list[Completion]:
        """Right attempts at failed problems, `max_per_problem` different ones of each."""
        return self._chosen(
            self._behind(row) for row in self._attempts if _teaches(row)
        )

    def failed(self) -> dict[str, list[Completion]]:
        """Different failed rollouts of each problem, in the order in which they were drawn."""
        found = {}
        for problem, rows in self._failed.items():
            found[problem] = _different((self._plain(row) for row in rows), "text")
        return found

    def all_rescued(self) -> dict[str, list[Completion]]:
        """Different right attempts of each problem, in the order of the store."""
        found: dict[str, list[Completion]] = {}
        for row in self._attempts:
            if _teaches(row):
                found.setdefault(row["problem"], []).append(self._behind(row))
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
                    f"config.training.operators: {self.folder} has no attempt by {name!r}{suggest(name, there)}"
                )
        return [
            row for row in rows
            if row["problem"] in self._prompts and (not wanted or row["operator"] in wanted) and self._whole(row)
        ]  # fmt: skip

    def _read(self, name: str) -> list[dict]:
        table = store.read_table(self.folder / name, [*_COLUMNS, *_LISTS])
        if not table.num_rows:
            script = {"rollouts": "sample", "attempts": "intervene"}[name]
            raise UserError(
                f"config.training.run = {str(self.folder)!r} has no {name}/ to learn from; make it by "
                f"scripts/{script}.py, or name the --workdir of another run"
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

    def _behind(self, row: dict) -> Completion:
        """An attempt under the plain prompt: what an operator kept of a failed one is the completion's beginning.

        Another prompt is left away. The kept tokens were drawn by the model, and are learnt.
        """
        kept = self._kept(row)
        return self._completion(row, () if kept is None else kept)

    def _kept(self, row: dict) -> np.ndarray | None:
        """The tokens of a failed rollout that an attempt went on from; None where its prompt is another one."""
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
        """Whether an attempt's completion is known: of another prompt that ends in kept tokens it is not."""
        return self._kept(row) is not None or row["read"] in (
            None,
            row["text"],
            THINK + row["text"],
        )

    def _completion(self, row: dict, kept: Sequence[int]) -> Completion:
        learns_all = self.config.training.pushed == "learn"
        learnt = np.concatenate([np.ones(len(kept), bool), learns_all | ~row["forced"]])
        tokens = np.concatenate([np.array(kept, np.int32), row["tokens"]])
        return Completion(
            row["problem"], self._prompts[row["problem"]], tokens, learnt, row["answer"]
        )

    def _chosen(self, found: Iterable[Completion]) -> list[Completion]:
        """`max_per_problem` different ones of each problem, at random, the problems in their order."""
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
                    f"{where}: {model.name} reads the ids of a rollout as {read[:40]!r}, and it was "
                    f"{row['text'][:40]!r}; train a model that has the run's tokenizer (config.training.start)"
                )


def model_of(config: Config, ancestor: str) -> str:
    """The name of the model that training starts from: `training.start`, a run's specialist, or the ancestor."""
    c = config.training
    if c.start or not c.run:
        return c.start or ancestor
    folder = epath.Path(c.run)
    if (folder / "specialist" / "config.json").exists():
        return str(folder / "specialist")
    if not (folder / "config.json").exists():
        raise UserError(
            f"config.training.run = {c.run!r} is no folder of a run (it has no config.json)"
        )
    source = read_object(folder / "config.json").get("specialist", "")
    if not source:
        raise UserError(
            f"config.training.run = {c.run!r} names no specialist; set config.training.start"
        )
    return source


def check_disjoint(config: Config, asked: Iterable[str]) -> None:
    """Raise UserError if the run asked one of the questions of the split that this config evaluates on.

    Questions are compared by their words: a copy in another file, under another id, is the same one.
    """
    c, words = config.task, lambda text: " ".join(text.split())
    evaluated = {words(problem.question) for problem in tasks.make(c).problems(c.split)}
    if shared := {words(question) for question in asked} & evaluated:
        raise UserError(
            f"config.training.run = {config.training.run!r} asked {len(shared)} of the questions of "
            f"config.task.split = {c.split!r} (as {min(shared)[:60]!r}), which the trained model would be evaluated "
            "on; set config.task.split to another split, or make the run with config.task.split = 'train'"
        )


def apart(problems: Iterable[str], config: Config, looks: bool) -> set[str]:
    """The problems that are measured on and not learnt from: `training.held_out` of them, at least one; with `looks`.

    Raises UserError where nothing would be left.
    """
    names = list(dict.fromkeys(problems))
    if not looks:
        return set()
    if len(names) < 2:
        raise UserError(
            f"{len(names)} problem of config.training.run = {config.training.run!r} has something to learn from, too "
            "few to hold one out; set eval_every = 0"
        )
    count = min(max(1, round(config.training.held_out * len(names))), len(names) - 1)
    return set(random.Random(f"{config.seed}/held out").sample(names, count))


def fingerprint(found: Iterable[Completion]) -> str:
    """A hash of completions: of their ids, and of which are learnt."""
    digest = hashlib.sha256()
    for one in found:
        for array in (one.prompt, one.tokens, one.learnt):
            digest.update(
                f"{len(array)} ".encode() + np.asarray(array, np.int32).tobytes()
            )
    return digest.hexdigest()[:32]


def tell(what: str, count: int, problems: Iterable[str], held: int) -> None:
    """One line on what is learnt from."""
    kept = f", {held} problems held out" if held else ""
    distributed.print0(f"  {count} {what} of {len(set(problems))} problems{kept}")


def shared_prefix(one: Int[np.ndarray, "A"], other: Int[np.ndarray, "B"]) -> int:
    """How many tokens two completions begin with alike."""
    count = min(len(one), len(other))
    differ = np.flatnonzero(one[:count] != other[:count])
    return int(differ[0]) if len(differ) else count


def _teaches(row: dict) -> bool:
    """Whether an attempt is right and came to an end."""
    return row["grade"] == RIGHT and not row["truncated"]


def _starts(tokens: np.ndarray, kept: np.ndarray) -> bool:
    return len(kept) <= len(tokens) and bool((tokens[: len(kept)] == kept).all())


def _different(found: Iterable[Completion], by: str) -> list[Completion]:
    """The first of those that are alike, in their order; without an answer, by their tokens."""
    kinds = {}
    for one in found:
        own = (
            one.answer
            if by == "answer" and one.answer is not None
            else tuple(one.tokens.tolist())
        )
        kinds.setdefault(own, one)
    return list(kinds.values())
