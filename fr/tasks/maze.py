"""Mazes: plan a way from a start to a goal, after a trace of A* search.

A prompt is `start 1a goal 5e walls 2b 3c :`. A completion is the events of the search
and, after `answer`, the cells of the plan. An event is `create 2a 1 7`, a new candidate
with its cost and its estimate, or `close 2a`, a candidate that is expanded.
"""

import functools
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fr.config import TaskConfig
from fr.errors import UserError
from fr.registry import suggest
from fr.tasks import vocabulary
from fr.tasks.extract import ANSWER
from fr.tasks.maze_generators import MAZES, draw_maze
from fr.tasks.maze_search import (
    CLOSE,
    CREATE,
    Maze,
    cell_of,
    maze_of,
    search,
    word_of,
)
from fr.tasks.maze_traces import TRACES, natural, write_plan
from fr.tasks.task import TASKS, check_split, split_of
from fr.types import GRADER_ERROR, RIGHT, UNPARSED, WRONG, Problem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

DRAWN = 20_000  # mazes of all splits together
LARGEST = 7  # cells of a side: the vocabulary has a word for each cell
VOCABULARY = 128  # a power of two
_WORDS = 2000  # of a completion that are read; no trace is as long


@TASKS.register("maze")
class MazeTask:
    """Square mazes of `config.maze`: a generator, and the cells of one side.

    They are drawn in a fixed order, always the same ones, and a hash of the maze gives
    its split.
    """

    traces = TRACES

    def __init__(self, config: TaskConfig):
        c = config.maze
        if c.generator not in MAZES:
            raise UserError(
                f"config.task.maze.generator = {c.generator!r} is not known"
                f"{suggest(c.generator, MAZES)}"
            )
        if c.generator == "depth_first" and c.size % 2 == 0:
            raise UserError(
                f"config.task.maze.size = {c.size} must be odd for generator = "
                "'depth_first', whose rooms are every second cell"
            )
        self.config = config

    def problems(self, split: str, count: int | None = None) -> list[Problem]:
        """Problems of a split in the order in which they are drawn.

        Args:
            split: One of `task.SPLITS`.
            count: Number of problems, from the first; None: all of them.

        Returns:
            At most `count` problems.

        Raises:
            UserError: The split is not known.
        """
        check_split(split)
        found: list[Problem] = []
        for problem in self._drawn():
            if len(found) == count:
                break
            if split_of(problem.id) == split:
                found.append(problem)
        return found

    def prompt(self, problem: Problem) -> str:
        """Prompt of a problem: `config.shots` worked training problems, then it.

        Args:
            problem: A problem of this task.

        Returns:
            One line per worked problem, and the question on the last line.
        """
        return "\n".join([*self._shots, problem.question])

    def tokenizer(self) -> "PreTrainedTokenizerFast":
        """Words of a model made from scratch: the cells and the costs of any size."""
        cells = [word_of(cell, LARGEST) for cell in range(LARGEST**2)]
        words = ["start", "goal", "walls", ":", CREATE, CLOSE, ANSWER, *cells]
        words += map(str, range(LARGEST**2))
        return vocabulary.as_transformers(vocabulary.word_level(words, VOCABULARY))

    @staticmethod
    def grade(problem: Problem, completion: str) -> str:
        """Follow the plan after the last `answer`: right iff it ends at the goal.

        Every cell of it must be open and beside the one before; it may be longer than
        the shortest plan.

        Args:
            problem: The problem that was attempted.
            completion: New text of the attempt.

        Returns:
            One of `fr.types.GRADES`.
        """
        try:
            maze = maze_of(problem)
            words = completion.split()[-_WORDS:]
            if ANSWER not in words:
                return UNPARSED
            plan = words[len(words) - words[::-1].index(ANSWER) :]
            cells = [cell_of(word, maze.size) for word in plan]
            if not plan or None in cells:
                return UNPARSED
            here = maze.start
            for cell in cells:
                if cell not in maze.neighbours(here):
                    return WRONG
                here = cell
            return RIGHT if here == maze.goal else WRONG
        except Exception:  # a failed grader must not count as a wrong answer
            return GRADER_ERROR

    @functools.cached_property
    def _shots(self) -> list[str]:
        shots = self.problems("train", self.config.shots) if self.config.shots else []
        return [f"{one.question} {natural(random.Random(), one)}" for one in shots]

    def _drawn(self) -> Iterator[Problem]:
        c, seen = self.config.maze, set()
        rng = random.Random(f"{c.generator}/{c.size}")
        for _ in range(DRAWN):
            problem = problem_of(draw_maze(rng, c.generator, c.size), c.generator)
            if problem.id not in seen:
                seen.add(problem.id)
                yield problem


def problem_of(maze: Maze, generator: str) -> Problem:
    """The problem of a maze.

    Args:
        maze: The maze.
        generator: Name of what drew it.

    Returns:
        The problem; its answer is the shortest plan.
    """
    size = maze.size
    start, goal = word_of(maze.start, size), word_of(maze.goal, size)
    walls = [word_of(cell, size) for cell in sorted(maze.walls)]
    return Problem(
        id=f"maze-{size}-{start}-{goal}-{''.join(walls)}",
        question=f"start {start} goal {goal} walls {' '.join(walls)} :",
        answer=write_plan(search(maze)[1], size),
        task="maze",
        meta={
            "size": size,
            "ends": [start, goal],
            "walls": walls,
            "generator": generator,
        },
    )
