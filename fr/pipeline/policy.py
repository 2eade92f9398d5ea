"""Policy optimisation: rollouts, grades, confidence, rewards, advantages and updates, step by step."""

import dataclasses
import functools
import random
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.sharding import Mesh
from jaxtyping import Bool, Float, Int

from fr import processes, programs, tasks
from fr.config import Config, LoraConfig, check_rollouts
from fr.errors import UserError
from fr.metrics import Stages
from fr.models import Model, load, save, sharding
from fr.models.adapters import merge
from fr.models.orbax_io import save_outline
from fr.models.precision import choose_dtype
from fr.models.transformer import Transformer
from fr.pipeline.fit import with_template
from fr.pipeline.inputs import begin_training
from fr.pipeline.judge import Judge
from fr.pipeline.rollouts import Group, Sampler
from fr.pipeline.run import check_chat
from fr.pipeline.step_metrics import alarms, entropy_fit, gap_percentile, held_out_metrics, rollout_metrics
from fr.pipeline.trajectories import Trajectories
from fr.rewards import Mix
from fr.rewards.groups import centred_by_group
from fr.rewards.mix import Mixed
from fr.sampling.devices import Devices
from fr.sampling.engine import Engine
from fr.tasks.base import Task
from fr.tasks.formats import format_of
from fr.training.algorithms import ALGORITHMS, advantages, with_settings
from fr.training.lora import master_type, split
from fr.training.microbatches import by_need, in_order, widths
from fr.training.policy import (
    PolicyBatch,
    check_policy,
    make_logps,
    make_update,
    recomputes,
    shared_rows,
)
from fr.training.state import TrainState, init_state, place_batch, training_mesh
from fr.training.trainer import Exam, Step, fit
from fr.types import Problem, RewardBatch
from fr.workdir import PathLike


def train_policy(config: Config, workdir: PathLike, ancestor: str, folder: PathLike) -> None:
    """Train the model `ancestor` by `config.algorithm` on `config.rewards`; `folder` holds what `fit` leaves.

    In the end also the model. Raises UserError, before anything is written, for settings that do not fit together.
    """
    check_rollouts(config)
    programs.keep()
    task = tasks.make(config.task)
    switches = config.rewards.switch_words or format_of(config.task.name).switches
    mix = Mix(dataclasses.replace(config.rewards, switch_words=switches))
    check_terms(config, mix)
    devices = Devices(config.sampling.devices, model=config.sampling.model_axis)
    mesh = training_mesh(config.policy.model_axis, devices.everywhere)
    check_policy(config.policy, mesh)
    start = load(ancestor, dtype=master_type(config.policy.dtype, config.lora), mesh=mesh)
    start = with_template(start, config)
    if start.tokenizer is None or not start.stop_tokens:
        raise UserError(f"{ancestor} has no tokenizer or no stop token, so it cannot be asked problems")
    check_chat(config, start, task.prompt(task.problems("train", 1)[0]))
    learner = Learner(config, start, task, mix, devices, mesh)
    state = learner.state()
    if processes.is_first():
        begin_training(workdir, epath.Path(folder).name, config, ancestor, start)
    processes.wait("policy")
    save_outline(folder, start, ancestor, config.lora)
    if processes.is_first():
        programs.compile_log().write_to(epath.Path(folder) / "compilations.jsonl")
    exam = Exam(config.policy.eval_every, learner.measure, "held_out/accuracy")
    state = fit(state, learner.advance, config.policy, folder, exam if exam.every else None)
    save(folder, start.config, learner.merged(state.params), start.tokenizer, start.stop_tokens)


def check_terms(config: Config, mix: Mix) -> None:
    """Raise UserError for terms in the advantage that would pay for length without a word from the user."""
    mean = with_settings(ALGORITHMS[config.algorithm], config.policy).mean
    if mix.uncentred and mean == "sequence" and not config.policy.center_terms:
        raise UserError(
            f"reward term {mix.uncentred[0]!r} is added to advantages uncentred, and {config.algorithm} takes the "
            "mean of each row's tokens: whatever the term pays on average then pays for short or long rows; set "
            "config.policy.center_terms = 'group' (less the group's mean), or config.policy.mean = 'token', or "
            "center_terms = 'none' to keep it so"
        )


class Learner:
    """The parts of a step, made once: a step is a function of its index and of the state alone."""

    def __init__(self, config: Config, start: Model, task: Task, mix: Mix, devices: Devices, mesh: Mesh):
        c = config.policy
        self.config, self._start, self._mix, self._mesh = config, start, mix, mesh
        self._algorithm = with_settings(ALGORITHMS[config.algorithm], c)
        self._update = make_update(start.config, self._algorithm, c, config.lora, mesh)
        self._merge = jax.jit(functools.partial(merge, config=config.lora))
        problems = {
            "train": task.problems("train"),
            "validation": task.problems("validation", c.eval_problems) if c.eval_every else [],
        }
        self._held_out: list[Problem] = problems["validation"]
        if c.eval_every and not self._held_out:
            raise UserError(
                f"{config.task.name} has no validation problems to look at; set config.policy.eval_every = 0"
            )
        self._sampler = Sampler(config, task, start, _engine(config, start, devices), problems)
        self._judge = Judge(config, start, mesh) if mix.judged else None
        self._drawing = None  # what tells the parameters that the engine has
        self._frozen = start.params if config.lora.rank else None
        self._recomputes = recomputes(c)
        self._logps = make_logps(start.config, c, config.lora, mesh)
        self._ancestor = None
        if c.kl:
            # A copy: the state's buffers are used again. Adapters have their ancestor beside them.
            dtype = choose_dtype(c.dtype or None)
            copy = lambda x: jnp.copy(x).astype(dtype)
            self._ancestor = start.params if config.lora.rank else jax.tree.map(copy, start.params)
            self._ancestor_logps = make_logps(start.config, c, LoraConfig(), mesh)

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
        return sharding.place(state.replace(extra=extra or None), self._mesh)

    def merged(self, trained: dict) -> dict:
        """All parameters of a model, from what was trained of it."""
        return self._merge(self._start.params, trained) if self.config.lora.rank else trained

    def advance(self, index: int, state: TrainState, past: Sequence[dict]) -> Step:
        """One step: `policy.prompts` groups of rollouts are drawn and learnt from."""
        c, step, stages = self.config.policy, index + 1, Stages()
        older = state.extra["older"] if c.lag else state.params
        self._bring(older, (max(index - 1, 0), "older") if c.lag else int(state.step), stages)
        varied = functools.partial(self._varied, step) if self._algorithm.resample else None
        drawn = self._sampler.draw(step, self._mix.sets, stages, varied)
        with stages.time("rewards"):
            batch, mixed, lines = self._rewards(drawn.groups, drawn.confidence, step)
            worth = self._advantages(batch, mixed)
        state, weight = self._entropy_weight(state, batch)
        rows = self._rows(batch, lines, worth, drawn.spare, weight)
        if self._ancestor is not None:
            with stages.time("reference"):
                rows = rows.replace(ref_logp=self._reference(rows, state))
        before = jax.tree.map(jnp.copy, state.params) if c.lag else None
        with stages.time("old log-probs"):
            rows = self._with_old(state, rows, step)
        with stages.time("update"):
            state, learnt = self._learn(state, rows, step)
        state = self._refreshed(state, step, before)
        values = learnt | mixed.metrics | rollout_metrics(batch, drawn.cost, self.config)
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
        asked = (self._held_out, c.eval_rollouts, c.eval_temperature, "held out")
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
            judged = self._judge.read(self._sampler.lines(groups, cut=self._judge.cuts)[0])
        batch = self._sampler.batch(groups, found, step, judged)
        return batch, self._mix.read(batch), lines

    def _varied(self, step: int, groups: Sequence[Group], found: Trajectories) -> Bool[np.ndarray, "N"]:
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
        drawn = batch.stats["logp"] if c.ratio_logp == "raw" else batch.sample_logp
        learnt = np.arange(len(batch.mask)) < (c.prompts - spare) * batch.group
        if c.mask_truncated:
            learnt &= ~batch.truncated
        mask = batch.mask & learnt[:, None]
        return PolicyBatch(
            *lines,
            mask,
            drawn,
            np.where(mask, worth, 0.0),
            drawn_logp=drawn if self._recomputes else None,
            fresh=np.zeros(len(mask), bool) if self._recomputes else None,
            entropy=np.full(len(mask), entropy, np.float32) if c.entropy_target else None,
        )

    def _entropy_weight(self, state: TrainState, batch: RewardBatch) -> tuple[TrainState, float]:
        """The weight of the entropy bonus in this step: fixed, or grown while entropy is below its target.

        c' = c + `entropy_step` if the rollouts' entropy is below the target, else c - `entropy_step`, at least 0;
        the weight is c' below the target and 0 above it (arXiv 2505.22312).
        """
        c = self.config.policy
        if not c.entropy_target:
            return state, c.entropy
        low = float(batch.stats["entropy"][batch.mask].mean()) < c.entropy_target
        weight = max(0.0, float(state.extra["entropy"]) + (c.entropy_step if low else -c.entropy_step))
        place = state.extra["entropy"].sharding
        extra = state.extra | {"entropy": sharding.put(np.float32(weight), place)}
        return state.replace(extra=extra), weight if low else 0.0

    def _refreshed(self, state: TrainState, step: int, before: dict | None) -> TrainState:
        """The state with the parameters before this step, and every so many steps with a newer reference."""
        c, extra = self.config.policy, dict(state.extra or {})
        if before is not None:
            extra["older"] = before
        if c.reference_every and step % c.reference_every == 0:
            mix = lambda old, new: old + c.reference_mix * (new - old)
            extra["reference"] = jax.tree.map(mix, extra["reference"], state.params)
        return state.replace(extra=extra or None)

    def _reference(self, rows: PolicyBatch, state: TrainState) -> Float[np.ndarray, "B W"]:
        """Log-probs under the reference: the ancestor, or what a refresh made of it."""
        order = in_order(rows.needs(), shared_rows(self.config.policy))
        if self.config.policy.reference_every:
            read = functools.partial(self._logps, state.extra["reference"])
            return self._scored(rows, order, read, self._frozen)
        return self._scored(rows, order, functools.partial(self._ancestor_logps, self._ancestor))

    def _scored(
        self, rows: PolicyBatch, order: Int[np.ndarray, "R"], read: Callable, frozen: dict | None = None
    ) -> Float[np.ndarray, "B W"]:
        """Log-probs of the rows in `order` (0 of others), as many rows at a time as an update takes."""
        c, need, some = self.config.policy, rows.needs(), []
        size = c.microbatch or len(need) // c.minibatches
        for part in order.reshape(-1, size):
            columns = next(width for width in widths(rows.width, c.widths) if width >= need[part].max())
            tokens, start = rows.tokens[part], rows.start[part]
            tokens = tokens[:, : tokens.shape[1] - rows.width + columns]
            some.append((part, read(*place_batch((tokens, start), self._mesh), columns, frozen)))
        out = np.zeros(rows.mask.shape, np.float32)
        for part, logp in some:
            out[part, : logp.shape[1]] = sharding.on_host(logp)
        return out

    def _with_old(self, state: TrainState, rows: PolicyBatch, step: int) -> PolicyBatch:
        """The rows with old log-probs of the trainer's own, for all updates but the first, which needs none."""
        c, parts = self.config.policy, self._minibatches(rows, step)
        if not self._recomputes or len(parts) == 1:
            return rows
        # Passes after the first come back to the rows of the first minibatch.
        later = np.concatenate(parts[1:] if c.updates == 1 else parts[: c.minibatches])
        old = self._scored(rows, later, functools.partial(self._logps, state.params), self._frozen)
        known = np.isin(np.arange(len(old)), later)[:, None]
        return rows.replace(old_logp=np.where(known, old, rows.old_logp))

    def _learn(self, state: TrainState, rows: PolicyBatch, step: int) -> tuple[TrainState, dict[str, float]]:
        """All updates of a step. Metrics are means over them, but peaks.

        `logp_gap`, its mean and its 99th percentile are of the first one alone: before any update they tell how far
        the sampler's log-probs are from the trainer's. Where old log-probs are recomputed, those of the first update
        are its own: its ratio is 1 whatever the type of the computation.
        """
        c, seen = self.config.policy, []
        for number, part in enumerate(self._minibatches(rows, step)):
            some = jax.tree.map(lambda x: x[part], rows)
            if self._recomputes and number == 0:
                some = some.replace(fresh=np.ones(len(part), bool))
            state, metrics = self._update(state, place_batch(some, self._mesh), self._frozen)
            seen.append(metrics)
            if c.stop_kl and float(metrics["moved"]) > c.stop_kl:
                break
        seen = jax.device_get(seen)
        above = seen[0]["logp_gap_above"]
        values = {name: float(np.mean([metrics[name] for metrics in seen])) for name in seen[0]}
        values["ratio_max"] = float(max(metrics["ratio_max"] for metrics in seen))
        del values["logp_gap_above"]
        values |= {name: float(seen[0][name]) for name in ("logp_gap", "logp_gap_mean")}
        values["logp_gap_p99"] = gap_percentile(above, 0.99)
        if c.stop_kl:
            values["updates"] = len(seen)
        return state, values

    def _minibatches(self, rows: PolicyBatch, step: int) -> list[Int[np.ndarray, "R"]]:
        """Rows of every update of a step, pass by pass, in an order that suits microbatches."""
        c, need, parts = self.config.policy, rows.needs(), []
        unit = shared_rows(c)
        units = np.arange(len(need)).reshape(-1, unit)
        for epoch in range(c.updates):
            chance = random.Random(f"{self.config.seed}/minibatches/{step}/{epoch}")
            order = units[chance.sample(range(len(units)), len(units))]
            for part in np.split(order.reshape(-1), c.minibatches):
                parts.append(part[by_need(need[part], c.microbatch, self._mesh, unit)])
        return parts


def _engine(config: Config, model: Model, devices: Devices) -> Engine:
    """The sampler, in the type that suits the devices."""
    c, dtype = config.sampling, choose_dtype()
    params = jax.tree.map(lambda x: x.astype(dtype), model.params)
    shape = {"slots": c.slots, "chunk": c.chunk, "prefill": c.prefill}
    return Engine(
        Transformer(model.config, dtype), params, **shape, tau=config.diagnosis.tau, devices=devices
    )
