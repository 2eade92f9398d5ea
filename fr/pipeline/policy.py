"""Policy optimisation: rollouts, grades, confidence, rewards, advantages and updates, step by step."""

import dataclasses
import functools
import random
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.sharding import Mesh
from jaxtyping import Float, Int

from fr import processes, programs, tasks
from fr.config import Config, LoraConfig
from fr.errors import UserError
from fr.metrics import Stages
from fr.models import Model, load, save, sharding
from fr.models.adapters import merge
from fr.models.orbax_io import save_outline
from fr.models.precision import choose_dtype
from fr.models.transformer import Transformer
from fr.pipeline.inputs import begin_training
from fr.pipeline.judge import Judge
from fr.pipeline.rollouts import Sampler
from fr.pipeline.run import check_chat
from fr.pipeline.step_metrics import alarms, entropy_fit, held_out_metrics, rollout_metrics
from fr.rewards import Mix
from fr.sampling.devices import Devices
from fr.sampling.engine import Engine
from fr.tasks.base import Task
from fr.tasks.formats import format_of
from fr.training.algorithms import ALGORITHMS, advantages
from fr.training.lora import master_type, split
from fr.training.microbatches import by_need, in_order, widths
from fr.training.policy import PolicyBatch, check_policy, make_logps, make_update, shared_rows
from fr.training.state import TrainState, init_state, place_batch, training_mesh
from fr.training.trainer import Exam, Step, fit
from fr.types import Problem, RewardBatch
from fr.workdir import PathLike


def train_policy(config: Config, workdir: PathLike, ancestor: str, folder: PathLike) -> None:
    """Train the model `ancestor` by `config.algorithm` on `config.rewards`; `folder` holds what `fit` leaves.

    In the end also the model. Raises UserError, before anything is written, for settings that do not fit together.
    """
    programs.keep()
    task = tasks.make(config.task)
    switches = config.rewards.switch_words or format_of(config.task.name).switches
    mix = Mix(dataclasses.replace(config.rewards, switch_words=switches))
    devices = Devices(config.sampling.devices, model=config.sampling.model_axis)
    mesh = training_mesh(config.policy.model_axis, devices.everywhere)
    check_policy(config.policy, mesh)
    start = load(ancestor, dtype=master_type(config.policy.dtype, config.lora), mesh=mesh)
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
    save(folder, start.config, learner.merged(state), start.tokenizer, start.stop_tokens)


class Learner:
    """The parts of a step, made once: a step is a function of its index and of the state alone."""

    def __init__(self, config: Config, start: Model, task: Task, mix: Mix, devices: Devices, mesh: Mesh):
        c = config.policy
        self.config, self._start, self._mix, self._mesh = config, start, mix, mesh
        self._algorithm = ALGORITHMS[config.algorithm]
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
        self._drawing = -1  # updates behind the parameters that the engine has
        self._ancestor = None
        if c.kl:
            # A copy: the state's buffers are used again. Adapters have their ancestor beside them.
            dtype = choose_dtype(c.dtype or None)
            copy = lambda x: jnp.copy(x).astype(dtype)
            self._ancestor = start.params if config.lora.rank else jax.tree.map(copy, start.params)
            self._logps = make_logps(start.config, c, LoraConfig(), mesh)

    def state(self) -> TrainState:
        """The state before the first update; without adapters it is made of the start's own parameters."""
        model, c = self._start, self.config
        trained, _ = split(model.config, model.params, c.lora, c.seed)
        return sharding.place(init_state(trained, self.config.policy), self._mesh)

    def merged(self, state: TrainState) -> dict:
        """All parameters of a state's model."""
        return self._merge(self._start.params, state.params) if self.config.lora.rank else state.params

    def advance(self, index: int, state: TrainState, past: Sequence[dict]) -> Step:
        """One step: `policy.prompts` groups of rollouts are drawn and learnt from."""
        step, stages = index + 1, Stages()
        self._bring(state, stages)
        groups, found, cost = self._sampler.draw(step, self._algorithm.resample, self._mix.sets, stages)
        with stages.time("rewards"):
            tokens, begin = self._sampler.lines(groups)
            judged = self._judge.read(tokens) if self._judge else None
            batch = self._sampler.batch(groups, found, step, judged)
            mixed = self._mix.read(batch)
            worth = advantages(mixed.reward, batch.group, self._algorithm)[:, None] + mixed.advantage
        rows = self._rows(batch, tokens, begin, worth, stages)
        with stages.time("update"):
            state, learnt = self._learn(state, rows, step)
        values = learnt | mixed.metrics | rollout_metrics(batch, cost, self.config)
        values |= entropy_fit(past, values)
        return Step(state, values, stages.seconds, alarms(past, values, self.config.policy))

    def measure(self, state: TrainState) -> dict[str, float]:
        """Accuracy on held-out problems; their keys are always the same, so that only parameters tell looks apart."""
        c, stages = self.config.policy, Stages()
        self._bring(state, stages)
        asked = (self._held_out, c.eval_rollouts, c.eval_temperature, "held out")
        groups, _ = self._sampler.ask(*asked, sets=(), stages=stages)
        return held_out_metrics(groups)

    def _bring(self, state: TrainState, stages: Stages) -> None:
        """Give the sampler the parameters of a state, unless it has them."""
        updates = int(state.step)
        if updates != self._drawing:
            with stages.time("transfer"):
                self._sampler.engine.update(self.merged(state))
            self._drawing = updates

    def _rows(
        self,
        batch: RewardBatch,
        tokens: Int[np.ndarray, "B T"],
        start: Int[np.ndarray, "B"],
        worth: Float[np.ndarray, "B W"],
        stages: Stages,
    ) -> PolicyBatch:
        """What the update reads: the lines of a step, and what they are worth."""
        raw = self.config.policy.ratio_logp == "raw"
        old = batch.stats["logp"] if raw else batch.sample_logp
        rows = PolicyBatch(tokens, start, batch.mask, old, np.where(batch.mask, worth, 0.0))
        if self._ancestor is not None:
            with stages.time("reference"):
                rows = rows.replace(ref_logp=self._reference(rows))
        return rows

    def _reference(self, rows: PolicyBatch) -> Float[np.ndarray, "B W"]:
        """Log-probs under the ancestor, as many rows at a time as an update takes, like with like in length."""
        c, need, some = self.config.policy, rows.needs(), []
        size = c.microbatch or len(need) // c.minibatches
        for part in in_order(need, shared_rows(c)).reshape(-1, size):
            columns = next(width for width in widths(rows.width, c.widths) if width >= need[part].max())
            narrow = jax.tree.map(lambda x: x[part], rows).narrow(columns)
            placed = place_batch((narrow.tokens, narrow.start), self._mesh)
            some.append((part, self._logps(self._ancestor, *placed, columns)))
        out = np.zeros(rows.mask.shape, np.float32)
        for part, logp in some:
            out[part, : logp.shape[1]] = sharding.on_host(logp)
        return out

    def _learn(self, state: TrainState, rows: PolicyBatch, step: int) -> tuple[TrainState, dict[str, float]]:
        """All updates of a step. Metrics are means over them, but peaks; `logp_gap` is of the first one alone.

        Before any update it is the largest difference between a log-prob in the sampler's loop and the same scored
        again.
        """
        frozen, seen = self._start.params if self.config.lora.rank else None, []
        for part in self._minibatches(rows, step):
            state, metrics = self._update(state, place_batch(part, self._mesh), frozen)
            seen.append(metrics)
        seen = jax.device_get(seen)
        values = {name: float(np.mean([metrics[name] for metrics in seen])) for name in seen[0]}
        values["ratio_max"] = float(max(metrics["ratio_max"] for metrics in seen))
        return state, values | {"logp_gap": float(seen[0]["logp_gap"])}

    def _minibatches(self, rows: PolicyBatch, step: int) -> Iterator[PolicyBatch]:
        c, need = self.config.policy, rows.needs()
        unit = shared_rows(c)
        units = np.arange(len(need)).reshape(-1, unit)
        for epoch in range(c.updates):
            chance = random.Random(f"{self.config.seed}/minibatches/{step}/{epoch}")
            order = units[chance.sample(range(len(units)), len(units))]
            for part in np.split(order.reshape(-1), c.minibatches):
                part = part[by_need(need[part], c.microbatch, self._mesh, unit)]
                yield jax.tree.map(lambda x: x[part], rows)


def _engine(config: Config, model: Model, devices: Devices) -> Engine:
    """The sampler, in the type that suits the devices."""
    c, dtype = config.sampling, choose_dtype()
    params = jax.tree.map(lambda x: x.astype(dtype), model.params)
    shape = {"slots": c.slots, "chunk": c.chunk, "prefill": c.prefill}
    return Engine(
        Transformer(model.config, dtype), params, **shape, tau=config.diagnosis.tau, devices=devices
    )
