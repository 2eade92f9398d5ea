"""Attempts of an evaluation: branches of first tokens, and forced continuations."""

import dataclasses

import numpy as np
import pytest
from conftest import row
from test_engine import paused

from fr import store
from fr.config import Config, EvaluationConfig, SamplingConfig, TaskConfig
from fr.errors import UserError
from fr.evaluation.decodings import DECODINGS
from fr.runs.attempts import make_attempts
from fr.runs.planned import plan_attempt
from fr.runs.run import open_run
from fr.sampling.sources import PauseAction
from fr.tasks.formats import CompletionText, format_of

CONFIG = Config(
    specialist="countdown",
    task=TaskConfig(problems=4),
    sampling=SamplingConfig(slots=16, chunk=16, max_new_tokens=96),
    evaluation=EvaluationConfig(samples=4),
)
UP = "up"


def test_a_stop_token_that_pauses_ends_the_row_unless_the_source_goes_on(plain_engine):
    r = row("stops", stop=(50,), pause=(50,), forced=(9, 10, 50), budget=12)
    ended, heard = paused(plain_engine, r)
    assert ended.tokens.tolist() == [9, 10, 50] and not ended.truncated
    assert heard == [("stops", [9, 10, 50])]
    # Cut before the second token, pushed on, and at the next stop token left to end.
    more, heard = paused(plain_engine, r, PauseAction(cut=1, forced=(11, 50)))
    assert more.tokens.tolist() == [9, 11, 50] and not more.truncated
    assert [tokens for _, tokens in heard] == [[9, 10, 50], [9, 11, 50]]
    assert more.generated == 5  # what was cut off is counted
    # A stop token that uses the budget up ends the row without a pause.
    full = dataclasses.replace(r, params={**r.params, "budget": 3})
    ended, heard = paused(plain_engine, full)
    assert ended.tokens.tolist() == [9, 10, 50] and heard == []


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """(decoding, settings) -> the attempts of one evaluation, in order."""

    def attempts(decoding, **settings):
        c = dataclasses.replace(CONFIG.evaluation, **settings)
        config = dataclasses.replace(CONFIG, evaluation=c)
        run = open_run(config, tmp_path_factory.mktemp(decoding))
        plan = [
            plan_attempt(
                run,
                run.specialist.encode(run.task.prompt(problem)),
                problem,
                "rollout",
                i,
                {"temperature": 0.7},
                False,
            )
            for problem in run.problems
            for i in range(c.samples)
        ]
        make_attempts(run, DECODINGS[decoding](run, plan), "evaluation")
        return run, store.read(run.workdir / "evaluation")

    return attempts


@pytest.fixture(scope="module")
def sampled(make):
    return make("sampled")


def test_no_continuation_is_the_sampled_attempt(make, sampled):
    _, plain = sampled
    _, none = make("continued", continuations=0)
    assert [a.tokens.tolist() for a in none] == [a.tokens.tolist() for a in plain]


def test_a_continuation_keeps_the_reasoning_and_forces_it_on(make, sampled):
    run, plain = sampled
    _, forced = make("continued", continuations=1)
    (up,) = run.specialist.encode(UP)
    ended = 0
    for before, after in zip(plain, forced):
        if before.truncated:
            assert after.tokens.tolist() == before.tokens.tolist()
            continue
        ended += 1
        form = format_of("countdown")
        written = CompletionText(form, before.tokens, run.specialist)
        kept = before.tokens[: written.answer - 1].tolist()  # without "answer"
        if kept and run.specialist.decode(kept[-1:]) == "yes":
            kept = kept[:-1]
        assert after.tokens[: len(kept) + 1].tolist() == [*kept, up]
        assert (
            after.forced.tolist().index(True) == len(kept) and after.forced.sum() == 1
        )
        # The cost counts what was cut off.
        drawn = len(before.tokens) + len(after.tokens) - len(kept) - 1
        assert after.cost.generated == drawn and after.cost.forced == 1
        assert after.cost.prefill == before.cost.prefill
    assert ended >= 12


def test_every_continuation_goes_on_from_the_one_before(make):
    run, three = make("continued", continuations=3)
    (up,) = run.specialist.encode(UP)
    whole = [a for a in three if not a.truncated]
    assert whole and all(a.forced.sum() == 3 for a in whole)
    assert all((a.tokens[a.forced] == up).all() for a in three)
    assert all(a.tokens[-1] in run.specialist.stop_tokens for a in whole)


def test_branches_are_greedy_after_the_likeliest_first_tokens(make):
    run, branches = make("branches")
    engine = run.engine(False)
    for problem in run.problems:
        own = [a for a in branches if a.problem == problem.id]
        first = [int(a.tokens[0]) for a in own]
        logits = np.asarray(run.specialist.logits([own[0].prompt.tolist()]))[0, -1]
        assert first == np.argsort(-logits, kind="stable")[:4].tolist()
        greedy = row(
            problem.id,
            own[0].prompt,
            temperature=0.0,
            budget=96,
            stop=run.specialist.stop_tokens,
        )
        assert engine.sample([greedy])[0].tokens.tolist() == own[0].tokens.tolist()
        assert all(
            a.forced.tolist() == [True] + [False] * (len(a.tokens) - 1) for a in own
        )


def test_more_branches_than_tokens_are_refused(sampled):
    run, _ = sampled
    problem = run.problems[0]
    prompt = run.specialist.encode(run.task.prompt(problem))
    plan = [plan_attempt(run, prompt, problem, "rollout", 128, {}, False)]
    with pytest.raises(UserError, match="samples = 129.*has 128 tokens"):
        DECODINGS["branches"](run, plan)
    pausing = [dataclasses.replace(plan[0], on_pause=lambda tokens: PauseAction())]
    with pytest.raises(UserError, match="use one of them"):
        DECODINGS["continued"](run, pausing)
    with pytest.raises(UserError, match="did you mean 'branches'"):
        DECODINGS["branch"]
