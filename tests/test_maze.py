"""Mazes: generators, A* traces, the check of traces and the grade of plans."""

import random

import pytest

from fr import tasks
from fr.config import Config, TaskConfig
from fr.config.experiment import validate
from fr.config.puzzles import MazeConfig
from fr.errors import UserError
from fr.tasks.canonical import canonical_answer, extracted_answer
from fr.tasks.formats import format_of
from fr.tasks.maze import MazeTask
from fr.tasks.maze_generators import MAZES, draw_maze, moves_between
from fr.tasks.maze_search import Maze, cell_of, maze_of, search, word_of
from fr.tasks.maze_traces import TRACES, maze_trace, write_events
from fr.tasks.task import split_of
from fr.tasks.trace_checks import NO_TRACE, TRACE_CHECKS, TraceCheck
from fr.types import RIGHT, UNPARSED, WRONG, Problem


def config(shots: int = 0, **maze) -> TaskConfig:
    """Settings of the task."""
    return TaskConfig(name="maze", shots=shots, maze=MazeConfig(**maze))


# a b c
# S # G  1
# . # .  2
# . . .  3
META = {"size": 3, "ends": ["1a", "1c"], "walls": ["1b", "2b"], "generator": "walls"}
SMALL = Problem("maze", "", "2a 3a 3b 3c 2c 1c", "maze", META)
TRACE = (
    "create 1a 0 2 close 1a create 2a 1 3 close 2a create 3a 2 4 close 3a "
    "create 3b 3 3 close 3b create 3c 4 2 close 3c create 2c 5 1 close 2c "
    "create 1c 6 0 close 1c"
)
# The same size without walls, from a corner to the corner beside it.
EMPTY = Problem("empty", "", "", "maze", META | {"walls": [], "ends": ["1a", "1c"]})
GRADES = {
    "answer 2a 3a 3b 3c 2c 1c": RIGHT,
    "answer 2a 3a 2a 3a 3b 3c 2c 1c": RIGHT,
    "close 1a answer 1c answer 2a 3a 3b 3c 2c 1c": RIGHT,
    "answer 1b 1c": WRONG,
    "answer 1c": WRONG,
    "answer 2a 3a 3b 3c 2c": WRONG,
    "answer 2a 3a 3b 3c 2c 1c 2c": WRONG,
    "answer 1a 2a 3a 3b 3c 2c 1c": WRONG,
    "answer 3a 3b 3c 2c 1c": WRONG,
    "answer": UNPARSED,
    "": UNPARSED,
    "2a 3a 3b 3c 2c 1c": UNPARSED,
    "answer 2a 3a 3d": UNPARSED,
    "answer 2a 4a": UNPARSED,
    "answer 2a 0a": UNPARSED,
    "answer 2a ²a": UNPARSED,
    "answer up down": UNPARSED,
    "answer " + "2a 1a " * 100_000: UNPARSED,
}


@pytest.mark.parametrize("completion", GRADES, ids=lambda text: ascii(text[:40]))
def test_plans_are_followed(completion):
    assert MazeTask.grade(SMALL, completion) == GRADES[completion]


def test_the_trace_by_hand_is_the_search_and_is_valid():
    assert write_events(search(maze_of(SMALL))[0], 3) == TRACE
    assert TRACES["natural"](random.Random(0), SMALL) == (
        f"{TRACE} answer {SMALL.answer}"
    )
    assert TRACES["none"](random.Random(0), SMALL) == f"answer {SMALL.answer}"
    assert maze_trace(SMALL, TRACE) == TraceCheck(True, True, True)
    # What follows the answer is not the trace.
    assert maze_trace(SMALL, f"{TRACE} answer 1c").valid


DAMAGED = {
    # an estimate, a cost: each is one false number
    TRACE.replace("2a 1 3", "2a 1 2"): TraceCheck(True, False, True),
    TRACE.replace("3b 3 3", "3b 4 3"): TraceCheck(True, False, True),
    # the start is missing, comes twice, is another cell
    TRACE.removeprefix("create 1a 0 2 "): TraceCheck(False, False, False),
    f"create 1a 0 2 {TRACE}": TraceCheck(False, True, True),
    "create 2a 0 3 close 2a": TraceCheck(False, True, False),
    # a wall, a cell that is not beside
    TRACE.replace("create 2a 1 3", "create 2a 1 3 create 1b 1 1"): TraceCheck(
        False, True, True
    ),
    TRACE.replace("create 2a 1 3", "create 2a 1 3 create 3a 1 4"): TraceCheck(
        False, True, True
    ),
    # it stops early, goes on after the goal, closes a cell twice
    TRACE.removesuffix(" close 1c"): TraceCheck(True, True, False),
    f"{TRACE} create 2c 7 1": TraceCheck(False, True, True),
    TRACE.replace("close 3a", "close 3a close 3a"): TraceCheck(False, True, True),
    # text without events
    f"{TRACE} create": NO_TRACE,
    f"{TRACE} close 9z": NO_TRACE,
    f"{TRACE} hello": NO_TRACE,
    TRACE.replace("1a 0 2", "1a zero 2"): NO_TRACE,
    "": NO_TRACE,
    "answer 2a": NO_TRACE,
}


@pytest.mark.parametrize("trace", DAMAGED, ids=range(len(DAMAGED)))
def test_damaged_traces_fail_in_the_part_that_is_damaged(trace):
    assert maze_trace(SMALL, trace) == DAMAGED[trace]


def test_every_order_of_equal_candidates_is_legal_and_no_other():
    begin = "create 1a 0 2 close 1a create 2a 1 3 create 1b 1 1"
    rest = "create 2b 2 2 create 1c 2 0"
    assert maze_trace(EMPTY, f"{begin} close 1b {rest} close 1c").valid
    # 2a costs 4 together, 1b costs 2
    assert not maze_trace(EMPTY, f"{begin} close 2a").legal
    # 2b is left out
    assert maze_trace(EMPTY, f"{begin} close 1b create 1c 2 0 close 1c") == TraceCheck(
        False, True, True
    )
    square = Problem("square", "", "", "maze", EMPTY.meta | {"ends": ["1a", "2b"]})
    for first in ("2a", "1b"):
        made = "create 1a 0 2 close 1a create 1b 1 1 create 2a 1 1"
        more = {"2a": "create 3a 2 2", "1b": "create 1c 2 2"}[first]
        assert maze_trace(
            square, f"{made} close {first} create 2b 2 0 {more} close 2b"
        ).valid


def test_the_search_finds_the_shortest_plan_and_its_trace_is_valid():
    for name in MAZES:
        task = tasks.make(config(generator=name))
        for problem in task.problems("test", 60):
            maze, plan = maze_of(problem), problem.answer.split()
            assert len(plan) == moves_between(maze) >= 5
            assert maze.goal in (0, 4, 20, 24) and maze.start != maze.goal
            for kind in TRACES:
                text = TRACES[kind](random.Random(1), problem)
                assert task.grade(problem, text) == RIGHT
                assert maze_trace(problem, text).valid == (kind == "natural")
                assert len(f"{problem.question} {text}".split()) < 160


def test_swapped_traces_are_searches_of_other_mazes():
    task = MazeTask(config())
    problem = task.problems("train", 1)[0]
    text = TRACES["swapped"](random.Random(3), problem)
    assert text != TRACES["swapped"](random.Random(4), problem)
    assert text.startswith("create ") and text.count(" close ") >= 5
    assert text.endswith(f"answer {problem.answer}")


def test_generators_make_what_they_say():
    rng = random.Random(0)
    for _ in range(50):
        assert len(MAZES["walls"](rng, 5)) == len(MAZES["drunkard"](rng, 5)) == 8
        maze = draw_maze(rng, "depth_first", 7)
        free = set(range(49)) - maze.walls
        # 16 rooms and the 15 ways between them: a tree
        rooms = {7 * r + c for r in range(0, 7, 2) for c in range(0, 7, 2)}
        assert rooms <= free and len(free) == 31
        assert all(
            moves_between(maze._replace(start=0, goal=room)) >= 0 for room in rooms
        )
    closed = Maze(3, frozenset({1, 3, 4}), 0, 8)
    assert moves_between(closed) == -1


def test_cells_have_words():
    assert [word_of(cell, 5) for cell in (0, 4, 20, 24)] == ["1a", "1e", "5a", "5e"]
    assert all(cell_of(word_of(cell, 6), 6) == cell for cell in range(36))
    assert [cell_of(w, 5) for w in ("6a", "1f", "0a", "a1", "1", "1aa", "")] == [
        None
    ] * 7


def test_problems_are_the_same_every_time_and_keep_their_split():
    task = MazeTask(config())
    test = task.problems("test", 40)
    assert test == MazeTask(config()).problems("test", 60)[:40]
    assert all(split_of(problem.id) == "test" for problem in test)
    assert len({problem.id for problem in test}) == 40
    shown = MazeTask(config(shots=1)).prompt(test[0])
    assert shown.count("\n") == 1 and shown.endswith(test[0].question)


def test_the_check_of_countdown_plays_the_steps():
    check, meta = TRACE_CHECKS["countdown"], {"numbers": [3, 7, 10], "target": 49}
    problem = Problem("x", "", "", "countdown", meta)
    assert check(problem, "10 - 3 = 7 , 7 * 7 = 49 yes answer 3") == (True, True, True)
    assert check(problem, "10 - 3 = 7 , 7 + 7 = 14 yes answer 3") == (True, True, False)
    assert check(problem, "10 - 3 = 8 , 8 * 7 = 49 yes answer 3") == (
        True,
        False,
        False,
    )
    assert check(problem, "10 - 4 = 6 , 7 * 7 = 49 yes") == (False, True, False)
    assert check(problem, "answer ( 10 - 3 ) * 7") == NO_TRACE


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"size": 8}, "config.task.maze.size = 8 must be 3 to 7"),
        ({"size": 2}, "config.task.maze.size = 2 must be 3 to 7"),
        ({"generator": "wals"}, "maze.generator = 'wals' is not known.*walls"),
        ({"generator": "depth_first", "size": 6}, "must be odd"),
    ],
)
def test_bad_settings_are_refused(settings, words):
    with pytest.raises(UserError, match=words):
        validate(Config(task=config(**settings)))
        MazeTask(config(**settings))


def test_the_vocabulary_has_every_word_of_every_size():
    task = MazeTask(config(size=7))
    tokenizer = task.tokenizer()
    assert len(tokenizer) == 128
    for problem in task.problems("test", 20):
        for kind in TRACES:
            text = f"{problem.question} {TRACES[kind](random.Random(0), problem)}"
            ids = tokenizer.encode(text)
            assert tokenizer.unk_token_id not in ids
            assert len(ids) == len(text.split()) and tokenizer.decode(ids) == text


def test_plans_are_the_answers_of_probes_and_votes():
    completion = f"{TRACE} answer {SMALL.answer}"
    assert extracted_answer("maze", completion) == SMALL.answer
    assert canonical_answer("maze", completion) == SMALL.answer
    assert canonical_answer("maze", TRACE) is None
    ends = [match.end() for match in format_of("maze").step.finditer(TRACE)]
    assert len(ends) == 14 and TRACE[: ends[1]] == "create 1a 0 2 close 1a"
