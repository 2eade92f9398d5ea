"""Data sets of the optional package reasoning_gym (arXiv 2505.24760).

For example `config.task.name=reasoning_gym:leg_counting`.
"""

import functools
import importlib.util
import re

from absl import logging

from fr.bounded import Bounded, GraderFailure
from fr.config import TaskConfig
from fr.errors import UserError
from fr.registry import suggest
from fr.tasks.extract import CUE, LINES, find_answer
from fr.tasks.grading import grade_answer
from fr.tasks.normalise import strip_markup
from fr.tasks.task import SPLITS, TASKS, build_prompt, check_split, split_of
from fr.types import GRADER_ERROR, RIGHT, UNPARSED, WRONG, Problem, Prompt

PACKAGE = "reasoning_gym"
_WORKER = "fr.tasks.reasoning_gym_worker:call"
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_OPERATORS = re.compile(r"\\(?:times|cdot)\b")  # data sets write these as signs
_SECONDS = 60.0  # to make an item, which scoring does again; most take milliseconds


@TASKS.register(PACKAGE)
class ReasoningGym:
    """The first items of one seed of a data set, split by a hash of the question.

    Only one of several items with the same question is kept. Items are made when they
    are needed, about ten for one of the test split: a hundred test problems of the
    slowest data sets take minutes. A missing package and an unknown data set raise
    UserError.
    """

    def __init__(self, config: TaskConfig):
        self.config, self._name = config, config.name.partition(":")[2]
        if importlib.util.find_spec(PACKAGE) is None:
            raise UserError(
                f"config.task.name = {config.name!r} needs {PACKAGE}; run pip install "
                "-e '.[tasks]'"
            )
        known = _maker().call("names")
        if self._name not in known:
            raise UserError(
                f"config.task.name = {config.name!r} must be {PACKAGE}:NAME of a data "
                f"set{suggest(self._name, known)}"
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
                f"config.task.shots = {config.shots}: {config.name} lacks answers to "
                "show; set 0"
            )

    def problems(self, split: str, count: int | None = None) -> list[Problem]:
        """Problems of a split in the order of the items.

        Args:
            split: One of `task.SPLITS`.
            count: Number of problems, from the first; None: all of them.

        Returns:
            At most `count` problems.

        Raises:
            UserError: The split is not known.
        """
        check_split(split)
        while (count is None or len(self._splits[split]) < count) and self._make():
            continue
        return self._splits[split][:count]

    def prompt(self, problem: Problem) -> Prompt:
        """Prompt of a problem: `config.shots` training problems with answers, then it.

        Args:
            problem: A problem of this task.

        Returns:
            Text or messages.
        """
        others = [shot for shot in self._shots if shot.question != problem.question]
        shots = ((p.question, "", p.answer) for p in others[: self.config.shots])
        return build_prompt(self.config, problem.question, shots)

    @staticmethod
    def grade(problem: Problem, completion: str) -> str:
        """Grade by the data set's own `score_answer`: right iff it gives 1.0.

        Args:
            problem: The problem that was attempted.
            completion: New text of the attempt.

        Returns:
            One of `fr.types.GRADES`.
        """
        answers = readings(completion, problem.answer)
        if not answers:
            return UNPARSED
        name = problem.task.partition(":")[2]
        try:
            index = problem.meta["index"]
            score = _scorer().call("score", name, index, problem.question, answers)
        except GraderFailure:
            return GRADER_ERROR
        return RIGHT if score == 1.0 else WRONG

    def _make(self) -> bool:
        """Make the next item and put it into its split; False if there is none."""
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
        """True if the item's own answer is right, or if that cannot be known."""
        if not answer:
            return True
        try:
            stated = readings(f"{CUE} {answer}")
            # by the process that has just made the item
            score = _maker().call("score", self._name, self._made, question, stated)
            return score == 1.0
        except GraderFailure:
            return True


def _warn_of_junk(name: str) -> None:
    """Warn if a data set's scorer pays for junk, which is graded wrong here."""
    try:
        junk = _maker().call("accepts_junk", name, 0)
    except GraderFailure:
        return  # an item that cannot be made or scored is reported when it is needed
    if junk is not None:
        logging.warning(
            "%s:%s gives its full score to %r, which answers nothing: it is graded "
            "wrong",
            PACKAGE,
            name,
            junk[:40],
        )


def readings(completion: str, reference: str = "") -> list[str]:
    r"""Readings of the final answer of a completion.

    Args:
        completion: New text of an attempt.
        reference: The right answer. If it is a number, an answer that states the same
            number (`m = 62`, `500 legs`) has the reference as another reading.

    Returns:
        The line of the answer and all text after the cue: as written, without markup,
        and with signs for LaTeX's operators.
    """
    found = find_answer(completion, LINES)
    if found is None:
        return []
    texts = (
        [found.text]
        if found.how in ("tag", "box", "bare")
        else [found.text, found.rest]
    )
    if completion.startswith(CUE, found.start):
        # a board may begin with Markdown's own signs
        texts.append(completion[found.start + len(CUE) :].strip())
    bare = lambda text: strip_markup(text).removesuffix(".")
    forms = [form for text in texts for form in (text, bare(text))]
    with_signs = (_OPERATORS.sub(sign, form) for form in forms for sign in "×*")
    forms = [*forms, *(form.strip("$ ") for form in with_signs)]
    # A sum or product is unparsed, so its value does not count as the number.
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
