"""Mazes and A* search over them.

A maze is a square grid of cells, some of them walls. A move goes to the cell above,
below, to the left or to the right. A cell is a number, row · size + column, and a word,
row and column: `1a` is the cell at the top left.
"""

from typing import NamedTuple

from fr.types import Problem


class Maze(NamedTuple):
    """A maze with its start and its goal."""

    size: int  # cells of a side
    walls: frozenset[int]  # cells that no move goes to
    start: int  # cell
    goal: int  # cell

    def neighbours(self, cell: int) -> list[int]:
        """Open cells beside a cell: above, below, left, right.

        Args:
            cell: Number of the cell.

        Returns:
            Numbers of the cells.
        """
        return [near for near in beside(cell, self.size) if near not in self.walls]

    def estimate(self, cell: int) -> int:
        """A*'s estimate of the moves to the goal, h = |Δrow| + |Δcolumn|.

        Args:
            cell: Number of the cell.

        Returns:
            The distance without walls, in moves.
        """
        row, column = divmod(cell, self.size)
        to_row, to_column = divmod(self.goal, self.size)
        return abs(row - to_row) + abs(column - to_column)


class Event(NamedTuple):
    """One event of a search: a cell is put on the list of candidates, or expanded."""

    kind: str  # create or close
    cell: int
    cost: int = 0  # of a created cell: moves from the start
    estimate: int = 0  # of a created cell: moves to the goal, without walls


CREATE, CLOSE = "create", "close"


def word_of(cell: int, size: int) -> str:
    """Word of a cell.

    Args:
        cell: Number of the cell.
        size: Cells of a side.

    Returns:
        Row from 1 and column from a.
    """
    row, column = divmod(cell, size)
    return f"{row + 1}{chr(ord('a') + column)}"


def cell_of(word: str, size: int) -> int | None:
    """Cell of a word.

    Args:
        word: Row and column, as `word_of` writes them.
        size: Cells of a side.

    Returns:
        Number of the cell; None if the maze has no such cell.
    """
    if len(word) != 2 or not word.isascii() or not word[0].isdigit():
        return None
    row, column = int(word[0]) - 1, ord(word[1]) - ord("a")
    return row * size + column if 0 <= row < size and 0 <= column < size else None


def search(maze: Maze) -> tuple[list[Event], list[int]]:
    """Search by A*: expand the candidate with the least cost + estimate.

    Among equal candidates, the newest comes first.

    Args:
        maze: A maze whose goal can be reached.

    Returns:
        The events in order, and the shortest plan: cells after the start.
    """
    events = [Event(CREATE, maze.start, 0, maze.estimate(maze.start))]
    costs, before = {maze.start: 0}, {}
    candidates = [maze.start]  # in the order in which they were created
    while candidates:
        place = max(
            range(len(candidates)),
            key=lambda i: (-costs[candidates[i]] - maze.estimate(candidates[i]), i),
        )
        here = candidates.pop(place)
        events.append(Event(CLOSE, here))
        if here == maze.goal:
            break
        for near in maze.neighbours(here):
            if costs[here] + 1 < costs.get(near, maze.size**2):
                costs[near], before[near] = costs[here] + 1, here
                candidates = [cell for cell in candidates if cell != near] + [near]
                events.append(Event(CREATE, near, costs[near], maze.estimate(near)))
    plan = [maze.goal]
    while plan[-1] != maze.start:
        plan.append(before[plan[-1]])
    return events, plan[-2::-1]


def maze_of(problem: Problem) -> Maze:
    """The maze of a problem.

    Args:
        problem: A problem of the task `maze`.

    Returns:
        The maze.
    """
    size = problem.meta["size"]
    words = (*problem.meta["ends"], *problem.meta["walls"])
    cells = [cell for word in words if (cell := cell_of(word, size)) is not None]
    start, goal, *walls = cells
    return Maze(size, frozenset(walls), start, goal)


def beside(cell: int, size: int) -> list[int]:
    """Cells of the grid above, below, left and right of a cell, walls included.

    Args:
        cell: Number of the cell.
        size: Cells of a side.

    Returns:
        Numbers of the cells.
    """
    row, column = divmod(cell, size)
    near = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
    return [r * size + c for r, c in near if 0 <= r < size and 0 <= c < size]
