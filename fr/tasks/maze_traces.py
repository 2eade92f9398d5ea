"""A* traces of mazes: the kinds that are learnt from, and their check."""

import random
from collections.abc import Iterator, Sequence

from fr.registry import Registry
from fr.tasks.extract import ANSWER
from fr.tasks.maze_generators import draw_maze
from fr.tasks.maze_search import (
    CLOSE,
    CREATE,
    Event,
    Maze,
    cell_of,
    maze_of,
    search,
    word_of,
)
from fr.tasks.trace_checks import NO_TRACE, TRACE_CHECKS, TraceCheck
from fr.types import Problem

# kind -> (rng, problem) -> completion text, without the prompt
TRACES = Registry("trace kind")
_WORDS = 2000  # of a trace that are read; no search of a maze is as long


@TRACES.register("natural")
def natural(rng: random.Random, problem: Problem) -> str:
    """The A* search of the maze, then its shortest plan."""
    maze = maze_of(problem)
    events, plan = search(maze)
    return _join(write_events(events, maze.size), plan, maze.size)


@TRACES.register("swapped")
def swapped(rng: random.Random, problem: Problem) -> str:
    """The search of another maze of the same generator, then the own plan (arXiv
    2505.13775).
    """
    maze = maze_of(problem)
    other = maze
    while other == maze:
        other = draw_maze(rng, problem.meta["generator"], maze.size)
    return _join(write_events(search(other)[0], maze.size), search(maze)[1], maze.size)


@TRACES.register("answer_first")
@TRACES.register("none")
def none(rng: random.Random, problem: Problem) -> str:
    """The shortest plan without a search."""
    maze = maze_of(problem)
    return _join("", search(maze)[1], maze.size)


@TRACE_CHECKS.register("maze")
def maze_trace(problem: Problem, completion: str) -> TraceCheck:
    """Check the events before the answer by the rules of A*.

    Costs count as they are stated. Candidates of equal cost + estimate may be closed in
    any order.

    Args:
        problem: The problem that was attempted.
        completion: New text of the attempt.

    Returns:
        `legal`: the start is created first. A created cell is open, beside the cell
        that was closed last and cheaper than before. A closed cell has the least
        cost + estimate. No cell is left out, and nothing follows the goal.
        `true`: every cost is one more than the cost of the cell closed last, every
        estimate is the distance.
        `reaches`: the goal is closed.
    """
    words = completion.split()[:_WORDS]
    words = words[: words.index(ANSWER)] if ANSWER in words else words
    maze = maze_of(problem)
    if not words:
        return NO_TRACE
    try:
        return _replay(maze, list(_events(words, maze.size)))
    except ValueError:
        return NO_TRACE


def write_events(events: Sequence[Event], size: int) -> str:
    """Write the events of a search.

    Args:
        events: The events in order.
        size: Cells of a side.

    Returns:
        The text, `create 1a 0 8 close 1a`.
    """
    return " ".join(
        f"{CREATE} {word_of(e.cell, size)} {e.cost} {e.estimate}"
        if e.kind == CREATE
        else f"{CLOSE} {word_of(e.cell, size)}"
        for e in events
    )


def write_plan(plan: Sequence[int], size: int) -> str:
    """Write a plan.

    Args:
        plan: Cells after the start.
        size: Cells of a side.

    Returns:
        The words of the cells.
    """
    return " ".join(word_of(cell, size) for cell in plan)


def _join(trace: str, plan: Sequence[int], size: int) -> str:
    return f"{trace} {ANSWER} {write_plan(plan, size)}".lstrip()


def _events(words: Sequence[str], size: int) -> Iterator[Event]:
    """Events that words state; ValueError if they state none."""
    at = 0
    while at < len(words):
        kind, *rest = words[at : at + (4 if words[at] == CREATE else 2)]
        cell = cell_of(rest[0], size) if rest else None
        numbers = rest[1:]
        if (
            cell is None
            or len(numbers) != {CREATE: 2, CLOSE: 0}.get(kind)
            or not all(n.isascii() and n.isdigit() and len(n) < 4 for n in numbers)
        ):
            raise ValueError(kind)
        yield Event(kind, cell, *map(int, numbers))
        at += 2 + len(numbers)


def _replay(maze: Maze, events: Sequence[Event]) -> TraceCheck:
    """Play the events. Illegal creations change nothing, and a cell is closed only if
    it is a candidate.
    """
    candidates: dict[int, Event] = {}
    closed: dict[int, int] = {}  # costs of the closed cells
    here, legal, true = None, True, True
    made: set[int] = set()  # cells that are created since the last close
    for event in events:
        cell, known = event.cell, candidates.get(event.cell)
        cost = closed[here] + 1 if here is not None else 0
        allowed = here != maze.goal
        if event.kind == CREATE:
            beside = maze.neighbours(here) if here is not None else [maze.start]
            cheaper = known is None or event.cost < known.cost
            first = here is not None or not candidates
            allowed &= first and cell in beside and cell not in closed and cheaper
            true &= event.cost == cost and event.estimate == maze.estimate(cell)
            if allowed:
                candidates[cell] = event
                made.add(cell)
        else:
            least = min(map(_total, candidates.values()), default=-1)
            allowed &= known is not None and _total(known) == least
            # a cell beside the one that was closed last must not be left out
            beside = [] if here is None else maze.neighbours(here)
            for near in beside:
                cheap = near in candidates and candidates[near].cost <= cost
                allowed &= near in closed or near in made or cheap
            if known is not None:
                closed[cell], here, made = candidates.pop(cell).cost, cell, set()
        legal &= allowed
    return TraceCheck(legal, true, maze.goal in closed)


def _total(event: Event) -> int:
    return event.cost + event.estimate
