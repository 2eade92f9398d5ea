"""One update of a policy by `fr` and by TRL: equality on one batch, and times."""

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.machine import cores
from benchmarks.parts import PARTS, Bench, Figure, Part
from benchmarks.systems import DRIVERS, Command, System, SystemFailed
from benchmarks.timing import Times, clocked, in_turn
from fr.config import LoraConfig, PolicyConfig
from fr.config.algorithms import GRPO
from fr.models import Model, save, sharding
from fr.training.checks import check_policy
from fr.training.microbatches import place_batch, sort_by_length, training_mesh
from fr.training.policy_loss import PolicyBatch
from fr.training.policy_update import make_logps, make_update, shared_rows
from fr.training.update import init_state

# updates that must agree before anything is timed: the second one is made by the first
STEPS = 2
CLOSE = 1e-3  # relative difference of two losses or norms that are called the same


@PARTS.register("update")
def update_part(bench: Bench) -> Part:
    """A GRPO update of all parameters with AdamW, against TRL's.

    Rows are of unequal and of equal length. Each side takes some rows at a time: `fr`
    as many as the settings say, TRL as many as it is fastest with.

    Raises:
        SystemFailed: if the two updates differ.
    """
    # Drawn tokens surprise a model: at a usual rate its loss would leap, and rounding
    # with it.
    policy = dataclasses.replace(
        bench.policy, learning_rate=1e-5, schedule="constant", warmup_steps=0
    )
    found, figures = {}, []
    with tempfile.TemporaryDirectory() as folder, _trl(bench, policy, folder) as trl:
        for name, least in (("unequal", 8), ("equal", policy.max_new_tokens)):
            batch = rollouts(bench.model, bench.prompts[0], policy, least)
            record = {
                "rows": len(batch.start),
                "tokens": int(batch.mask.sum()),
                "width": batch.width,
            }
            seconds, more = _compare(
                bench, policy, batch, trl, Path(folder) / f"{name}.npz"
            )
            found[name] = (
                record
                | {side: times.record() for side, times in seconds.items()}
                | more
            )
            if trl:
                ratio = seconds["trl"].median / seconds["fr"].median
                figures.append(
                    Figure(
                        f"TRL's update over ours, {name} rows",
                        ratio,
                        1.0,
                        True,
                        unit=" x",
                    )
                )
    return Part(found, tuple(figures))


def rollouts(
    model: Model, prompt: list[int], policy: PolicyConfig, least: int
) -> PolicyBatch:
    """Make a batch with random completions, slightly off policy.

    Args:
        model: the policy.
        prompt: ids of the prompt of every row.
        policy: settings of the update, with the number of rows and tokens.
        least: least number of drawn tokens per row; most is `policy.max_new_tokens`.

    Returns:
        The batch.
    """
    draw, count, width = (
        np.random.default_rng(0),
        policy.prompts * policy.rollouts,
        policy.max_new_tokens,
    )
    length = draw.integers(min(least, width), width + 1, count)
    tokens = np.full((count, len(prompt) + width), -1, np.int32)
    tokens[:, : len(prompt)] = prompt
    drawn = draw.integers(model.config.vocab, size=(count, width))
    mask = np.arange(width) < length[:, None]
    tokens[:, len(prompt) :] = np.where(mask, drawn, -1)
    start = np.full(count, len(prompt), np.int32)
    logps = make_logps(
        model.config, policy, LoraConfig(), training_mesh(devices=jax.devices()[:1])
    )
    size = policy.microbatch or count
    now = np.concatenate(
        [
            logps(model.params, tokens[i : i + size], start[i : i + size], width)
            for i in range(0, count, size)
        ]
    )
    # Ratios on both sides of both clips.
    old = np.where(mask, now + 0.15 * draw.standard_normal(now.shape), 0.0)
    worth = np.where(mask, draw.standard_normal((count, 1)), 0.0)
    return PolicyBatch(
        tokens, start, mask, old.astype(np.float32), worth.astype(np.float32)
    )


@contextlib.contextmanager
def _trl(bench: Bench, policy: PolicyConfig, folder: str) -> Iterator[System | None]:
    """TRL on the model, in its own process; None without its interpreter."""
    if bench.trl is None:
        yield None
        return
    model = bench.model
    save(folder, model.config, model.params, model.tokenizer, model.stop_tokens)
    settings = {
        "folder": folder,
        "threads": cores(),
        "policy": dataclasses.asdict(policy),
    }
    system = System(Command("trl", bench.trl, DRIVERS / "trl_peer.py"), settings)
    try:
        yield system
    finally:
        system.stop()


def _compare(
    bench: Bench,
    policy: PolicyConfig,
    batch: PolicyBatch,
    trl: System | None,
    path: Path,
) -> tuple[dict[str, Times], dict]:
    """Seconds of each side, and relative differences of losses and gradient norms."""
    ours = learner(bench.model, policy, batch)
    mine = [ours() for _ in range(STEPS)]
    if trl is None:
        return in_turn({"fr": clocked(ours)}, bench.repeats), {}
    np.savez(
        path,
        **{name: value for name, value in vars(batch).items() if value is not None},
    )
    theirs = [trl.ask({"batch": str(path)} if i == 0 else {}) for i in range(STEPS)]
    apart = {
        name: max(abs(a[name] / b[name] - 1) for a, b in zip(mine, theirs))
        for name in ("loss", "grad_norm")
    }
    if max(apart.values()) > CLOSE:
        raise SystemFailed(f"TRL makes another update than {mine}: {theirs}")
    parts = trl.ask({"seek": True})["microbatch"]
    seconds = in_turn(
        {"fr": clocked(ours), "trl": lambda: trl.ask({})["seconds"]}, bench.repeats
    )
    return seconds, {"apart": apart, "trl_microbatch": parts, "about": trl.about}


def learner(
    model: Model, policy: PolicyConfig, batch: PolicyBatch
) -> Callable[[], dict[str, float]]:
    """Make a job that updates its own copy of a model, on all devices.

    Args:
        model: the start.
        policy: settings of the update.
        batch: the batch of every update.

    Returns:
        A function that makes the next update and returns its loss and gradient norm.
    """
    mesh = training_mesh()
    check_policy(policy, mesh)
    update = make_update(model.config, GRPO, policy, LoraConfig(), mesh)
    params = jax.tree.map(lambda x: jnp.array(x, jnp.float32), model.params)
    state = sharding.shard_tree(init_state(params, policy), mesh)

    def job() -> dict[str, float]:
        nonlocal state
        order = sort_by_length(
            batch.columns_used(), policy.microbatch, mesh, shared_rows(policy)
        )
        rows = place_batch(jax.tree.map(lambda x: x[order], batch), mesh)
        state, metrics = update(state, rows)
        jax.block_until_ready(state)
        return {name: float(metrics[name]) for name in ("loss", "grad_norm")}

    return job
