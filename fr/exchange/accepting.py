"""One reading of an engine's files: the completions that fit a run."""

import collections
import dataclasses
import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from fr.errors import UserError, printable
from fr.exchange.matching import Matcher
from fr.exchange.reading import completions, one_record
from fr.exchange.record_files import MAX_FILE
from fr.exchange.sampled import LENGTH, Sampled
from fr.exchange.token_ids import Read, Reader
from fr.exchange.tool_formats import format_of
from fr.files import open_regular
from fr.runs.imported import RAW
from fr.runs.run import Run
from fr.types import Problem

_SHOWN = 3  # names of each reason that are kept
_LONGEST = 60  # characters of such a name
_LOOKED_AT = 64  # rollouts whose ids must decode to the file's text


@dataclasses.dataclass(frozen=True)
class Placed:
    """A completion with its place in the run."""

    sampled: Sampled  # the completion
    problem: Problem  # of the run
    attempt: int  # index among the problem's rollouts
    prompt: tuple[int, ...]  # token ids


@dataclasses.dataclass(frozen=True)
class Asked:
    """The files to import, and how to read them.

    Attributes:
        files: Files of the engine, in order.
        format: Name of their format.
        logprobs: `raw` (temperature 1, all tokens) or `processed` (as drawn).
        model: Rollouts of this model alone, by its name in the files; "": all.
    """

    files: tuple[str, ...]
    format: str
    logprobs: str = RAW
    model: str = ""

    def check(self) -> None:
        """Check the names before a model is loaded.

        Raises:
            UserError: The format is unknown, or a file is not there or of another kind.
        """
        format_of(self.format, self.files)
        for file in self.files:
            open_regular(file, MAX_FILE).close()


class Pass:
    """One reading of all files; every pass accepts the same completions."""

    def __init__(self, run: Run, asked: Asked):
        self._run, self._asked = run, asked
        self._format = format_of(asked.format, asked.files)
        model = run.specialist
        self._matcher = Matcher(run.problems, lambda ids: model.decode(ids, True))
        self.reader = Reader(model, run.config.sampling.max_new_tokens)
        # By problem: what was asked, its ids, where it stands, and how ids were found.
        self._prompts: dict[str, tuple[Any, tuple[int, ...], str, str]] = {}
        self._names: set[bytes] = set()
        self._counts: collections.Counter[str] = collections.Counter()
        self.left_out: dict[str, list[str]] = {}
        self.out: collections.Counter[str] = collections.Counter()
        self.models: set[str] = set()
        self.settings: set[str] = set()  # of the files that differ from the config's
        self.looked = self.differ = 0
        self.example = ""
        self.marks: collections.Counter[str] = collections.Counter()

    def __iter__(self) -> Iterator[Placed]:
        for file in self._asked.files:
            for sampled in completions(self._asked.format, self._format, file):
                with one_record(sampled.where, self._asked.format):
                    placed = self._place(sampled)
                if placed:
                    yield placed

    def _place(self, sampled: Sampled) -> Placed | None:
        problem, why = None, sampled.unread
        if not why and sampled.tokens is None and sampled.text is None:
            why = "it has no completion"
        # A text without a character is a stop token alone.
        said = sampled.text or sampled.ended != LENGTH and not sampled.stopped
        if not why and not (sampled.tokens or sampled.tokens is None and said):
            why = "its completion is empty"
        if not why:
            problem, why = self._matcher.find(sampled)
        if not why and self._asked.model not in ("", sampled.model):
            why = f"it is of another model: {sampled.model}"
        if not why and problem and sampled.name and not self._is_new(sampled, problem):
            why = "it is there twice"
        if why or problem is None:
            kind, _, name = why.partition(": ")
            self.out[kind] += 1
            name = printable(name[:_LONGEST]) or sampled.where
            shown = self.left_out.setdefault(kind, [])
            if len(shown) < _SHOWN and name not in shown:
                shown.append(name)
            return None
        prompt = self._prompt(sampled, problem)
        attempt = self._counts[problem.id]
        self._counts[problem.id] += 1
        self.models.add(sampled.model)
        for name, value in sampled.settings.items():
            if (here := getattr(self._run.config.sampling, name)) != value:
                self.settings.add(f"{name} {value:g} (config.sampling: {here:g})")
        return Placed(sampled, problem, attempt, prompt)

    def read(self, placed: Placed) -> Read:
        """The completion as ids; counts what was done to it, and looks at its text.

        Args:
            placed: An accepted completion.

        Returns:
            Its ids and log-probs.
        """
        sampled, model = placed.sampled, self._run.specialist
        with one_record(sampled.where, self._asked.format):
            read = self.reader.completion(sampled)
        self.marks.update(read.marks)
        self.marks["with log-probs"] += int(np.isfinite(read.logp).any())
        self.marks["truncated"] += read.truncated
        if sampled.tokens and sampled.text is not None and self.looked < _LOOKED_AT:
            tokens = read.tokens if read.truncated else read.tokens[:-1]
            here, there = model.decode(tokens).strip(), sampled.text.strip()
            self.looked += 1
            # A text that ended it is not in the file's.
            if not here.startswith(there):
                self.differ += 1
                self.example = f"{here[:30]!r} for {there[:30]!r} ({sampled.where})"
        return read

    def _is_new(self, sampled: Sampled, problem: Problem) -> bool:
        """False for a name whose completion is there: tools count from 0 again."""
        drawn = sampled.text if sampled.tokens is None else sampled.tokens
        name = repr((sampled.name, problem.id, drawn))
        hashed = hashlib.sha256(name.encode("utf-8", "replace")).digest()[:12]
        new = hashed not in self._names
        self._names.add(hashed)
        return new

    def _prompt(self, sampled: Sampled, problem: Problem) -> tuple[int, ...]:
        asked = sampled.prompt_tokens or sampled.prompt
        known = self._prompts.get(problem.id)
        if known is None or known[0] != asked:
            usual = self._run.task.prompt(problem)
            ids, mark = self.reader.prompt(sampled, usual)
            if known is not None and known[1] != ids:
                raise UserError(
                    f"{sampled.where}: problem {problem.id} is asked by another prompt "
                    f"than at {known[2]}; a run has one prompt per problem: import the "
                    "rollouts of each prompt into a --workdir of its own"
                )
            if not ids:
                raise UserError(f"{sampled.where}: its prompt has no token")
            self._prompts[problem.id] = known = (asked, ids, sampled.where, mark)
        if known[3]:
            self.marks[known[3]] += 1
        return known[1]

    @property
    def problems(self) -> int:
        """Number of problems with a rollout."""
        return len(self._counts)

    @property
    def other_prompts(self) -> int:
        """Problems that were asked by another prompt than the task's own."""
        problems = {problem.id: problem for problem in self._run.problems}
        own = self._run.specialist.encode
        return sum(
            own(self._run.task.prompt(problems[name])) != ids
            for name, (_, ids, _, _) in self._prompts.items()
        )
