"""The loss of every algorithm, importance weight and mean against numpy, by values and
finite differences.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fr.config import (
    Config,
    PolicyConfig,
    SamplingConfig,
    check_rollouts,
    default,
    freeze,
)
from fr.config.algorithms import ALGORITHMS, CISPO, GRPO, GSPO, MEANS, RLOO, SCALES
from fr.errors import UserError
from fr.rewards.mix import centred_by_group
from fr.training.advantages import advantages
from fr.training.policy_loss import GAPS, WIDE, PolicyBatch, policy_loss, weigh
from fr.training.policy_update import recomputes

GROUP, ROWS, WIDTH, LONGEST = 3, 6, 5, 7
CONFIG = PolicyConfig(
    max_new_tokens=LONGEST, kl=0.3, entropy=0.2, prompts=2, rollouts=GROUP
)
WEIGHTS = [
    ("none", "truncate"),
    *itertools.product(("token", "sequence"), ("truncate", "mask")),
]


def sample(seed=0):
    """A batch in float64 as numpy arrays by name; row 1 has a forced token, row 5 no
    sampled one.
    """
    draw = np.random.default_rng(seed)
    mask = np.arange(WIDTH) < np.array([5, 4, 1, 3, 2, 0])[:, None]
    mask[1, 1] = False
    normal = lambda scale: np.where(mask, draw.normal(-1.0, scale, mask.shape), 0.0)
    logp = normal(0.5)
    near = lambda scale: np.where(mask, logp + draw.normal(0, scale, mask.shape), 0.0)
    return {
        "mask": mask,
        "logp": logp,
        "old": near(0.4),
        "drawn": near(0.5),
        "ref": near(0.3),
        "entropy": np.where(mask, draw.uniform(0.5, 2.0, mask.shape), 0.0),
        "reward": draw.normal(size=ROWS),
    }


def in_numpy(x, logp, now, worth, row, config):
    """The loss by its definition, a row at a time; `now` are the log-probs that no
    gradient goes through.
    """
    gains, penalties = [], []
    for b in range(ROWS):
        at = np.flatnonzero(x["mask"][b])
        if not len(at):
            continue
        new, fixed, old, a = logp[b, at], now[b, at], x["old"][b, at], worth[b]
        ratio = np.exp(new - old)
        if row.ratio == "sequence":
            ratio = np.full(len(at), np.exp(np.mean(new - old)))
            if (
                config.importance == "token"
            ):  # weights that differ along a row want the paper's GSPO-token
                ratio = np.exp(np.mean(fixed - old)) * np.exp(new - fixed)
        low, high = 1 - row.clip_low, 1 + row.clip_high
        gain = np.minimum(ratio * a, np.clip(ratio, low, high) * a)
        if config.dual_clip and a < 0:
            gain = np.maximum(gain, config.dual_clip * a)
        if row.ratio == "none":
            gain = a * new
        if row.gain == "weight":
            gain = np.clip(np.exp(fixed - old), low, high) * a * new
        apart = old - x["drawn"][b, at]
        w = {"none": 1.0, "token": np.exp(apart), "sequence": np.exp(apart.sum())}[
            config.importance
        ]
        if config.importance != "none":
            c, w = config.importance_bound, w * np.ones(len(at))
            outside = (w > c) | (w < 1 / c)
            w = (
                np.where(outside, 0.0, w)
                if config.importance_beyond == "mask"
                else np.minimum(w, c)
            )
        gains.append(w * gain)
        d = x["ref"][b, at] - new
        penalties.append(
            config.kl * (np.exp(d) - d - 1) - config.entropy * x["entropy"][b, at]
        )
    by_row = lambda rows: np.mean([np.mean(row) for row in rows])
    by_token = lambda rows: np.mean(np.concatenate(rows))
    total = sum(np.sum(gain) for gain in gains)
    gain = {
        "sequence": by_row(gains),
        "token": by_token(gains),
        "sum": total / len(gains),
        "fixed": total / len(gains) / LONGEST,
    }[row.mean]
    return -gain + (by_row if row.mean == "sequence" else by_token)(penalties)


def differences(x, worth, row, config, step=1e-6):
    """The gradient of `in_numpy` in every sampled token's log-prob."""
    out = np.zeros(x["mask"].shape)
    for b, t in np.argwhere(x["mask"]):
        moved = [x["logp"].copy() for _ in range(2)]
        moved[0][b, t] += step
        moved[1][b, t] -= step
        up, down = (in_numpy(x, logp, x["logp"], worth, row, config) for logp in moved)
        out[b, t] = (up - down) / (2 * step)
    return out


def batch_of(x, worth, **more) -> PolicyBatch:
    f32 = lambda v: np.asarray(v, np.float32)
    wide = f32(np.where(x["mask"], worth[:, None], 0.0))
    tokens = np.where(x["mask"], 1, -1)
    given = {"ref_logp": f32(x["ref"]), "drawn_logp": f32(x["drawn"])} | more
    return PolicyBatch(
        tokens, np.ones(ROWS, int), x["mask"], f32(x["old"]), wide, **given
    )


def ours(x, worth, row, config, **more):
    """Value, measured and gradient of our loss, one operation at a time."""
    weighed = weigh(batch_of(x, worth, **more), 0, row, config)
    loss = lambda logp: policy_loss(
        logp, jnp.float32(x["entropy"]), weighed, row, config
    )
    (value, measured), grad = jax.value_and_grad(loss, has_aux=True)(
        jnp.float32(x["logp"])
    )
    return value, measured, np.where(x["mask"], grad, 0.0)


@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_loss_and_gradient_of_every_weight_and_mean(name):
    x = sample()
    for number, ((importance, beyond), mean) in enumerate(
        itertools.product(WEIGHTS, MEANS)
    ):
        # Settings of the advantage go round, so that all are met with every algorithm.
        scale, ddof = SCALES[number % len(SCALES)], number // len(SCALES) % 2
        config = dataclasses.replace(
            CONFIG,
            importance=importance,
            importance_beyond=beyond,
            importance_bound=1.5,
            mean=mean,
            scale=scale,
            ddof=ddof,
            dual_clip=1.3 * (number % 2),
        )
        row = dataclasses.replace(ALGORITHMS[name], mean=mean, scale=scale, ddof=ddof)
        worth = advantages(x["reward"], GROUP, row).astype(np.float64)
        value, _, grad = ours(x, worth, ALGORITHMS[name], config)
        wanted = in_numpy(x, x["logp"], x["logp"], worth, row, config)
        said = f"{importance} {beyond} {mean} {scale} {ddof}"
        np.testing.assert_allclose(value, wanted, rtol=1e-6, atol=1e-6, err_msg=said)
        np.testing.assert_allclose(
            grad, differences(x, worth, row, config), rtol=1e-6, atol=1e-6, err_msg=said
        )


def test_advantages_of_every_centre_scale_and_ddof():
    rewards = np.random.default_rng(1).normal(size=(4, GROUP))
    for centre, scale, ddof in itertools.product(
        ("group", "others", "batch"), SCALES, (0, 1)
    ):
        row = dataclasses.replace(GRPO, centre=centre, scale=scale, ddof=ddof)
        others = (rewards.sum(axis=1, keepdims=True) - rewards) / (GROUP - 1)
        centres = {
            "group": rewards.mean(axis=1, keepdims=True),
            "others": others,
            "batch": rewards.mean(),
        }
        by = {
            "std": rewards.std(axis=1, ddof=ddof)[:, None],
            "batch": rewards.std(ddof=ddof),
            "none": 1.0,
        }
        wanted = (rewards - centres[centre]) / by[scale]
        given = advantages(rewards.reshape(-1), GROUP, row)
        np.testing.assert_allclose(
            given, wanted.reshape(-1), rtol=1e-6, atol=1e-6, err_msg=f"{row}"
        )


def test_std_token_mean_ddof_1_without_drawing_again_can_be_written():
    c = default()
    c.algorithm, c.policy.mean, c.policy.ddof = "grpo", "token", 1
    frozen = freeze(c)
    assert (
        frozen.policy.mean == "token"
        and not GRPO.resample
        and GRPO.scale == "std"
        and GRPO.ddof == 1
    )


def test_log_probs_of_this_update_are_a_ratio_of_one_in_bfloat16():
    """A sampler that is off by bfloat16's rounding clips nothing before the first
    update.
    """
    x, worth = sample(), np.array([1.0, -1, 1, -1, 1, -1])
    x["drawn"] = x["old"] = np.asarray(
        jnp.asarray(x["logp"]).astype(jnp.bfloat16), np.float64
    )
    gap = np.abs(x["logp"] - x["drawn"])[x["mask"]]
    assert gap.max() > 1e-3
    _, stale, _ = ours(x, worth, GSPO, CONFIG)
    _, fresh, grad = ours(x, worth, GSPO, CONFIG, fresh=np.ones(ROWS, bool))
    assert stale.sums["clip_share"] > 0 and fresh.sums["clip_share"] == 0
    assert (
        fresh.maxima["ratio_max"] == 1
        and fresh.sums["moved"] == 0
        and np.abs(grad).max() > 0
    )
    np.testing.assert_allclose(fresh.maxima["logp_gap"], gap.max(), rtol=1e-4)
    np.testing.assert_allclose(fresh.sums["logp_gap_mean"], gap.mean(), rtol=1e-4)
    above = [(gap > edge).mean() for edge in (*GAPS, WIDE)]
    np.testing.assert_allclose(fresh.sums["logp_gap_above"], above, atol=1e-6)


def test_weights_of_this_update_are_trainer_over_sampler():
    x, worth = sample(), np.ones(ROWS)
    config = dataclasses.replace(CONFIG, importance="token", importance_bound=100.0)
    _, measured, _ = ours(x, worth, GRPO, config, fresh=np.ones(ROWS, bool))
    wanted = np.exp(x["logp"] - x["drawn"])[x["mask"]].mean()
    np.testing.assert_allclose(measured.sums["importance"], wanted, rtol=1e-5)
    assert measured.sums["importance_cut"] == 0


def test_when_old_log_probs_are_the_trainers_own():
    on = lambda **more: recomputes(dataclasses.replace(CONFIG, **more))
    # Both compute in float32 here.
    assert not on() and on(minibatches=2) and on(epochs=2) and on(dtype="bfloat16")
    assert on(ratio_from="trainer") and not on(ratio_from="sampler", minibatches=2)
    assert not on(lag=1, minibatches=2) and on(lag=1, minibatches=2, importance="token")


def test_a_constant_in_advantages_is_no_reward_for_length_once_centred():
    """Two rows, of one token and of four, that are worth the same: no pull remains;
    uncentred there is one.
    """
    mask = np.arange(4) < np.array([1, 4])[:, None]
    constant = np.where(mask, 0.7, 0.0)
    assert not centred_by_group(constant, mask, 2).any()
    per_row = lambda values: (values / np.maximum(mask.sum(1, keepdims=True), 1)).sum(
        axis=1
    )
    # d loss / d log p(stop) of each row, under the mean of a row's tokens.
    pull = lambda values: values[np.arange(2), mask.sum(1) - 1] / mask.sum(1)
    assert pull(constant)[0] == 4 * pull(constant)[1]
    dense = np.where(mask, np.random.default_rng(0).random(mask.shape), 0.0)
    assert per_row(centred_by_group(dense, mask, 2)).sum() == pytest.approx(0, abs=1e-6)


REFUSED = [
    ({"algorithm": "grpo", "policy": {"rollouts": 1}}, "policy.rollouts = 1"),
    ({"algorithm": "rloo", "policy": {"rollouts": 1}}, "policy.rollouts = 1"),
    ({"algorithm": "dapo", "policy": {"rollouts": 1}}, "policy.rollouts = 1"),
    (
        {
            "algorithm": "grpo",
            "policy": {"ratio_distribution": "sample"},
            "sampling": {"top_p": 0.9},
        },
        "top_p = 0.9",
    ),
    (
        {
            "algorithm": "gspo",
            "policy": {"ratio_distribution": "sample"},
            "sampling": {"top_k": 20},
        },
        "top_k = 20",
    ),
    (
        {
            "algorithm": "grpo",
            "policy": {"ratio_distribution": "sample", "temperature": 1e-4},
        },
        "temperature = 0.0001",
    ),
    ({"algorithm": "grpo", "policy": {"covariance": "kl"}}, "covariance = 'kl'"),
    (
        {
            "algorithm": "grpo",
            "policy": {"covariance": "kl", "minibatches": 2, "ratio_from": "sampler"},
        },
        "ratio_from = 'sampler'",
    ),
    (
        {"algorithm": "grpo", "policy": {"lag": 1, "ratio_from": "trainer"}},
        "policy.lag = 1",
    ),
    (
        {
            "algorithm": "grpo",
            "policy": {"importance": "token", "ratio_from": "sampler"},
        },
        "ratio_from = 'sampler'",
    ),
    ({"algorithm": "grpo", "policy": {"reference_every": 5}}, "policy.reference_every"),
]


@pytest.mark.parametrize("settings, words", REFUSED)
def test_combinations_that_cannot_work_are_refused_in_one_line(settings, words):
    c = default()
    c.algorithm = settings["algorithm"]
    for group in settings.keys() - {"algorithm"}:
        for name, value in settings[group].items():
            c[group][name] = value
    with pytest.raises(UserError) as error:
        freeze(c)
    assert words in str(error.value) and "\n" not in str(error.value)
    # A config that trains otherwise may say what it likes.
    c.algorithm = "sft"
    freeze(c)


def test_combinations_that_do_work_are_not_refused():
    fine = [
        Config(algorithm="reinforce", policy=PolicyConfig(rollouts=1)),
        Config(
            algorithm="grpo",
            policy=PolicyConfig(ratio_distribution="sample", temperature=0.7),
        ),
        Config(algorithm="grpo", sampling=SamplingConfig(top_p=0.8)),
        Config(algorithm="grpo", policy=PolicyConfig(covariance="kl", minibatches=2)),
        Config(
            algorithm="grpo",
            policy=PolicyConfig(lag=1, importance="token", ratio_from="trainer"),
        ),
        Config(
            algorithm="grpo",
            policy=PolicyConfig(kl=0.1, reference_every=5, reference_mix=0.5),
        ),
    ]
    for config in fine:
        check_rollouts(config)


def test_one_reward_against_its_others():
    # RLOO: 1 less the mean of 0 and 0, and 0 less the mean of 1 and 0.
    np.testing.assert_allclose(
        advantages(np.array([1, 0, 0.0]), 3, RLOO), [1, -0.5, -0.5]
    )


def test_cispo_keeps_the_gradient_of_tokens_beyond_its_bound():
    x, worth = sample(), np.ones(ROWS)
    x["old"] = np.where(x["mask"], x["logp"] - 3.0, 0.0)  # ratios of 20
    config = dataclasses.replace(CONFIG, kl=0.0, entropy=0.0)
    _, measured, grad = ours(x, worth, CISPO, config)
    assert measured.sums["clip_share"] == pytest.approx(1)
    np.testing.assert_allclose(grad[x["mask"]], -5 / x["mask"].sum(), rtol=1e-6)
    assert not ours(x, worth, GRPO, config)[2].any()
