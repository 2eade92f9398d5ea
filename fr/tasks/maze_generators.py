"""Generators of mazes, as in arXiv 2505.13775."""

import random
from collections import deque
from collections.abc import Iterator

from fr.registry import Registry
from fr.tasks.maze_search import Maze, beside

# name -> (random generator, size) -> cells that are walls
MAZES = Registry("maze generator")


def moves_between(maze: Maze) -> int:
    """Fewest moves from the start to the goal.

    Args:
        maze: The maze.

    Returns:
        The number of moves; -1 if the goal cannot be reached.
    """
    found, queue = {maze.start: 0}, deque([maze.start])
    while queue:
        here = queue.popleft()
        for near in maze.neighbours(here):
            if near not in found:
                found[near] = found[here] + 1
                queue.append(near)
    return found.get(maze.goal, -1)


def draw_maze(rng: random.Random, generator: str, size: int) -> Maze:
    """Draw a maze whose goal is a corner, `size` moves or more from its start.

    With goals in corners, a small model soon learns the estimates of A*.

    Args:
        rng: Random generator.
        generator: Name in `MAZES`.
        size: Cells of a side.

    Returns:
        The maze.
    """
    while True:
        walls = MAZES[generator](rng, size)
        free = sorted(set(range(size * size)) - walls)
        corners = {0, size - 1, size * (size - 1), size * size - 1} & set(free)
        if corners:
            maze = Maze(size, walls, rng.choice(free), rng.choice(sorted(corners)))
            if moves_between(maze) >= size:
                return maze


@MAZES.register("walls")
def random_walls(rng: random.Random, size: int) -> frozenset[int]:
    """Walls on random cells, one cell of three."""
    cells = size * size
    return frozenset(rng.sample(range(cells), cells // 3))


@MAZES.register("depth_first")
def depth_first(rng: random.Random, size: int) -> frozenset[int]:
    """Rooms at every second cell, joined by a depth-first walk: one way between any
    two.
    """
    first = (
        rng.randrange((size + 1) // 2) * 2 * size + rng.randrange((size + 1) // 2) * 2
    )
    free, stack = {first}, [first]
    while stack:
        ways = [
            (wall, room) for wall, room in _rooms(stack[-1], size) if room not in free
        ]
        if not ways:
            stack.pop()
            continue
        wall, room = rng.choice(ways)
        free |= {wall, room}
        stack.append(room)
    return frozenset(range(size * size)) - free


@MAZES.register("drunkard")
def drunkard(rng: random.Random, size: int) -> frozenset[int]:
    """Cells that a random walk has not visited when two of three are visited."""
    cells = size * size
    here = rng.randrange(cells)
    free = {here}
    while len(free) < cells - cells // 3:
        here = rng.choice(beside(here, size))
        free.add(here)
    return frozenset(range(cells)) - free


def _rooms(room: int, size: int) -> Iterator[tuple[int, int]]:
    """(cell between, room) for the rooms two cells away."""
    for wall in beside(room, size):
        beyond = 2 * wall - room
        if beyond in beside(wall, size):
            yield wall, beyond
