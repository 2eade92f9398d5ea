"""Rescues and retries of a run as examples, and DPO's term of likelihood."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from run_of_the_past import config, make_run

from fr import store
from fr.config import LoraConfig, PreferenceConfig
from fr.errors import UserError
from fr.models import load
from fr.models.transformer import Transformer
from fr.training.microbatches import training_mesh
from fr.training.pairs import failed_and_rescued, pairs_of
from fr.training.past_runs import PastRun
from fr.training.preference_loss import make_preference_evaluation
from fr.training.retries import rarely_reached


def _rows(**right: int) -> list[dict]:
    """Three attempts of retry and one of hot at each problem."""
    return [
        {"problem": name, "operator": operator, "grade": grade}
        for name, count in right.items()
        for operator, grade in [
            ("hot", "right"),
            *[("retry", "right" if i < count else "wrong") for i in range(3)],
        ]
    ]


def test_problems_that_retry_rarely_reached():
    rows = _rows(a=0, b=1, c=2, d=3)
    assert [len(rarely_reached(rows, most)) for most in range(4)] == [1, 2, 3, 4]
    assert rarely_reached(rows, 1) == {"a", "b"}
    only = [{"problem": "e", "operator": "hot", "grade": "right"}]
    assert rarely_reached(rows + only, 3) == {"a", "b", "c", "d"}
    with pytest.raises(UserError, match="has none; make the run with it"):
        rarely_reached(only, 1)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The run of past attempts in which `hint` stands for a plain retry."""
    folder = tmp_path_factory.mktemp("retries")
    attempts = make_run(folder / "run")
    half, again = sorted({a.problem for a in attempts})[:6], []
    for a in attempts:
        if a.operator == "calculator":
            right = a.problem in half
            a = dataclasses.replace(
                a, operator="retry", grade="right" if right else "wrong"
            )
        again.append(a)
    (folder / "run/attempts/shard-000000.parquet").unlink()
    store.write_shard(folder / "run/attempts", 0, again)
    return folder / "run", set(half), load("countdown")


def test_hard_problems_and_rejection_sampling(run):
    folder, half, model = run
    past = lambda source, **c: PastRun(
        config(folder, "sft", source, max_per_problem=0, **c), model
    )
    every = {one.problem for one in past("rescued").rescued()}
    hard = {one.problem for one in past("rescued", most_retries=0).rescued()}
    assert len(every) == 12 and hard == every - half
    assert past("rescued", most_retries=2).rescued()
    found = past("retried").retried()
    # A right rollout of each problem, and right retries of a half that differ from it.
    count = lambda name: sum(one.problem == name for one in found)
    assert {count(name) for name in every - half} == {1}
    assert {1, 2} <= {count(name) for name in half} <= {1, 2, 3}
    pairs = config(folder, "dpo", "pairs", most_retries=0)
    assert {
        worse.problem for _, worse in failed_and_rescued(PastRun(pairs, model), pairs)
    } == every - half


def test_the_term_of_likelihood_is_the_mean_log_prob_of_the_better_one(run):
    folder, _, model = run
    loss = {}
    for source in ("pairs", "pairs_parted"):
        c = config(folder, "dpo", source)
        pairs = pairs_of(failed_and_rescued(PastRun(c, model), c)[:3])
        batch = pairs.batch(range(3), np.full(pairs.mask.shape, -2.0, np.float32))
        for weight in (0.0, 0.5):
            settings = PreferenceConfig(steps=1, likelihood=weight, dtype="float32")
            look = make_preference_evaluation(
                model.config, "dpo", settings, LoraConfig(), training_mesh()
            )
            values, count = look(model.params, None, batch)
            assert int(count) == 3
            loss[source, weight] = float(values["loss"])
        if source == "pairs":
            logp = _logps(model, batch)
            mean = (logp * batch.mask).sum(1) / batch.mask.sum(1)
            np.testing.assert_allclose(
                loss[source, 0.5] - loss[source, 0.0],
                -0.5 * mean[::2].mean(),
                rtol=1e-4,
            )
    assert loss["pairs", 0.0] == pytest.approx(loss["pairs_parted", 0.0], rel=1e-5)
    assert loss["pairs", 0.5] != pytest.approx(loss["pairs_parted", 0.5], rel=1e-3)


def _logps(model, batch) -> np.ndarray:
    """Log-probs of the completions' tokens, straight from the logits."""
    places = np.where(batch.tokens >= 0, np.arange(batch.tokens.shape[1]), -1)
    logits, _ = Transformer(model.config, jnp.float32).apply(
        {"params": model.params}, batch.tokens, places
    )
    table = np.asarray(jax.nn.log_softmax(logits.astype(jnp.float32)))
    found = np.zeros(batch.mask.shape)
    for row, (tokens, start) in enumerate(zip(batch.tokens, batch.start)):
        for i in range(int((tokens >= 0).sum() - start)):
            found[row, i] = table[row, start + i - 1, tokens[start + i]]
    return found
