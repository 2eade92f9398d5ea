"""Any data set of the optional package reasoning_gym, as `config.task.name=reasoning_gym:leg_counting`."""

import functools
import importlib.util
import re

from absl import logging

from fr.bounded import Bounded, GraderFailure
from fr.config import TaskConfig
from fr.errors import UserError
from fr.registry import suggest
from fr.tasks.base import SPLITS, TASKS, ask, split_of
from fr.tasks.extract import CUE, LINES, find
from fr.tasks.grading import grade_answer
from fr.tasks.undress import plain
from fr.types import GRADER_ERROR, RIGHT, UNPARSED, WRONG, Problem, Prompt

PACKAGE = "reasoning_gym"
_WORKER = "fr.tasks.reasoning_gym_worker:ask"
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_OPERATORS = re.compile(r"\\(?:times|cdot)\b")  # which data sets write as signs
_SECONDS = 60.0  # to make an item, which scoring it does again; most take milliseconds


@TASKS.register(PACKAGE)
class ReasoningGym:
    """The first items of one seed of a data set; equal questions share a split, and only one of them is kept.

    Items are made when they are asked for, ten of them for each of the test split: of the slowest data sets a
    hundred test problems take minutes. Raises UserError without the package and for an unknown data set.
    """

    def __init__(self, config: TaskConfig):
        self.config, self._name = config, config.name.partition(":")[2]
        if importlib.util.find_spec(PACKAGE) is None:
            raise UserError(
                f"config.task.name = {config.name!r} needs {PACKAGE}; run pip install -e '.[tasks]'"
            )
        known = _maker().call("names")
        if self._name not in known:
            raise UserError(
                f"config.task.name = {config.name!r} must be {PACKAGE}:NAME of a data set{suggest(self._name, known)}"
            )
        _warn_of_junk(self._name)
        self._splits: dict[str, list[Problem]] = {split: [] for split in SPLITS}
        self._questions: set[str] = set()
        self._made = 0
        self._shots = [
            p
            for p in self.problems("train", config.shots and config.shots + 1)
            if p.answer
        ]
        if config.shots and len(self._shots) <= config.shots:
            raise UserError(
                f"config.task.shots = {config.shots}: {config.name} lacks answers to show; set 0"
            )

    def problems(self, split: str, count: int | None = None) -> list[Problem]:
        """The first `count` problems of a split in the order of the items; all of them if None."""
        if split not in SPLITS:
            raise UserError(
                f"config.task.split = {split!r} is not known{suggest(split, SPLITS)}"
            )
        while (count is None or len(self._splits[split]) < count) and self._make():
            continue
        return self._splits[split][:count]

    def prompt(self, problem: Problem) -> Prompt:
        """`config.shots` training problems with their answers, then the question."""
        others = [shot for shot in self._shots if shot.question != problem.question]
        shots = ((p.question, "", p.answer) for p in others[: self.config.shots])
        return ask(self.config, problem.question, shots)

    @staticmethod
    def grade(problem: Problem, completion: str) -> str:
        """Right is what the data set's own `score_answer` gives 1.0, no less."""
        answers = readings(completion, problem.answer)
        if not answers:
            return UNPARSED
        name = problem.task.partition(":")[2]
        try:
            score = _scorer().call(
                "score", name, problem.meta["index"], problem.question, answers
            )
        except GraderFailure:
            return GRADER_ERROR
        return RIGHT if score == 1.0 else WRONG

    def _make(self) -> bool:
        """Make the next item and put it on its side; False if there is none."""
        try:
            item = _maker().call("item", self._name, self._made)
        except GraderFailure as error:
            raise UserError(
                f"{self.config.name} cannot make item {self._made}: {error}"
            ) from error
        if item is None:
            return False
        question, answer = item
        if not self._grades_itself_right(question, answer):
            logging.warning(
                "%s: item %d is left out, its answer is not right",
                self.config.name,
                self._made,
            )
        elif question not in self._questions:
            self._questions.add(question)
            meta, key = {"index": self._made}, f"{self.config.name}-{self._made}"
            problem = Problem(key, question, answer, task=self.config.name, meta=meta)
            self._splits[split_of(question)].append(problem)
        self._made += 1
        return True

    def _grades_itself_right(self, question: str, answer: str) -> bool:
        """Whether the item's own answer would be right; True where there is none, and where nobody can say."""
        if not answer:
            return True
        try:
            # by the process that has just made the item
            stated = readings(f"{CUE} {answer}")
            return (
                _maker().call("score", self._name, self._made, question, stated) == 1.0
            )
        except GraderFailure:
            return True


def _warn_of_junk(name: str) -> None:
    """Say so if a data set's scorer pays for what is no answer; such answers are graded wrong."""
    try:
        junk = _maker().call("pays_for_junk", name, 0)
    except GraderFailure:
        return  # an item that cannot be made or scored is told where it is asked
    if junk is not None:
        logging.warning(
            "%s:%s gives its full score to %r, which is no answer: it is graded wrong",
            PACKAGE,
            name,
            junk[:40],
        )


def readings(completion: str, reference: str = "") -> list[str]:
    r"""The final answer as it may be meant.

    Args:
      completion: the new text of an attempt.
      reference: the right answer; where that is a number, an answer that states the same number
        (`m = 62`, `500 legs`) is also read as the reference is written.

    Returns:
      Its line or all that follows the cue, as written, undressed, and with signs for LaTeX's operators.
    """
    found = find(completion, LINES)
    if found is None:
        return []
    texts = (
        [found.text]
        if found.how in ("tag", "box", "bare")
        else [found.text, found.rest]
    )
    if completion.startswith(CUE, found.start):
        texts.append(
            completion[found.start + len(CUE) :].strip()
        )  # a board may begin with Markdown's own signs
    forms = [form for text in texts for form in (text, plain(text).removesuffix("."))]
    forms += [_OPERATORS.sub(sign, form).strip("$ ") for form in forms for sign in "×*"]
    # no sum or product: its value is not what such a data set asks for
    if _NUMBER.fullmatch(reference) and grade_answer(completion, reference) == RIGHT:
        forms.append(reference)
    return list(dict.fromkeys(form for form in forms if form))


@functools.cache
def _maker() -> Bounded:
    # One process, in the order of the items: it makes the data set once.
    return Bounded(_WORKER, _SECONDS, workers=1)


@functools.cache
def _scorer() -> Bounded:
    return Bounded(_WORKER, _SECONDS)
