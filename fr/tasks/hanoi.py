"""The Tower of Hanoi (arXiv 2506.06941): puzzles of n disks, judged by a simulator."""

import functools
import itertools
import math
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fr.tasks.generated import GeneratedTask, Item, mixed_radix
from fr.tasks.task import TASKS, split_of
from fr.types import GRADER_ERROR, RIGHT, UNPARSED, WRONG, Problem

LETTERS = "ABCDEFGH"  # names of pegs
_PLACES = (8, 7, 6)  # choices of each of three different letters
_MOVE = re.compile(
    r"disk[ \t]{0,3}(\d{1,2})[ \t]{0,3}[:,]?[ \t]{0,3}(?:from[ \t]{1,3})?"
    r"(?:peg[ \t]{1,3})?([A-Z])[ \t]{0,3}(?:->|→|to\b)[ \t]{0,3}(?:peg[ \t]{1,3})?"
    r"([A-Z])\b",
    re.IGNORECASE,
)
_THOUGHT = re.compile(r"</?think>")
_SLACK = 4  # moves that are read, in multiples of the shortest solution
MAX_CHARACTERS = 1_000_000  # of a completion, counted from its end

# Disks of each peg from the bottom to the top, in the order of the problem's pegs.
State = tuple[tuple[int, ...], ...]


class Move(NamedTuple):
    """One disk from one peg to another."""

    disk: int  # 1 is the smallest
    source: str  # name of a peg
    target: str  # name of another peg


@TASKS.register("hanoi")
class Hanoi(GeneratedTask):
    """Move `config.disks` disks from the first of three pegs to the last.

    Problems with each number of disks stand in turn. Pegs are three different letters,
    so that a number of disks has many problems of one structure [ours]. A completion
    has one move per line, `disk 1: Q -> B`; the shortest solution has 2^n − 1. Problems
    with the same pegs share a split.
    """

    name = "hanoi"

    def size(self) -> int:
        """Number of disks' choices times the ordered triples of letters."""
        return len(self.config.disks) * math.prod(_PLACES)

    def item(self, index: int) -> Item:
        """The disks and pegs at an index.

        Args:
            index: Below `size()`.

        Returns:
            The item; its meta has `disks` and `pegs`.
        """
        which, *places = mixed_radix(index, len(self.config.disks), *_PLACES)
        left = list(LETTERS)
        pegs = "".join(left.pop(place) for place in places)
        return _item(self.config.disks[which], pegs)

    @functools.cached_property
    def _splits(self) -> dict[str, list[Problem]]:
        table = self.build()
        for split, problems in table.items():
            rows = zip(
                *(
                    [problem for problem in problems if problem.meta["disks"] == disks]
                    for disks in self.config.disks
                )
            )
            table[split] = list(itertools.chain.from_iterable(rows))
        return table

    def shots(self, problem: Problem) -> Iterator[Problem]:
        """Worked examples: other pegs, and one disk fewer than the problem.

        As many disks would give the solution away.

        Args:
            problem: The problem that is asked.

        Returns:
            `config.shots` problems with at least one disk.
        """
        fewer = max(problem.meta["disks"] - 1, 1)
        triples = map("".join, itertools.permutations(LETTERS[::-1], 3))
        own = problem.meta["pegs"]
        found = (
            _item(fewer, pegs)
            for pegs in triples
            if pegs != own and split_of(f"hanoi-{pegs}") == "train"
        )
        for item in itertools.islice(found, self.config.shots):
            yield Problem(
                item.id,
                item.question,
                item.answer,
                self.name,
                {"group": item.group, "chain": item.chain, **item.more},
            )

    @staticmethod
    def grade(problem: Problem, completion: str) -> str:
        """Play the moves after the last thought; the first illegal one ends them.

        Args:
            problem: The problem that was attempted.
            completion: New text of the attempt.

        Returns:
            `right` where legal moves, at most four times the shortest solution, reach
            the goal, `unparsed` without a move, else `wrong`.
        """
        try:
            moves = find_moves(own_part(completion))
            if not moves:
                return UNPARSED
            return RIGHT if play(problem, moves).reached else WRONG
        except Exception:  # a failed grader must not count as a wrong answer
            return GRADER_ERROR


class Played(NamedTuple):
    """The puzzle after some moves."""

    state: State  # after all legal moves
    legal: int  # number of moves that were legal when they were made
    reached: bool  # the goal, before the first illegal move and within the limit


def play(problem: Problem, moves: Sequence[Move]) -> Played:
    """Make moves one by one; an illegal move leaves the state as it was.

    Args:
        problem: Gives `disks` and `pegs`.
        moves: The moves; those beyond four times the shortest solution are not made.

    Returns:
        The state, the number of legal moves, and whether the goal was reached.
    """
    disks, pegs = problem.meta["disks"], problem.meta["pegs"]
    tower = tuple(range(disks, 0, -1))
    state: list[tuple[int, ...]] = [tower, (), ()]
    legal, reached = 0, False
    for place, move in enumerate(moves[: _limit(problem)]):
        if is_legal(tuple(state), pegs, move):
            source, target = pegs.index(move.source), pegs.index(move.target)
            state[source] = state[source][:-1]
            state[target] = (*state[target], move.disk)
            legal += 1
        reached = reached or (legal == place + 1 and state[2] == tower)
    return Played(tuple(state), legal, reached)


def count_legal(problem: Problem, completion: str) -> tuple[int, int]:
    """Legal moves of a completion, each in the state after the legal ones before it.

    Args:
        problem: Gives `disks` and `pegs`.
        completion: New text of the attempt.

    Returns:
        (legal moves, all moves), of those that `play` makes.
    """
    moves = find_moves(own_part(completion))[: _limit(problem)]
    return play(problem, moves).legal, len(moves)


def _limit(problem: Problem) -> int:
    return _SLACK * (2 ** problem.meta["disks"] - 1)


def is_legal(state: State, pegs: str, move: Move) -> bool:
    """True if a move takes the top disk of a peg to a peg without a smaller one on it.

    Args:
        state: Disks of each peg.
        pegs: Names of the pegs, in the order of the state.
        move: The move.

    Returns:
        True or False.
    """
    if move.source not in pegs or move.target not in pegs or move.source == move.target:
        return False
    source, target = state[pegs.index(move.source)], state[pegs.index(move.target)]
    on_top = bool(source) and source[-1] == move.disk
    return on_top and not (target and target[-1] < move.disk)


def find_moves(text: str) -> list[Move]:
    """Moves in a text, in order.

    Args:
        text: Such as `disk 1: Q -> B`, one per line or not.

    Returns:
        The moves, legal or not.
    """
    return [
        Move(int(disk), source.upper(), target.upper())
        for disk, source, target in _MOVE.findall(text[-MAX_CHARACTERS:])
    ]


def own_part(completion: str) -> str:
    """Text after the last thought; "" if the text ends inside one.

    Args:
        completion: New text of an attempt.

    Returns:
        The part that is graded.
    """
    marks = list(_THOUGHT.finditer(completion))
    if not marks:
        return completion
    return completion[marks[-1].end() :] if marks[-1][0] == "</think>" else ""


def write_state(state: State, pegs: str) -> str:
    """The disks of each peg from the bottom to the top.

    Args:
        state: Disks of each peg.
        pegs: Names of the pegs.

    Returns:
        Such as `(Q: 3 2, T: none, B: 1)`.
    """
    each = (" ".join(map(str, disks)) or "none" for disks in state)
    return f"({', '.join(f'{peg}: {disks}' for peg, disks in zip(pegs, each))})"


def solve(disks: int, pegs: str) -> list[Move]:
    """The shortest solution, 2^n − 1 moves from the first peg to the last.

    Args:
        disks: Number of disks.
        pegs: Names of the three pegs.

    Returns:
        The moves.
    """
    if disks == 0:
        return []
    first, spare, last = tuple(pegs)
    return [
        *solve(disks - 1, f"{first}{last}{spare}"),
        Move(disks, first, last),
        *solve(disks - 1, f"{spare}{first}{last}"),
    ]


@functools.cache
def _solution(disks: int) -> str:
    moves = solve(disks, "ABC")
    return "\n".join(f"disk {m.disk}: {m.source} -> {m.target}" for m in moves)


def _item(disks: int, pegs: str) -> Item:
    first, spare, last = tuple(pegs)
    many = f"{disks} disks, from 1 (the smallest) to {disks}, are"
    return Item(
        id=f"hanoi-{disks}-{pegs}",
        group=f"hanoi-{pegs}",
        question=f"There are three pegs, {first}, {spare} and {last}. "
        f"{many if disks > 1 else '1 disk is'} on peg {first}, the largest at the "
        f"bottom. Move them all to peg {last}: one disk at a time, only the top disk "
        "of a peg, and never onto a smaller disk. Write one move per line, such as "
        f'"disk 1: {first} -> {spare}". The answer is the peg that holds all disks in '
        "the end.",
        chain=_solution(disks).translate(str.maketrans("ABC", pegs)),
        answer=last,
        more={"disks": disks, "pegs": pegs},
    )
