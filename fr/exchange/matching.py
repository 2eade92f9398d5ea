"""Find the problem of a completion: by the question in its prompt, or by an id."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from fr.exchange.record_fields import last_turn
from fr.exchange.sampled import Sampled
from fr.types import Problem

_GRAM = 12  # characters of a question's beginning by which it is looked up
_SPACE = re.compile(r"\s+")
_LONGEST = 60  # characters of a name in messages


class Matcher:
    """Problems by id and by question. Texts are compared without regard to spaces."""

    def __init__(
        self, problems: Sequence[Problem], decode: Callable[[Sequence[int]], str]
    ):
        """Index the problems.

        Args:
            problems: Problems of the run.
            decode: Token ids -> text with its special tokens, for prompts of ids alone.
        """
        self._decode = decode
        self._by_id = {problem.id: problem for problem in problems}
        self._by_question: dict[str, list[Problem]] = defaultdict(list)
        for problem in problems:
            self._by_question[_plain(problem.question)].append(problem)
        self._grams: dict[str, list[str]] = defaultdict(list)
        self._short: list[str] = []
        for question in self._by_question:
            if len(question) < _GRAM:
                self._short.append(question)
            else:
                self._grams[question[:_GRAM]].append(question)
        self._seen: dict[str, list[Problem]] = {}

    def find(self, sampled: Sampled) -> tuple[Problem | None, str]:
        """The problem of a completion.

        The question that ends last in the prompt is the one that was asked: examples
        stand before it. An id decides among equal questions, and where the prompt has
        no question of the run; an id of digits alone, which tools count, is not
        believed against a prompt.

        Args:
            sampled: The completion.

        Returns:
            The problem and ""; or None and the reason.
        """
        text = _plain(self._asked(sampled))
        if text and text not in self._seen:
            self._seen[text] = self._within(text)
        within = self._seen.get(text, [])
        named = [self._by_id[name] for name in sampled.ids if name in self._by_id]
        for problem in named:
            if problem in within:
                return problem, ""
        if len(within) == 1:
            return within[0], ""
        if within:
            names = " and ".join(problem.id for problem in within[:2])
            return None, f"several problems have its question: {names}"
        if named and not (text and named[0].id.isdecimal()):
            return named[0], ""
        shown = sampled.ids[0] if sampled.ids else text[-_LONGEST:] or sampled.where
        return None, f"not a problem of the run: {shown}"

    def _asked(self, sampled: Sampled) -> str:
        if sampled.prompt is not None:
            return last_turn(sampled.prompt)
        if sampled.prompt_tokens:
            return self._decode(sampled.prompt_tokens)
        return sampled.question

    def _within(self, text: str) -> list[Problem]:
        """Problems with the question that ends last in a text, the longest of those."""
        best = max(self._ends(text), default=None)
        return [] if best is None else self._by_question[best[2]]

    def _ends(self, text: str) -> Iterator[tuple[int, int, str]]:
        """(end, length, question) of every question in a text."""
        for start in range(len(text) - _GRAM + 1):
            for question in self._grams.get(text[start : start + _GRAM], ()):
                if text.startswith(question, start) and _apart(text, start, question):
                    yield start + len(question), len(question), question
        for question in self._short:
            start = text.rfind(question) if question else -1
            if start >= 0 and _apart(text, start, question):
                yield start + len(question), len(question), question


def _plain(text: str) -> str:
    return _SPACE.sub(" ", text).strip()


def _apart(text: str, start: int, question: str) -> bool:
    """True if no word or number goes on at either end: `7 9` is not in `17 9`."""
    end = start + len(question)
    before = start and text[start - 1].isalnum() and question[0].isalnum()
    after = end < len(text) and text[end].isalnum() and question[-1].isalnum()
    return not (before or after)
