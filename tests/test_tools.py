"""Operators that write for the model, their controls, and the puzzle with states."""

import dataclasses
import itertools

import numpy as np
import pytest
from conftest import row

from fr.config import Config, TaskConfig
from fr.diagnosis.junction import Calibration
from fr.errors import UserError
from fr.interventions import OPERATORS, OperatorContext
from fr.interventions.tools import state_after
from fr.models import Model
from fr.sampling.sources import PauseAction
from fr.tasks import make
from fr.tasks.hanoi import Move, find_moves, is_legal, play, solve, write_state
from fr.types import Problem

NEXT = {"calculator_own", "calculator_wrong", "state_keeper", "state_keeper_wrong"}
PUZZLE = Problem("hanoi-3-ABC", "", "C", "hanoi", {"disks": 3, "pegs": "ABC"})
LINES = [f"disk {m.disk}: {m.source} -> {m.target}" for m in solve(3, "ABC")]


@pytest.fixture(scope="module")
def letters(char_tokenizer, tiny_config) -> Model:
    """One token per character."""
    stop = (char_tokenizer.eos_token_id,)
    return Model(tiny_config, None, char_tokenizer, stop, "letters")


def change(name, codec, problem=Problem("p", "", "", "sums"), attempt=0, seed=0):
    known = Calibration(1.5, 4, 0.0, 0.0, lengths=(), fires=())
    config = Config(seed=seed)
    context = OperatorContext(config, problem, attempt, known, False, "?", (), codec)
    return OPERATORS[name].change(context)


def asked(name, codec, text, **more) -> PauseAction:
    return change(name, codec, **more).on_pause(np.array(codec.encode(text)))


def test_the_own_number_is_spelled_as_the_calculator_spells_it(letters):
    pushed = lambda text: asked("calculator_own", letters, text)
    assert pushed("3 + 4 =") == PauseAction()  # the model writes what it likes
    for text in ("3 + 4 = 9.", "3+4=9,", "so. 3 + 4 = 9\n"):
        assert pushed(text) == PauseAction()  # spelled so already
    for text, kept, written in (
        ("3 + 4 =9.", "3 + 4 =", " 9."),
        ("3+4= 9,", "3+4=", "9,"),
        ("1 + 1 = 2. 3 + 4 =  19.", "1 + 1 = 2. 3 + 4 =", None),
        ("3 * 400 = 1,300\n", "3 * 400 =", " 1300\n"),
        ("7 / 2 = 3.50,", "7 / 2 =", " 3.5,"),
    ):
        action = pushed(text)
        if written is None:
            assert action == PauseAction()  # two spaces: no step is read there
            continue
        assert letters.decode(action.forced) == written
        assert action.cut == len(kept)
        # the value is the model's own, true or not, and what is spelled stays
        assert pushed(kept + written) == PauseAction()
    assert pushed("It is 7.") == pushed(".") == PauseAction()
    assert pushed("1 / 3 = 0.3333333.") == PauseAction()  # calculator leaves it, too


def test_the_wrong_number_is_never_the_true_one(letters):
    seen = set()
    for attempt in range(40):
        action = asked("calculator_wrong", letters, "3 + 14 =", attempt=attempt)
        assert action.cut is None
        text = letters.decode(action.forced)
        assert text[0] == " " and len(text) == 3  # as many digits as 17
        seen.add(int(text))
    assert seen == {15, 16, 18, 19, 27}  # 17 - 10 has one digit
    again = asked("calculator_wrong", letters, "3 + 14 =", attempt=39)
    assert again == action
    assert asked("calculator_wrong", letters, "so =") == PauseAction()


def test_the_own_number_changes_nothing_but_its_spelling(letters, plain_engine):
    """Rows with the operator are plain rows unless the spelling differs."""
    action, same = change("calculator_own", letters), "3 + 4 = 9."
    begin = {"own": same, "plain": same, "other": "3 + 4 =9."}
    rows = [
        dataclasses.replace(
            row(
                name,
                forced=letters.encode(text),
                budget=24,
                stop=letters.stop_tokens,
                **action.params,
            ),
            key=row("the same").key,
        )
        for name, text in begin.items()
    ]
    on_pause = lambda row, tokens: (
        PauseAction() if row.id == "plain" else action.on_pause(tokens)
    )
    own, plain, other = plain_engine.sample(rows, 40, on_pause=on_pause)
    np.testing.assert_array_equal(own.tokens, plain.tokens)
    np.testing.assert_array_equal(own.sample_logp, plain.sample_logp)
    assert letters.decode(other.tokens).startswith(same)
    assert other.forced[: len(same)].all() and not other.forced[len(same) :].any()


@pytest.mark.parametrize("disks", range(1, 8))
def test_the_solution_is_the_shortest_and_legal(disks):
    problem = dataclasses.replace(PUZZLE, meta={"disks": disks, "pegs": "QXB"})
    moves = solve(disks, "QXB")
    assert len(moves) == 2**disks - 1
    played = play(problem, moves)
    assert played.state == ((), (), tuple(range(disks, 0, -1)))
    assert played.legal == len(moves) and played.reached
    assert not play(problem, moves[:-1]).reached
    if disks <= 3:
        assert len(moves) == shortest(disks)


def shortest(disks: int) -> int:
    """Length of the shortest solution by a search over all states."""
    start, pegs = (tuple(range(disks, 0, -1)), (), ()), "ABC"
    level, seen = {start}, {start}
    for depth in itertools.count():
        if any(len(state[2]) == disks for state in level):
            return depth
        after = set()
        for state in level:
            for a, b in itertools.permutations(range(3), 2):
                disk = state[a][-1] if state[a] else 0
                if is_legal(state, pegs, Move(disk, pegs[a], pegs[b])):
                    new = list(state)
                    new[a], new[b] = state[a][:-1], (*state[b], disk)
                    after.add(tuple(new))
        level, seen = after - seen, seen | after


def test_illegal_moves_by_hand():
    state = ((3, 2), (1,), ())
    legal = lambda disk, source, target: is_legal(
        state, "ABC", Move(disk, source, target)
    )
    assert legal(2, "A", "C") and legal(1, "B", "A") and legal(1, "B", "C")
    assert not legal(2, "A", "B")  # onto a smaller one
    assert not legal(3, "A", "C")  # not on top
    assert not legal(1, "A", "C") and not legal(1, "C", "B")  # not there
    assert not legal(1, "B", "B") and not legal(1, "B", "D") and not legal(1, "X", "A")


def test_the_judge_takes_every_legal_solution():
    task = make(TaskConfig(name="hanoi"))
    longer = ["disk 1: A -> B", "disk 1: B -> A", *LINES]
    grades = {
        "\n".join(LINES): "right",
        "\n".join(longer): "right",
        " then ".join(
            f"Disk {m.disk} from peg {m.source.lower()} to {m.target}"
            for m in solve(3, "ABC")
        ): "right",
        "<think>disk 3: A -> C</think>\n" + "\n".join(LINES) + "\nAnswer: C": "right",
        "\n".join([*LINES, "disk 3: B -> A"]): "right",  # after the goal
        "\n".join(LINES[:-1]): "wrong",
        "\n".join(["disk 2: A -> B", *LINES]): "wrong",  # illegal before the goal
        "\n".join(longer[:2] * 11 + LINES): "wrong",  # 29 moves, 28 are the limit
        "\n".join(longer[:2] * 10 + LINES): "right",
        "<think>" + "\n".join(LINES): "unparsed",
        "Answer: C": "unparsed",
        "": "unparsed",
    }
    assert {text: task.grade(PUZZLE, text) for text in grades} == grades
    broken = dataclasses.replace(PUZZLE, meta={})
    assert task.grade(broken, "disk 1: A -> B") == "grader_error"
    assert task.grade(PUZZLE, "disk 1: A -> B\n" * 200_000) == "wrong"


def test_problems_of_hanoi():
    task = make(TaskConfig(name="hanoi", disks=(2, 5, 3), shots=2))
    pegs = {split: set() for split in ("train", "validation", "test")}
    for split, seen in pegs.items():
        problems = task.problems(split)
        assert [p.meta["disks"] for p in problems[:4]] == [2, 5, 3, 2]
        for p in problems:
            seen.add(p.meta["pegs"])
            assert len(set(p.meta["pegs"])) == 3 and p.answer == p.meta["pegs"][2]
            assert task.grade(p, p.meta["chain"]) == "right"
    assert not pegs["train"] & pegs["test"] and len(set.union(*pegs.values())) == 336
    for problem in task.problems("test", 6):
        *shots, last = task.prompt(problem)
        assert last["content"].startswith(problem.question)
        many = max(2 ** (problem.meta["disks"] - 1) - 1, 1)
        assert [len(find_moves(s["content"])) for s in shots[1::2]] == [many] * 2
        assert problem.meta["pegs"] not in str(shots)


def test_states_by_hand():
    assert write_state(((3, 2), (), (1,)), "QXB") == "(Q: 3 2, X: none, B: 1)"
    begun = "I move the smallest one.\ndisk 1: A -> C\n"
    assert state_after(begun, PUZZLE) == "(A: 3 2, B: none, C: 1)\n"
    assert state_after(begun[:-1], PUZZLE) == ""  # the line has not ended
    assert state_after("Let me see.\n", PUZZLE) == ""
    # an illegal move changes nothing, and what was pushed is not a move
    more = begun + "(A: 3 2, B: none, C: 1)\ndisk 2: A -> C\n"
    assert state_after(more, PUZZLE) == "(A: 3 2, B: none, C: 1)\n"
    # a draft of a thought, and the moves after it
    thought = "<think>disk 1: A -> B\n"
    assert state_after(thought, PUZZLE) == "(A: 3 2, B: 1, C: none)\n"
    after = thought + "</think>\ndisk 1: A -> C\n"
    assert state_after(after, PUZZLE) == "(A: 3 2, B: none, C: 1)\n"


def test_the_keeper_pushes_the_true_state_and_its_control_another(letters):
    for move in range(1, 8):
        text = "\n".join(LINES[:move]) + "\n"
        true = write_state(play(PUZZLE, solve(3, "ABC")[:move]).state, "ABC") + "\n"
        kept = asked("state_keeper", letters, text, problem=PUZZLE)
        assert kept.cut is None and letters.decode(kept.forced) == true
        wrong = asked("state_keeper_wrong", letters, text, problem=PUZZLE)
        told = letters.decode(wrong.forced)
        assert told != true and sorted(told) == sorted(true)
    assert change("state_keeper", letters, PUZZLE).params["pause"] == letters.encode(
        "\n"
    )
    with pytest.raises(UserError, match="states of hanoi, not of sums"):
        change("state_keeper", letters)


def test_tools_read_no_failure_and_say_what_they_know():
    for name in NEXT:
        assert OPERATORS[name].uses_oracle == (name != "calculator_own")
        assert not OPERATORS[name].needs_ancestor
