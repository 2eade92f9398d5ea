"""Advantages that branches spread over the tokens of a rollout."""

from types import SimpleNamespace

import numpy as np
import pytest

from fr import tasks
from fr.config import Config, PolicyConfig, TaskConfig
from fr.errors import UserError
from fr.metrics import Stages
from fr.models import Model, ModelConfig
from fr.tasks.countdown import VOCABULARY, countdown_tokenizer
from fr.training.credit import CREDITS, CreditReader, Values
from fr.training.rollouts import GradedRollout
from fr.types import RIGHT, WRONG, Cost, Request, Rollout

NAN = np.nan
VALUES = Values(
    cuts=np.array([[0, 2, 4], [0, 2, 2], [0, 3, 5], [0, 2, 4]]),
    value=np.array(
        [[0.5, 0.25, 0.75, 1], [0.5, 0.2, 0.2, 0], [0.4, 0.4, 0.1, 0], [0, 0, 0, 0]]
    ),
    failed=np.array([False, True, True, True]),
    gain=np.array([NAN, 0.2, 0.0, -0.1]),
)
BY_ROW = np.tile(np.array([[1.0], [-1.0], [-1.0], [-1.0]]), (1, 6))


def spread(name, seed=0):
    return CREDITS[name].rule(VALUES, BY_ROW, 0.5, seed)


def test_steps_pay_each_part_for_what_it_changed():
    found = spread("steps")
    assert found[0] == pytest.approx([-0.25, -0.25, 0.5, 0.5, 0.25, 0.25])
    # The part after two equal cuts has the gain.
    assert found[1] == pytest.approx([-0.3, -0.3, -0.2, -0.2, -0.2, -0.2])
    # Over the cuts it adds up to the outcome less the rate at the start.
    parts = [found[2][at] for at in VALUES.cuts[2]]
    assert sum(parts) == pytest.approx(0 - 0.4)


def test_no_blame_after_the_point_of_no_return():
    found = spread("until_lost")
    assert (found[0] == 1).all()
    assert found[1].tolist() == [-1, -1, 0, 0, 0, 0]
    assert found[2].tolist() == [-1] * 5 + [0]
    # A rate of 0 at the start is never below half of itself.
    assert (found[3] == -1).all()


def test_the_control_blames_as_many_tokens_at_other_places():
    counts = set()
    for seed in range(20):
        found = spread("until_random", seed)
        assert (found[0] == 1).all()
        shares = sorted((row == 0).sum() for row in found[1:])
        counts.add(tuple((row == 0).sum() for row in found[1:]))
        assert shares[0] == 0 and shares[1:] != [0, 0]
    assert len(counts) > 2


def test_failed_rows_are_kept_by_what_the_operator_gains():
    assert spread("rescuable")[:, 0].tolist() == [1, -1, 0, 0]
    assert spread("not_rescuable")[:, 0].tolist() == [1, 0, -1, -1]


class FakeSampler:
    """Right where the kept tokens have no `no`; remembers what it was asked."""

    def __init__(self, codec):
        self.codec, self.asked = codec, []

    def graded(self, rows, owners, sets, stages, kept):
        self.asked += list(zip(rows, owners))
        made = []
        for row, problem in zip(rows, owners):
            text = self.codec.decode(kept[row.id])
            lost = "no" in text.split()
            rollout = SimpleNamespace(row=row)
            made.append(GradedRollout(problem, rollout, text, WRONG if lost else RIGHT))
        return made, Cost(generated=len(rows))


def codec_and_group():
    tokenizer = countdown_tokenizer()
    config = ModelConfig(
        VOCABULARY, width=8, layers=1, heads=1, kv_heads=1, head_dim=8, ff=8
    )
    codec = Model(config, None, tokenizer, (tokenizer.eos_token_id,), "countdown")
    problem = tasks.make(TaskConfig(name="countdown")).problems("train", 1)[0]
    prompt = codec.encode("2 3 4 -> 20 :")
    texts = ("3 + 2 = 5 , 5 + 4 = 9 no 5 - 4 = 1 up answer 5 - 4", "3 + 2 = 5 ,")
    group = []
    for i, (text, grade) in enumerate(zip(texts, (WRONG, RIGHT))):
        tokens = np.array((*codec.encode(text), *codec.stop_tokens), np.int32)
        row = Request(f"p/step 1/{i}", prompt, np.zeros(2, np.uint32), {"budget": 30})
        flags = np.zeros(len(tokens), bool)
        rollout = Rollout(
            row, tokens, flags, flags, tokens * 0.0, {}, False, len(tokens)
        )
        group.append(GradedRollout(problem, rollout, text, grade))
    return codec, group


def test_branches_keep_the_first_tokens_and_the_rest_of_the_budget():
    codec, group = codec_and_group()
    problem, prompt = group[0].problem, group[0].rollout.row.prompt
    policy = PolicyConfig(
        credit="until_lost", credit_cuts=3, credit_branches=2, max_new_tokens=30
    )
    sampler = FakeSampler(codec)
    reader = CreditReader(Config(policy=policy), codec, sampler)
    given = np.full((2, 32), -1.0, np.float32)
    found, cost, metrics = reader.spread([group], given, 1, Stages())
    first = group[0].rollout.tokens.tolist()
    kept = [len(row.prompt) - len(prompt) for row, _ in sampler.asked]
    assert len(kept) == 6 and kept[::2] == kept[1::2] and kept[0] == 0
    for row, owner in sampler.asked:
        cut = len(row.prompt) - len(prompt)
        assert owner is problem and row.params["budget"] == 30 - cut
        assert row.prompt[len(prompt) :] == tuple(first[:cut])
        assert row.rest == tuple(first[cut:])
    keys = {tuple(row.key.tolist()) for row, _ in sampler.asked}
    assert len(keys) == 6 and cost.generated == 6
    lost = next(cut for cut in kept if "no" in codec.decode(first[:cut]).split())
    assert (found[0, :lost] == -1).all() and (found[0, lost:] == 0).all()
    assert (found[1] == -1).all() and metrics["credit/lost"] == 1.0
    # The right row needs no branch for this rule; `steps` branches it too.
    steps = CreditReader(
        Config(policy=PolicyConfig(credit="steps", credit_cuts=3, max_new_tokens=30)),
        codec,
        FakeSampler(codec),
    )
    found, *_ = steps.spread([group], given, 1, Stages())
    assert found[1, 0] == 0 and not np.isnan(found).any()


def test_branches_of_the_operator_have_its_parameters_and_the_same_keys():
    codec, group = codec_and_group()
    policy = PolicyConfig(
        credit="rescuable", credit_cuts=3, credit_branches=2, max_new_tokens=30
    )
    sampler = FakeSampler(codec)
    reader = CreditReader(Config(policy=policy), codec, sampler)
    given = np.full((2, 32), -1.0, np.float32)
    found, *_ = reader.spread([group], given, 1, Stages())
    rows = [row for row, _ in sampler.asked]
    plain, own = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    for one, other in zip(plain, own):
        assert one.prompt == other.prompt and (one.key == other.key).all()
        assert one.params["budget"] == other.params["budget"]
        assert "forced" not in one.params
        assert codec.decode(other.params["forced"]).split() == ["up"]
    assert (found[0] == 0).all()  # the fake grader sees no difference
    for name, why in (("dense_sampled", "needs an ancestor"), ("calculator", "pauses")):
        policy = PolicyConfig(credit="rescuable", credit_operator=name)
        with pytest.raises(UserError, match=why):
            CreditReader(Config(policy=policy), codec, FakeSampler(codec)).spread(
                [group], given, 1, Stages()
            )
