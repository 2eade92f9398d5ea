"""One step of policy optimisation: rollouts, rewards, advantages, updates."""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.sharding import Mesh
from jaxtyping import Float

from fr import distributed
from fr.config import Config
from fr.config.algorithms import ALGORITHMS, with_settings
from fr.metrics import Stages
from fr.models import Model, sharding
from fr.models.config import choose_dtype
from fr.models.dense import merge
from fr.models.transformer import Transformer
from fr.rewards import RewardMix
from fr.sampling.devices import Devices
from fr.sampling.engine import Engine
from fr.tasks.task import Task
from fr.training.advantages import RewardedRollouts, RewardReader
from fr.training.credit import CreditReader
from fr.training.gates import gate_of
from fr.training.lora import partition
from fr.training.policy_loss import PolicyBatch
from fr.training.policy_update import PolicyUpdater
from fr.training.rl_records import (
    alarms,
    entropy_fit,
    held_out_metrics,
    rollout_metrics,
    store_rollouts,
)
from fr.training.rollouts import Sampler
from fr.training.trainer import Step
from fr.training.update import TrainState, init_state
from fr.types import Problem, RewardBatch


class Learner:
    """Makes the steps of policy optimisation; its parts are made once per run.

    A step is a function of its index and of the state alone.

    Args:
        config: The whole configuration.
        start: The model that training starts from.
        task: Makes prompts and grades answers.
        problems: Problems by split, of `policy_problems`.
        mix: Reward terms.
        devices: Devices of the sampler.
        mesh: Devices of the updates, as (data, model).
        kept: Folder that rollouts are stored in; None: they are not.

    Raises:
        UserError: The longest prompt leaves no room for its completion.
    """

    def __init__(
        self,
        config: Config,
        start: Model,
        task: Task,
        problems: dict[str, list[Problem]],
        mix: RewardMix,
        devices: Devices,
        mesh: Mesh,
        kept: epath.Path | None = None,
    ):
        c = config.policy
        self.config, self._start, self._mix = config, start, mix
        self._mesh, self._kept = mesh, kept
        self._gate = gate_of(config)
        self._algorithm = with_settings(ALGORITHMS[config.algorithm], c)
        self._updater = PolicyUpdater(config, start, self._algorithm, mesh)
        self._merge = jax.jit(functools.partial(merge, config=config.lora))
        self._held_out = problems["validation"]
        engine = _engine(config, start, devices)
        self._sampler = Sampler(config, task, start, engine, problems)
        self._reader = RewardReader(
            config, start, mix, self._algorithm, self._sampler, mesh
        )
        self._credit = CreditReader(config, start, self._sampler) if c.credit else None
        self._loaded = None  # names the parameters that the engine holds

    def state(self) -> TrainState:
        """The state before the first update; it may share the start's buffers."""
        model, c = self._start, self.config
        trained, _ = partition(model.config, model.params, c.lora, c.seed)
        extra: dict = {}
        copy = lambda: jax.tree.map(jnp.copy, trained)
        if c.policy.reference_every:
            extra["reference"] = copy()
        if c.policy.lag:
            extra["older"] = copy()
        if c.policy.entropy_target:
            extra["entropy"] = jnp.float32(c.policy.entropy)
        if c.policy.order == "permuted":
            extra["cursor"] = jnp.int32(0)
        state = init_state(trained, c.policy)
        state = dataclasses.replace(state, extra=extra or None)
        return sharding.shard_tree(state, self._mesh)

    def merged(self, trained: dict) -> dict:
        """All parameters of the model.

        Args:
            trained: What is trained: all parameters, or adapters.

        Returns:
            Parameters with the adapters merged.
        """
        return (
            self._merge(self._start.params, trained)
            if self.config.lora.active
            else trained
        )

    def advance(self, index: int, state: TrainState, past: Sequence[dict]) -> Step:
        """One step: draw `policy.prompts` groups of rollouts and learn from them.

        Args:
            index: Steps made so far.
            state: The state before the step; its buffers may be reused.
            past: The lines of `metrics.jsonl` so far.

        Returns:
            The state after the step, its metrics, seconds by stage, and warnings.
        """
        c, step, stages = self.config.policy, index + 1, Stages()
        # With `lag` the parameters before the last step draw the rollouts.
        extra = state.extra or {}
        older = extra["older"] if c.lag else state.params
        name = (max(index - 1, 0), "older") if c.lag else int(state.step)
        self._load(older, name, stages)
        resample = self._algorithm.resample
        differ = functools.partial(self._reader.differ, step) if resample else None
        cursor = int(extra["cursor"]) if c.order == "permuted" else None
        drawn = self._sampler.draw(step, self._mix.sets, stages, differ, cursor)
        if cursor is not None:
            state = _with_extra(state, "cursor", np.int32(drawn.cursor))
        with stages.time("rewards"):
            rewarded = self._reader.read(drawn.groups, drawn.confidence, step)
            advantages = self._reader.advantages(rewarded)
            gated = self._gate(drawn.groups) if self._gate else None
            if gated:
                advantages = np.where(gated.open[:, None], advantages, 0.0)
        spread: dict[str, float] = {}
        cost = drawn.cost
        if self._credit:
            told = drawn.groups, advantages, step, stages
            advantages, more, spread = self._credit.spread(*told)
            cost += more
        batch = rewarded.batch
        state, weight = self._entropy_weight(state, batch)
        rows = self._rows(rewarded, advantages, drawn.spare, weight)
        if self._kept and step % c.rollouts_every == 0 and distributed.is_first():
            with stages.time("keeping"):
                store_rollouts(
                    self._kept, self.config, self._start, drawn, rewarded, rows
                )
        if self._updater.needs_reference:
            with stages.time("reference"):
                reference = self._updater.reference(rows, state)
                rows = dataclasses.replace(rows, ref_logp=reference)
        before = jax.tree.map(jnp.copy, state.params) if c.lag else None
        with stages.time("old log-probs"):
            rows = self._updater.with_old_logps(state, rows, step)
        with stages.time("update"):
            state, learnt = self._updater.learn(state, rows, step)
        state = self._refreshed(state, step, before)
        values = learnt | rewarded.mixed.metrics
        values |= rollout_metrics(batch, cost, self.config) | spread
        made = values.get("updates", c.epochs * c.minibatches) / c.minibatches
        read = (rows.tokens >= 0) & jnp.any(rows.mask, axis=1, keepdims=True)
        values["update_tokens"] = float(round(made * float(jnp.sum(read))))
        if gated:
            values |= gated.metrics
        if resample:
            values["groups/spare"] = drawn.spare / c.prompts
        if c.entropy_target:
            values["entropy_weight"] = weight
        values |= entropy_fit(past, values)
        return Step(state, values, stages.seconds, alarms(past, values, c))

    def measure(self, state: TrainState) -> dict[str, float]:
        """Accuracy on held-out problems.

        Keys of the rollouts are always the same, so that measurements differ by the
        parameters alone.

        Args:
            state: The state to measure.

        Returns:
            Metrics by name, see `held_out_metrics`.
        """
        c, stages = self.config.policy, Stages()
        self._load(state.params, int(state.step), stages)
        names = ["held out"] * len(self._held_out)
        asked = (self._held_out, c.eval_rollouts, c.eval_temperature, names)
        groups, _ = self._sampler.ask(*asked, sets=(), stages=stages)
        return held_out_metrics(groups)

    def _load(self, trained: dict, name, stages: Stages) -> None:
        """Give the sampler parameters, unless it already holds these, by their name."""
        if name != self._loaded:
            with stages.time("transfer"):
                self._sampler.engine.update(self.merged(trained))
            self._loaded = name

    def _rows(
        self,
        rewarded: RewardedRollouts,
        advantages: Float[np.ndarray, "B W"],
        spare: int,
        entropy: float,
    ) -> PolicyBatch:
        """The rows of the update; the last `spare` groups are masked out."""
        c, batch = self.config.policy, rewarded.batch
        raw = c.ratio_distribution == "raw"
        drawn = batch.stats["logp"] if raw else batch.sample_logp
        learnt = np.arange(len(batch.mask)) < (c.prompts - spare) * batch.group
        if c.mask_truncated:
            learnt &= ~batch.truncated
        mask = batch.mask & learnt[:, None]
        recomputes = self._updater.recomputes
        weights = np.full(len(mask), entropy, np.float32)
        return PolicyBatch(
            rewarded.tokens,
            rewarded.start,
            mask,
            drawn,
            np.where(mask, advantages, 0.0),
            drawn_logp=drawn if recomputes else None,
            fresh=np.zeros(len(mask), bool) if recomputes else None,
            entropy=weights if c.entropy_target else None,
        )

    def _entropy_weight(
        self, state: TrainState, batch: RewardBatch
    ) -> tuple[TrainState, float]:
        """The weight of the entropy bonus, fixed or adapted to a target (2505.22312).

        c' = max(0, c + `entropy_step`) if the rollouts' entropy is below the target,
        else c' = max(0, c - `entropy_step`). The weight is c' below the target and 0
        above it.
        """
        c = self.config.policy
        if not c.entropy_target:
            return state, c.entropy
        low = float(batch.stats["entropy"][batch.mask].mean()) < c.entropy_target
        weight = float((state.extra or {})["entropy"])
        weight = max(0.0, weight + (c.entropy_step if low else -c.entropy_step))
        return _with_extra(state, "entropy", np.float32(weight)), weight if low else 0.0

    def _refreshed(
        self, state: TrainState, step: int, before: dict | None
    ) -> TrainState:
        """The state with the parameters `before` the step and a newer reference."""
        c, extra = self.config.policy, dict(state.extra or {})
        if before is not None:
            extra["older"] = before
        if c.reference_every and step % c.reference_every == 0:
            mix = lambda old, new: old + c.reference_mix * (new - old)
            extra["reference"] = jax.tree.map(mix, extra["reference"], state.params)
        return dataclasses.replace(state, extra=extra or None)


def _with_extra(state: TrainState, name: str, value: np.generic) -> TrainState:
    """The state with another value, where the one before it lies."""
    extra = dict(state.extra or {})
    extra[name] = sharding.device_put_global(value, extra[name].sharding)
    return dataclasses.replace(state, extra=extra)


def _engine(config: Config, model: Model, devices: Devices) -> Engine:
    """The sampler, in the type that suits the devices."""
    c, dtype = config.sampling, choose_dtype()
    params = jax.tree.map(lambda x: x.astype(dtype), model.params)
    return Engine(
        Transformer(model.config, dtype),
        params,
        slots=c.slots,
        chunk=c.chunk,
        prefill=c.prefill,
        tau=config.diagnosis.tau,
        devices=devices,
    )
