"""A step of policy optimisation: rollouts, grades, confidence, rewards and advantages, and what is learnt of them."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.sharding import Mesh
from jaxtyping import Bool, Float, Int

from fr import distributed
from fr.config import Config
from fr.errors import UserError
from fr.metrics import Stages
from fr.models import Model, sharding
from fr.models.config import choose_dtype
from fr.models.dense import merge
from fr.models.transformer import Transformer
from fr.rewards import Mix
from fr.rewards.mix import Mixed, centred_by_group
from fr.sampling.devices import Devices
from fr.sampling.engine import Engine
from fr.tasks.task import Task
from fr.training.algorithms import ALGORITHMS, advantages, with_settings
from fr.training.confidence_curves import Trajectories
from fr.training.kept_rollouts import keep_rollouts
from fr.training.lora import split
from fr.training.policy_loss import PolicyBatch
from fr.training.policy_updates import Updates
from fr.training.reward_model import Judge
from fr.training.rl_metrics import (
    alarms,
    entropy_fit,
    held_out_metrics,
    rollout_metrics,
)
from fr.training.rollouts import Group, Sampler
from fr.training.trainer import Step
from fr.training.update import TrainState, init_state
from fr.types import Problem, RewardBatch


class Learner:
    """The parts of a step, made once: a step is a function of its index and of the state alone.

    Rollouts go to the folder `kept`, if there is one.
    """

    def __init__(
        self,
        config: Config,
        start: Model,
        task: Task,
        mix: Mix,
        devices: Devices,
        mesh: Mesh,
        kept: epath.Path | None = None,
    ):
        c = config.policy
        self.config, self._start, self._mix, self._mesh, self._kept = (
            config,
            start,
            mix,
            mesh,
            kept,
        )
        self._algorithm = with_settings(ALGORITHMS[config.algorithm], c)
        self._updates = Updates(config, start, self._algorithm, mesh)
        self._merge = jax.jit(functools.partial(merge, config=config.lora))
        problems = {
            "train": task.problems("train"),
            "validation": task.problems("validation", c.eval_problems)
            if c.eval_every
            else [],
        }
        self._held_out: list[Problem] = problems["validation"]
        if c.eval_every and not self._held_out:
            raise UserError(
                f"{config.task.name} has no validation problems to look at; set config.policy.eval_every = 0"
            )
        self._sampler = Sampler(
            config, task, start, _engine(config, start, devices), problems
        )
        self._judge = Judge(config, start, mesh) if mix.judged else None
        self._drawing = None  # what tells the parameters that the engine has

    def state(self) -> TrainState:
        """The state before the first update; without adapters it is made of the start's own parameters."""
        model, c = self._start, self.config
        trained, _ = split(model.config, model.params, c.lora, c.seed)
        state, extra = init_state(trained, c.policy), {}
        copy = lambda: jax.tree.map(jnp.copy, trained)
        if c.policy.reference_every:
            extra["reference"] = copy()
        if c.policy.lag:
            extra["older"] = copy()
        if c.policy.entropy_target:
            extra["entropy"] = jnp.float32(c.policy.entropy)
        if c.policy.order == "permuted":
            extra["cursor"] = jnp.int32(0)
        return sharding.place(state.replace(extra=extra or None), self._mesh)

    def merged(self, trained: dict) -> dict:
        """All parameters of a model, from what was trained of it."""
        return (
            self._merge(self._start.params, trained)
            if self.config.lora.rank
            else trained
        )

    def advance(self, index: int, state: TrainState, past: Sequence[dict]) -> Step:
        """One step: `policy.prompts` groups of rollouts are drawn and learnt from."""
        c, step, stages = self.config.policy, index + 1, Stages()
        older = state.extra["older"] if c.lag else state.params
        self._bring(
            older, (max(index - 1, 0), "older") if c.lag else int(state.step), stages
        )
        varied = (
            functools.partial(self._varied, step) if self._algorithm.resample else None
        )
        cursor = int(state.extra["cursor"]) if c.order == "permuted" else None
        drawn = self._sampler.draw(step, self._mix.sets, stages, varied, cursor)
        if cursor is not None:
            state = _with_extra(state, "cursor", np.int32(drawn.cursor))
        with stages.time("rewards"):
            batch, mixed, lines = self._rewards(drawn.groups, drawn.confidence, step)
            worth = self._advantages(batch, mixed)
        state, weight = self._entropy_weight(state, batch)
        rows = self._rows(batch, lines, worth, drawn.spare, weight)
        if self._kept and step % c.rollouts_every == 0 and distributed.is_first():
            with stages.time("keeping"):
                keep_rollouts(
                    self._kept, self.config, self._start, drawn, batch, mixed, rows
                )
        if self._updates.refers:
            with stages.time("reference"):
                rows = rows.replace(ref_logp=self._updates.reference(rows, state))
        before = jax.tree.map(jnp.copy, state.params) if c.lag else None
        with stages.time("old log-probs"):
            rows = self._updates.with_old(state, rows, step)
        with stages.time("update"):
            state, learnt = self._updates.learn(state, rows, step)
        state = self._refreshed(state, step, before)
        values = (
            learnt | mixed.metrics | rollout_metrics(batch, drawn.cost, self.config)
        )
        if self._algorithm.resample:
            values["groups/spare"] = drawn.spare / c.prompts
        if c.entropy_target:
            values["entropy_weight"] = weight
        values |= entropy_fit(past, values)
        return Step(state, values, stages.seconds, alarms(past, values, c))

    def measure(self, state: TrainState) -> dict[str, float]:
        """Accuracy on held-out problems; their keys are always the same, so that only parameters tell looks apart."""
        c, stages = self.config.policy, Stages()
        self._bring(state.params, int(state.step), stages)
        names = ["held out"] * len(self._held_out)
        asked = (self._held_out, c.eval_rollouts, c.eval_temperature, names)
        groups, _ = self._sampler.ask(*asked, sets=(), stages=stages)
        return held_out_metrics(groups)

    def _bring(self, trained: dict, name, stages: Stages) -> None:
        """Give the sampler parameters, unless it has those of that name."""
        if name != self._drawing:
            with stages.time("transfer"):
                self._sampler.engine.update(self.merged(trained))
            self._drawing = name

    def _rewards(
        self, groups: Sequence[Group], found: Trajectories, step: int
    ) -> tuple[RewardBatch, Mixed, tuple[Int[np.ndarray, "B T"], Int[np.ndarray, "B"]]]:
        """What rewards read of some groups, what they make of it, and the groups' lines."""
        lines = self._sampler.lines(groups)
        judged = None
        if self._judge:
            judged = self._judge.read(
                self._sampler.lines(groups, cut=self._judge.cuts)[0]
            )
        batch = self._sampler.batch(groups, found, step, judged)
        return batch, self._mix.read(batch), lines

    def _varied(
        self, step: int, groups: Sequence[Group], found: Trajectories
    ) -> Bool[np.ndarray, "N"]:
        """Groups whose rows differ by the mix: the others have an advantage of 0."""
        return self._rewards(groups, found, step)[1].varies

    def _advantages(self, batch: RewardBatch, mixed: Mixed) -> Float[np.ndarray, "B W"]:
        """Those of the reward, and what terms add to them."""
        added = mixed.advantage
        if self.config.policy.center_terms == "group":
            added = centred_by_group(added, batch.mask, batch.group)
        return advantages(mixed.reward, batch.group, self._algorithm)[:, None] + added

    def _rows(
        self,
        batch: RewardBatch,
        lines: tuple[Int[np.ndarray, "B T"], Int[np.ndarray, "B"]],
        worth: Float[np.ndarray, "B W"],
        spare: int,
        entropy: float,
    ) -> PolicyBatch:
        """What the update reads: the lines of a step and their advantages; `spare` groups are masked out."""
        c = self.config.policy
        drawn = batch.stats["logp"] if c.ratio_distribution == "raw" else batch.sample_logp
        learnt = np.arange(len(batch.mask)) < (c.prompts - spare) * batch.group
        if c.mask_truncated:
            learnt &= ~batch.truncated
        mask = batch.mask & learnt[:, None]
        return PolicyBatch(
            *lines,
            mask,
            drawn,
            np.where(mask, worth, 0.0),
            drawn_logp=drawn if self._updates.recomputes else None,
            fresh=np.zeros(len(mask), bool) if self._updates.recomputes else None,
            entropy=np.full(len(mask), entropy, np.float32)
            if c.entropy_target
            else None,
        )

    def _entropy_weight(
        self, state: TrainState, batch: RewardBatch
    ) -> tuple[TrainState, float]:
        """The weight of the entropy bonus in this step: fixed, or grown while entropy is below its target.

        c' = c + `entropy_step` if the rollouts' entropy is below the target, else c - `entropy_step`, at least 0;
        the weight is c' below the target and 0 above it (arXiv 2505.22312).
        """
        c = self.config.policy
        if not c.entropy_target:
            return state, c.entropy
        low = float(batch.stats["entropy"][batch.mask].mean()) < c.entropy_target
        weight = max(
            0.0,
            float(state.extra["entropy"])
            + (c.entropy_step if low else -c.entropy_step),
        )
        return _with_extra(state, "entropy", np.float32(weight)), weight if low else 0.0

    def _refreshed(
        self, state: TrainState, step: int, before: dict | None
    ) -> TrainState:
        """The state with the parameters before this step, and every so many steps with a newer reference."""
        c, extra = self.config.policy, dict(state.extra or {})
        if before is not None:
            extra["older"] = before
        if c.reference_every and step % c.reference_every == 0:
            mix = lambda old, new: old + c.reference_mix * (new - old)
            extra["reference"] = jax.tree.map(mix, extra["reference"], state.params)
        return state.replace(extra=extra or None)


def _with_extra(state: TrainState, name: str, value: np.ndarray) -> TrainState:
    """The state with another value, where the one before it lies."""
    place = state.extra[name].sharding
    return state.replace(extra=state.extra | {name: sharding.put(value, place)})


def _engine(config: Config, model: Model, devices: Devices) -> Engine:
    """The sampler, in the type that suits the devices."""
    c, dtype = config.sampling, choose_dtype()
    params = jax.tree.map(lambda x: x.astype(dtype), model.params)
    shape = {"slots": c.slots, "chunk": c.chunk, "prefill": c.prefill}
    return Engine(
        Transformer(model.config, dtype),
        params,
        **shape,
        tau=config.diagnosis.tau,
        devices=devices,
    )
