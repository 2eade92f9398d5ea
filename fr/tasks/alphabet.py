"""Strings of letters under chains of two transformations (arXiv 2508.01191)."""

import random
from typing import TYPE_CHECKING

from fr.config.puzzles import FUNCTIONS, LETTERS, AlphabetConfig
from fr.tasks import vocabulary
from fr.tasks.extract import CUE
from fr.tasks.generated import GeneratedTask, Item, mixed_radix
from fr.tasks.task import TASKS
from fr.types import RIGHT, UNPARSED, WRONG, Problem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

NOISE = "?"  # the word of the noise, which no training problem without noise holds
_VOCABULARY = 64
_NAMED, _ASKED, _END = ":", "->", "."


@TASKS.register("alphabet")
class Alphabet(GeneratedTask):
    """Apply `config.alphabet.chains` to strings, with every intermediate written.

    f1 moves every letter `rotation` letters on in the alphabet, f2 moves the string
    `shift` places to the left and around. A prompt is `a b c d : f1 f2 ->`, its
    completion `f1 n o p q . f2 o p q n . Answer: o p q n`. All chains of one string
    share a split. f1 and f2 commute, so that an answer can be right after a
    wrong chain.
    """

    name = "alphabet"

    def size(self) -> int:
        """Number of pairs of a chain and a string."""
        c = self.config.alphabet
        return len(c.chains) * len(c.letters) ** c.length

    def item(self, index: int) -> Item:
        """The chain and the string at an index, with its noise.

        Args:
            index: Below `size()`.

        Returns:
            The item; its meta has `functions`, and `intact`: the noise took no letter
            and no function away.
        """
        c = self.config.alphabet
        which, *places = mixed_radix(index, len(c.chains), *[len(c.letters)] * c.length)
        functions = c.chains[which].split()
        element = "".join(c.letters[place] for place in places)
        name = f"alphabet-{element}-{''.join(functions)}"
        words = [*element, _NAMED, *functions, _ASKED]
        words, intact = disturb(words, c, name)
        states = [element]
        for function in functions:
            states.append(transform(states[-1], function, c))
        steps = [
            f"{function} {' '.join(state)} {_END}"
            for function, state in zip(functions, states[1:])
        ]
        return Item(
            id=name,
            group=f"alphabet-{element}",
            question=" ".join(words),
            chain=" ".join(steps),
            answer=" ".join(states[-1]),
            more={"functions": " ".join(functions), "intact": intact},
        )

    def prompt(self, problem: Problem) -> str:
        """Prompt of a problem: `config.shots` worked training problems, then it.

        Args:
            problem: A problem of this task.

        Returns:
            Lines of words; the question is the last one.
        """
        lines = [
            f"{shot.question} {shot.meta['chain']} {CUE} {shot.answer}"
            for shot in self.shots(problem)
        ]
        return "\n".join([*lines, problem.question])

    def tokenizer(self) -> "PreTrainedTokenizerFast":
        """The vocabulary of a model made from scratch: a token for each word."""
        signs = (_NAMED, _ASKED, _END, NOISE, CUE)
        words = vocabulary.word_level([*LETTERS, *FUNCTIONS, *signs], _VOCABULARY)
        return vocabulary.as_transformers(words)

    @staticmethod
    def grade(problem: Problem, completion: str) -> str:
        """Compare the letters after the last `Answer:` with the reference.

        Args:
            problem: The problem that was attempted.
            completion: New text of the attempt.

        Returns:
            One of `fr.types.GRADES`.
        """
        _, cue, answer = completion.rpartition(CUE)
        if not cue:
            return UNPARSED
        return RIGHT if answer.split() == problem.answer.split() else WRONG


def transform(element: str, function: str, config: AlphabetConfig) -> str:
    """Apply one transformation to a string.

    Args:
        element: Letters from a to z.
        function: `f1`, a rotation of the alphabet, or `f2`, a cyclic shift.
        config: Gives `rotation` and `shift`.

    Returns:
        The string after it.
    """
    if function == "f1":
        places = (LETTERS.index(letter) + config.rotation for letter in element)
        return "".join(LETTERS[place % len(LETTERS)] for place in places)
    cut = config.shift % len(element)
    return element[cut:] + element[:cut]


def disturb(
    words: list[str], config: AlphabetConfig, name: str
) -> tuple[list[str], bool]:
    """Words of a question after the noise of the config.

    Each word has a number u, uniform in [0, 1) and fixed by the problem and the kind of
    noise; the noise is there where u < `noise_share`. So a larger share adds noise and
    takes none back.

    Args:
        words: The question.
        config: Gives `noise` and `noise_share`.
        name: Id of the problem.

    Returns:
        The words, at least one, and True if every letter and function is still there.
    """
    chance = random.Random(f"{config.noise} {name}")
    found, intact = [], True
    for word in words:
        hit = chance.random() < config.noise_share and config.noise != ""
        if hit and config.noise != "delete":
            found.append(NOISE)
        if not hit or config.noise == "insert":
            found.append(word)
        elif word not in (_NAMED, _ASKED):
            intact = False
    return found or words[-1:], intact
