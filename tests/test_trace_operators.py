"""Operators that go on from failed traces, and those with a prompt, a penalty or a
calculator of their own.
"""

import dataclasses

import numpy as np
import pytest
from conftest import row

from fr import tasks
from fr.config import Config
from fr.diagnosis.junction import Calibration, Trace
from fr.errors import UserError
from fr.interventions import OPERATORS, Failure, Intervention, OperatorContext, select
from fr.interventions.traces import OFFSETS
from fr.models import Model, ModelConfig
from fr.sampling.sources import PauseAction
from fr.tasks.countdown import VOCABULARY, countdown_tokenizer
from fr.tasks.formats import CompletionText, format_of
from fr.types import Problem

CALIBRATION = Calibration(
    threshold=1.5, warmup=4, cov_mean=0.0, cov_sd=0.0, lengths=(20, 40), fires=(-1, 7)
)
TRACE = "10 - 3 = 7 , 7 + 7 = 15 no 7 * 7 = 49 up answer 7 + 7"
CHAT = "12 + 7 = 19. 19 + 5 = 25. That is all.\nAnswer: 25"


@pytest.fixture(scope="module")
def countdown() -> Model:
    """A codec of the Countdown vocabulary; no parameters, since nothing here asks for a
    token.
    """
    tokenizer = countdown_tokenizer()
    config = ModelConfig(
        VOCABULARY, width=8, layers=1, heads=1, kv_heads=1, head_dim=8, ff=8
    )
    return Model(config, None, tokenizer, (tokenizer.eos_token_id,), "countdown")


@pytest.fixture(scope="module")
def letters(char_tokenizer, tiny_config) -> Model:
    """One token a character."""
    return Model(
        tiny_config, None, char_tokenizer, (char_tokenizer.eos_token_id,), "letters"
    )


def failure(codec, task, text, junction=0, ended=True) -> Failure:
    tokens = (*codec.encode(text), *codec.stop_tokens[:ended])
    signal = np.zeros(len(tokens), np.float32)
    signal[junction] = 1.0
    trace = Trace({"logit_var": signal}, np.ones(len(tokens), bool))
    return Failure(CompletionText(format_of(task), tokens, codec), trace)


def setting(codec, task, failures, attempt=0, **changes) -> OperatorContext:
    config = Config()
    config = dataclasses.replace(
        config, intervention=dataclasses.replace(config.intervention, **changes)
    )
    problem, prompt = (
        Problem("p", "", "", task),
        "7 7 3 -> 49 :" if task == "countdown" else [{"content": "?"}],
    )
    return OperatorContext(
        config, problem, attempt, CALIBRATION, False, prompt, tuple(failures), codec
    )


def told(codec, change: Intervention) -> tuple[str, str]:
    """The kept part of a trace, and the text that is pushed after it."""
    return codec.decode(change.kept), codec.decode(change.params.get("forced", ()))


def test_repair_cuts_at_the_first_false_step_and_writes_the_true_result(
    countdown, letters
):
    repaired = OPERATORS["repair"].change(
        setting(countdown, "countdown", [failure(countdown, "countdown", TRACE)])
    )
    assert told(countdown, repaired) == ("10 - 3 = 7 , 7 + 7 =", "14")
    repaired = OPERATORS["repair"].change(
        setting(letters, "sums", [failure(letters, "sums", CHAT)])
    )
    assert told(letters, repaired) == ("12 + 7 = 19. 19 + 5 =", " 24")


def test_repair_leaves_out_what_cannot_be_written(countdown):
    """No token for a negative number: the step goes as a whole."""
    failed = failure(countdown, "countdown", "10 - 3 = 7 , 3 - 7 = 4 no answer 3")
    repaired = OPERATORS["repair"].change(setting(countdown, "countdown", [failed]))
    assert told(countdown, repaired) == ("10 - 3 = 7 ,", "")


def test_repair_takes_turns_through_the_traces_with_a_false_step(countdown):
    fine = failure(countdown, "countdown", "10 - 3 = 7 , 7 * 7 = 49 up answer 7 + 7")
    false = [
        failure(countdown, "countdown", f"{a} + 1 = 1 no answer {a}") for a in (3, 5)
    ]
    fill = lambda failures, i: OPERATORS["repair"].change(
        setting(countdown, "countdown", failures, i)
    )
    kept = [told(countdown, fill([fine, *false], i)) for i in range(3)]
    assert kept == [("3 + 1 =", "4"), ("5 + 1 =", "6"), ("3 + 1 =", "4")]
    assert fill([fine], 0) == Intervention()  # nothing to repair: a fresh sample
    assert (
        fill([failure(countdown, "countdown", "1 + 1 = 2 yes answer 3 + 4 = 8")], 0)
        == Intervention()
    )  # no step


@pytest.mark.parametrize(
    "junction, kept",
    [
        (0, ""),
        (5, ""),
        (6, "10 - 3 = 7 ,"),
        (12, "10 - 3 = 7 , 7 + 7 = 15 no"),
        (21, TRACE[: TRACE.index(" answer")]),
    ],
)
def test_a_restart_keeps_whole_steps_up_to_the_junction(countdown, junction, kept):
    failed = failure(countdown, "countdown", TRACE, junction)
    change = OPERATORS["prefix_restart"].change(
        setting(countdown, "countdown", [failed])
    )
    assert told(countdown, change) == (kept, "")
    half = setting(countdown, "countdown", [failed], restart_share=0.5)
    assert (
        told(countdown, OPERATORS["prefix_restart"].change(half))[0] == "10 - 3 = 7 ,"
    )


def test_wait_takes_the_answer_away(countdown, letters):
    wait = OPERATORS["wait"]
    change = wait.change(setting(letters, "sums", [failure(letters, "sums", CHAT)]))
    assert told(letters, change) == ("12 + 7 = 19. 19 + 5 = 25. That is all.", "\nWait")
    cut = failure(letters, "sums", "12 + 7 = 19. 19 + 5 = 25. Th", ended=False)
    assert (
        told(letters, wait.change(setting(letters, "sums", [cut])))[0]
        == "12 + 7 = 19. 19 + 5 = 25."
    )
    claims = failure(countdown, "countdown", "10 - 3 = 7 , 7 * 7 = 48 yes answer 7 * 7")
    change = wait.change(setting(countdown, "countdown", [claims]))
    assert told(countdown, change) == ("10 - 3 = 7 , 7 * 7 = 48", "up")
    at_once = failure(countdown, "countdown", "answer 7 * 7")
    assert wait.change(setting(countdown, "countdown", [at_once])) == Intervention()


def test_the_largest_fork_is_kept_up_to_and_another_token_drawn_there(countdown):
    failed = failure(countdown, "countdown", TRACE)
    entropy = np.zeros(len(failed.written.tokens), np.float32)
    entropy[[2, 9]] = 1.0, 2.0
    failed = dataclasses.replace(
        failed, trace=dataclasses.replace(failed.trace, scores={"entropy": entropy})
    )
    change = OPERATORS["fork_restart"].change(setting(countdown, "countdown", [failed]))
    assert change.kept == tuple(failed.written.tokens[:9])
    assert change.params == {"avoid": (failed.written.tokens[9],)}
    forced = dataclasses.replace(failed.trace, sampled=np.arange(len(entropy)) < 9)
    failed = dataclasses.replace(failed, trace=forced)
    assert (
        len(
            OPERATORS["fork_restart"]
            .change(setting(countdown, "countdown", [failed]))
            .kept
        )
        == 2
    )


def test_offsets_replay_failures_on_which_the_detector_fires(countdown):
    failures = [
        failure(countdown, "countdown", f"{n} + 1 = 3 no answer {n}") for n in (3, 5)
    ]
    tokens = failures[1].written.tokens  # fires = (-1, 7): on the second alone
    kept = {}
    for name, offset in OFFSETS.items():
        change = OPERATORS[name].change(
            setting(countdown, "countdown", failures, attempt=3)
        )
        assert change.params["fire_position"] == 0 and OPERATORS[name].needs_ancestor
        kept[offset] = change.kept
    assert {k: len(v) for k, v in kept.items()} == {
        -10: 0,
        -5: 2,
        0: 7,
        5: len(tokens) - 1,
        10: len(tokens) - 1,
    }
    assert all(own == tuple(tokens[: len(own)]) for own in kept.values())
    assert (
        OPERATORS["steer_at_fire"].change(setting(countdown, "countdown", failures[:1]))
        == Intervention()
    )


def test_another_first_token_than_the_failures(countdown):
    failures = [
        failure(countdown, "countdown", f"{n} + 1 = 3 no answer {n}") for n in (3, 5, 3)
    ]
    change = OPERATORS["other_first"].change(setting(countdown, "countdown", failures))
    assert change.params == {
        "avoid": tuple(countdown.encode("3") + countdown.encode("5"))
    }


def test_the_floor_of_an_early_stop_is_of_the_failures_least_sure_windows(countdown):
    failures = []
    for level in (1.0, 2.0, 3.0):
        failed = failure(countdown, "countdown", TRACE)
        values = np.full(len(failed.written.tokens), 5.0, np.float32)
        values[10:] = level
        trace = dataclasses.replace(failed.trace, scores={"top20_confidence": values})
        failures.append(dataclasses.replace(failed, trace=trace))
    own = (
        OPERATORS["early_stop"]
        .change(setting(countdown, "countdown", failures, stop_window=1.0))
        .params
    )
    assert own == {"floor": 2.0, "floor_window": 1}
    share = setting(
        countdown, "countdown", failures, stop_window=0.1, stop_quantile=0.0
    )
    own = OPERATORS["early_stop"].change(share).params
    assert (
        own["floor_window"] == 3 and 1.0 < own["floor"] < 1.1
    )  # 0.1 of a median of 30


@pytest.mark.parametrize(
    "name, added",
    [
        ("reread", "Read the question again:\n?"),
        (
            "critique",
            f"This attempt is wrong:\n{CHAT}\nSay what is wrong with it, then solve "
            "the problem anew.",
        ),
        ("not_this", "The answer is not 25."),
    ],
)
def test_operators_of_words(letters, name, added):
    failed = [failure(letters, "sums", CHAT)]
    change = OPERATORS[name].change(setting(letters, "sums", failed))
    assert change.params == {} and change.prompt[0]["content"] == f"?\n{added}"
    assert not OPERATORS[name].uses_oracle
    able, left_out = select((name,), False, letters, "sums")
    assert [o.name for o in able] == [name] and not left_out


def test_no_answer_is_named_where_none_is_known(letters, countdown):
    assert (
        OPERATORS["not_this"].change(
            setting(letters, "sums", [failure(letters, "sums", "12 + 7.")])
        )
        == Intervention()
    )
    able, left_out = select(
        ("reread", "critique", "not_this"), False, countdown, "countdown"
    )
    assert not able and all(
        why.startswith("the tokenizer cannot write") for why in left_out.values()
    )


def test_other_examples_take_the_place_of_those_that_a_plain_attempt_reads(countdown):
    config = Config(task=dataclasses.replace(Config().task, shots=1))
    plain = tasks.make(config.task)
    problem = plain.problems("test", 1)[0]
    asked = OperatorContext(
        config, problem, 0, CALIBRATION, False, plain.prompt(problem), (), countdown
    )
    told = OPERATORS["other_examples"].change(asked).prompt.split("\n")
    before = plain.prompt(problem).split("\n")
    assert (
        len(before) == 2
        and len(told) == 3
        and told[-1] == before[-1] == problem.question
    )
    assert before[0] not in told
    more = dataclasses.replace(
        config,
        task=dataclasses.replace(config.task, name="gsm8k", shots=1, path="/none"),
    )
    with pytest.raises(UserError):
        OPERATORS["other_examples"].change(dataclasses.replace(asked, config=more))


def test_a_hint_is_a_prompt_of_its_own(letters):
    change = OPERATORS["hint"].change(setting(letters, "sums", []))
    assert change.params == {} and change.prompt[0]["content"].startswith(
        "?\nCheck each step"
    )
    assert (
        OPERATORS["hint"]
        .change(setting(letters, "countdown", []))
        .prompt.endswith("\n7 7 3 -> 49 :")
    )


def test_hot_takes_turns():
    assert [
        OPERATORS["hot"].change(setting(None, "sums", [], i)).params["temperature"]
        for i in range(3)
    ] == [1, 1.2, 1]


def test_what_a_vocabulary_cannot_say_is_left_out(countdown, letters):
    names = ("hint", "wait", "calculator", "tip")
    able, left_out = select(names, False, countdown, "countdown")
    assert [o.name for o in able] == [
        "wait",
        "calculator",
        "tip",
    ] and "cannot write 'Check" in left_out["hint"]
    assert select(("wait",), False, countdown, "sums")[1] == {
        "wait": "the tokenizer cannot write 'Wait'"
    }
    assert select(names, False, letters, "sums")[1] == {}
    with pytest.raises(UserError, match="one token"):
        OPERATORS["tip"].change(setting(letters, "sums", []))
    assert [n for n in OPERATORS if OPERATORS[n].uses_oracle] == [
        "calculator",
        "calculator_wrong",
        "state_keeper",
        "state_keeper_wrong",
        "repair",
    ]


def test_tip_lowers_the_share_of_switches(countdown, plain_engine):
    own = (
        OPERATORS["tip"]
        .change(setting(countdown, "countdown", [], switch_window=0.5))
        .params
    )
    up = countdown.encode("up")
    assert own["switch_window"] == 15 and own["switch_tokens"] == up == own["penalised"]
    budget = dict(budget=24, temperature=0.3)
    plain = plain_engine.sample(
        [row(f"{i}", (5 + i, 6), **budget) for i in range(16)], 32
    )
    # This model has other words: take its most frequent tokens.
    often = np.bincount(np.concatenate([r.tokens for r in plain])).argsort()[-2:]
    often = tuple(often.tolist())
    own = {**own, "switch_tokens": often, "penalised": often}
    tip = plain_engine.sample(
        [row(f"{i}", (5 + i, 6), **budget, **own) for i in range(16)], 32
    )
    share = lambda rollouts: np.mean(
        np.isin(np.concatenate([r.tokens for r in rollouts]), often)
    )
    assert share(tip) < share(plain) / 2


def test_the_control_of_tip_lowers_other_words_in_the_same_windows(countdown, letters):
    change = lambda name, codec, task, i: (
        OPERATORS[name].change(setting(codec, task, [], i, switch_window=40.0)).params
    )
    tip = change("tip", countdown, "countdown", 0)
    drawn = [change("tip_random", countdown, "countdown", i) for i in range(60)]
    lists = ("penalised",)
    for own in drawn:
        same = {k: v for k, v in own.items() if k not in lists}
        assert same == {k: v for k, v in tip.items() if k not in lists}
        (token,) = own["penalised"]
        assert token not in (*tip["switch_tokens"], *countdown.stop_tokens)
        assert countdown.encode(countdown.decode((token,))) == (token,)
    # Every attempt draws words of its own, and draws them again in another plan.
    assert len({own["penalised"] for own in drawn}) > 30
    assert drawn[7] == change("tip_random", countdown, "countdown", 7)


def test_tip_works_without_a_failure(countdown):
    """A window in tokens reads no lengths."""
    for name in ("tip", "tip_random"):
        context = setting(countdown, "countdown", [], switch_window=13.0)
        context = dataclasses.replace(
            context, calibration=dataclasses.replace(CALIBRATION, lengths=())
        )
        assert OPERATORS[name].change(context).params["switch_window"] == 13


def test_every_result_that_is_pushed_is_true(letters, plain_engine):
    """The model knows no arithmetic: the calculator writes what follows equals
    signs."""
    draw = np.random.default_rng(0)
    change = OPERATORS["calculator"].change(setting(letters, "sums", []))
    asked = [
        f"{a} {'+-*'[i % 3]} {b} ="
        for i, (a, b) in enumerate(draw.integers(1, 99, (9, 2)))
    ]
    rows = [
        row(
            q,
            forced=letters.encode(q),
            budget=24,
            stop=letters.stop_tokens,
            **change.params,
        )
        for q in asked
    ]
    on_pause = lambda row, tokens: change.on_pause(tokens)
    together = plain_engine.sample(rows, 40, on_pause=on_pause)
    for question, rollout in zip(asked, together):
        result = f" {eval(question.rstrip('='))}"
        text = letters.decode(rollout.tokens)
        assert text.startswith(question + result)
        assert rollout.forced.sum() == len(question) + len(
            result
        )  # a token a character
        assert rollout.generated == len(rollout.tokens)
    # The pushed text follows from the row's own tokens, not from its neighbours.
    alone = plain_engine.sample(rows[4:5], 40, on_pause=on_pause)
    np.testing.assert_array_equal(alone[0].tokens, together[4].tokens)
    silent = plain_engine.sample(rows[4:5], 40)
    assert silent[0].forced.sum() == len(asked[4])


def test_the_calculator_leaves_alone_what_it_cannot_write(countdown):
    change = OPERATORS["calculator"].change(setting(countdown, "countdown", []))
    on_pause = lambda text: change.on_pause(np.array(countdown.encode(text)))
    assert change.params["pause"] == countdown.encode("=")
    assert countdown.decode(on_pause("7 , 7 + 7 =").forced) == "14"
    assert (
        on_pause("3 - 7 =")
        == on_pause("99 + 7 =")
        == on_pause("answer =")
        == PauseAction()
    )
