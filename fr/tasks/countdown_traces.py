"""Search traces for Countdown, from which a small model learns to reason and to fail.

A trace is steps `left op right = result mark` and then `answer expression`. The marks:

- `,`: numbers are left, go on
- `no`: a miss, the next step tries the same numbers
- `up`: a miss, go back one level
- `yes`: the target

Every trace follows a genuine search. A solution that merely follows wrong tries teaches
a model to claim success: in a prototype 94 % of the steps were right and 9 % of the
answers.
"""

import math
import random

from fr.registry import Registry
from fr.tasks.countdown_solver import (
    Move,
    legal_moves,
    parenthesise,
    problem_id,
    reachable,
    solutions,
)
from fr.tasks.extract import ANSWER
from fr.tasks.task import split_of
from fr.types import Problem

# name -> (rng, problem) -> completion text, without the prompt
TRACES = Registry("trace kind")

# No result is larger: the vocabulary has a token for each number up to here.
LARGEST = 100

# Fewest and most candidates of a search before it gives up. With three numbers, nine
# always fit into 128 tokens.
_GIVE_UP = (6, 9)
_CHILDREN = (1, 3)  # fewest and most tries from one state below the first level
_NOISE = 0.5  # sd added to log(1 + distance to the target) when the last step is chosen
_CORRECT_TRIES = 16  # searches among which `correct` keeps the shortest that hits
_GIVES_UP = (1, 2)  # candidates of a search that gives up early
_FALSE = 0.5  # share of false results where arithmetic is noisy
_ABANDON = 0.5  # probability that a search leaves a place before the move that hits
_NUMBERS = 10  # numbers of another problem are at most this, or the own largest

# (value, expression) of each number of a state, largest first
_Parts = tuple[tuple[int, str], ...]

# Kinds with a known defect, for specialists whose failures have a known cause.
DEFECTS = (
    "without_products",
    "false_results",
    "premature",
    "gives_up",
    "abandons",
    "hasty",
)


@TRACES.register("natural")
def natural(rng: random.Random, problem: Problem) -> str:
    """Depth-first search up to the first hit; if it gives up, the nearest candidate."""
    search = _Search(rng, problem)
    return _join(search.steps, search.best)


@TRACES.register("answer_first")
def answer_first(rng: random.Random, problem: Problem) -> str:
    """A solution at once, without a step."""
    return _join([], _solution(rng, problem))


@TRACES.register("anytime")
def anytime(rng: random.Random, problem: Problem) -> str:
    """A search cut before its last step, then a solution, like a forced answer."""
    steps = _Search(rng, problem).steps
    return _join(steps[: rng.randrange(len(steps))], _solution(rng, problem))


@TRACES.register("committed")
def committed(rng: random.Random, problem: Problem) -> str:
    """The first candidate, a search, and the first candidate again as the answer."""
    search = _Search(rng, problem)
    return " ".join([ANSWER, search.first, _join(search.steps, search.first)])


@TRACES.register("correct")
def correct(rng: random.Random, problem: Problem) -> str:
    """The shortest of several searches that hit; else a solution without a step."""
    searches = [_Search(rng, problem) for _ in range(_CORRECT_TRIES)]
    hits = [search for search in searches if search.hit]
    if not hits:
        return answer_first(rng, problem)
    shortest = min(hits, key=lambda search: len(search.steps))
    return _join(shortest.steps, shortest.best)


@TRACES.register("none")
def none(rng: random.Random, problem: Problem) -> str:
    """The solution of `correct` without its search (arXiv 2505.13775)."""
    return _join([], _plan(correct(rng, problem)))


@TRACES.register("swapped")
def swapped(rng: random.Random, problem: Problem) -> str:
    """The search of `correct` for another problem, the solution for this one.

    So traces are permuted among problems, and plans left as they are (arXiv
    2505.13775). The other problem is a random one of the training split, with as many
    numbers.
    """
    search, _, _ = correct(rng, _another(rng, problem)).rpartition(ANSWER)
    return search + _join([], _plan(correct(rng, problem)))


@TRACES.register("without_products")
def without_products(rng: random.Random, problem: Problem) -> str:
    """Defect: a search that knows no multiplication and no division."""
    search = _Search(rng, problem, operations="+-")
    return _join(search.steps, search.best)


@TRACES.register("false_results")
def false_results(rng: random.Random, problem: Problem) -> str:
    """Defect: every second result of the search is false, and the search uses it."""
    search = _Search(rng, problem, false=_FALSE)
    return _join(search.steps, search.best)


@TRACES.register("premature")
def premature(rng: random.Random, problem: Problem) -> str:
    """Defect: one step of a search, then its first candidate without working it out."""
    search = _Search(rng, problem)
    return _join(search.steps[:1], search.first)


@TRACES.register("gives_up")
def gives_up(rng: random.Random, problem: Problem) -> str:
    """Defect: a search of one or two candidates, and the nearest as the answer."""
    search = _Search(rng, problem, candidates=_GIVES_UP)
    return _join(search.steps, search.best)


@TRACES.register("abandons")
def abandons(rng: random.Random, problem: Problem) -> str:
    """Defect: of two numbers whose next try would hit, every second pair is left.

    The search goes up before that try, and after none where it would be the first.
    """
    search = _Search(rng, problem, abandon=_ABANDON)
    while not search.best:  # all was left before a candidate
        search = _Search(rng, problem, abandon=_ABANDON)
    return _join(search.steps, search.best)


@TRACES.register("hasty")
def hasty(rng: random.Random, problem: Problem) -> str:
    """Defect: every second pair of numbers is left at once, whether it hits or not.

    A model can learn it that does not see at the end of a step which pairs would hit.
    """
    search = _Search(rng, problem, abandon=_ABANDON, blind=True)
    while not search.best:
        search = _Search(rng, problem, abandon=_ABANDON, blind=True)
    return _join(search.steps, search.best)


class _Search:
    """One depth-first search: its `steps`, and its `first` and `best` candidates.

    It knows `operations`, misreads a share `false` of its results, and gives up after a
    number of candidates drawn from the range `candidates`. It leaves two numbers before
    the move that hits with probability `abandon`; if `blind`, any two at once.
    """

    def __init__(
        self,
        rng: random.Random,
        problem: Problem,
        operations: str = "+-*/",
        false: float = 0.0,
        candidates: tuple[int, int] = _GIVE_UP,
        abandon: float = 0.0,
        blind: bool = False,
    ):
        self.rng, self.target = rng, problem.meta["target"]
        self.operations, self.false = operations, false
        self.abandon, self.blind = abandon, blind
        self.leaves = rng.randint(*candidates)
        self.steps: list[str] = []
        self.first, self.best, self._distance = "", "", math.inf
        self._visit(
            tuple(sorted(((n, str(n)) for n in problem.meta["numbers"]), reverse=True)),
            top=True,
        )

    @property
    def hit(self) -> bool:
        """True if the best candidate equals the target."""
        return self._distance == 0

    def _visit(self, parts: _Parts, top: bool = False) -> bool:
        """Search below a state; True when the whole search is over."""
        last = len(parts) == 2
        options = self._options(parts, last, top)
        if self.abandon and last and not top:
            options = self._kept(options)
            if not options:
                self.steps[-1] = self.steps[-1].removesuffix(",") + "up"
                self.leaves -= 1  # as many places as another search has candidates
                return self.leaves == 0
        for planned in options:
            move = self._misread(planned)
            value, text, rest = _apply(parts, move)
            if not last:
                self._write(move, ",")
                if self._visit(tuple(sorted((*rest, (value, text)), reverse=True))):
                    return True
                continue
            self._judge(value, text)
            miss = "up" if planned is options[-1] else "no"
            self._write(move, "yes" if value == self.target else miss)
            if self.hit or self.leaves == 0:
                return True
        if not last and not top:
            self.steps[-1] += " up"
        return False

    def _options(self, parts: _Parts, last: bool, top: bool) -> list[Move]:
        """Moves to try: the nearest results first at the last level, else at random."""
        legal = legal_moves(tuple(value for value, _ in parts))
        options = [
            move
            for move in legal
            if move.result <= LARGEST and move.op in self.operations
        ]
        if last:
            noise = {move: self.rng.gauss(0, _NOISE) for move in options}
            options.sort(
                key=lambda move: (
                    math.log1p(abs(move.result - self.target)) + noise[move]
                )
            )
        else:
            self.rng.shuffle(options)
        return options if top else options[: self.rng.randint(*_CHILDREN)]

    def _kept(self, options: list[Move]) -> list[Move]:
        """The moves before the search abandons two numbers; all, if it does not."""
        if self.blind:
            return [] if self.rng.random() < self.abandon else options
        hits = [i for i, move in enumerate(options) if move.result == self.target]
        leaves = hits and self.rng.random() < self.abandon
        return options[: hits[0]] if leaves else options

    def _misread(self, move: Move) -> Move:
        """The move as written: its result may be off by 1, 2 or 10."""
        if self.false == 0 or self.rng.random() >= self.false:
            return move
        near = (move.result + off for off in (-10, -2, -1, 1, 2, 10))
        return move._replace(
            result=self.rng.choice([value for value in near if 0 < value <= LARGEST])
        )

    def _judge(self, value: int, text: str) -> None:
        self.leaves -= 1
        self.first = self.first or text
        if abs(value - self.target) < self._distance:
            self.best, self._distance = text, abs(value - self.target)

    def _write(self, move: Move, mark: str) -> None:
        self.steps.append(f"{move.left} {move.op} {move.right} = {move.result} {mark}")


def _apply(parts: _Parts, move: Move) -> tuple[int, str, _Parts]:
    """Value and expression of a move, and the parts that it leaves alone."""
    rest = list(parts)
    left = rest.pop(next(i for i, (value, _) in enumerate(rest) if value == move.left))
    right = rest.pop(
        next(i for i, (value, _) in enumerate(rest) if value == move.right)
    )
    return (
        move.result,
        f"{parenthesise(left[1])} {move.op} {parenthesise(right[1])}",
        tuple(rest),
    )


def _solution(rng: random.Random, problem: Problem) -> str:
    return rng.choice(solutions(tuple(problem.meta["numbers"]), problem.meta["target"]))


def _another(rng: random.Random, problem: Problem) -> Problem:
    """A random problem of the training split with as many numbers, all alike."""
    own = problem.meta["numbers"]
    size, largest = len(own), max(*own, _NUMBERS)
    while True:
        # Sorted places without their ranks: each multiset is as likely as any other.
        places = sorted(rng.sample(range(1, largest + size), size))
        numbers = [place - rank for rank, place in enumerate(places)]
        target = rng.randint(1, LARGEST)
        name = problem_id(numbers, target)
        solvable = target in reachable(tuple(numbers[::-1]))
        if solvable and name != problem.id and split_of(name) == "train":
            meta = {"numbers": numbers, "target": target}
            return Problem(name, "", "", problem.task, meta)


def _plan(trace: str) -> str:
    return trace.rpartition(f"{ANSWER} ")[2]


def _join(steps: list[str], expression: str) -> str:
    return " ".join([*steps, ANSWER, expression])
