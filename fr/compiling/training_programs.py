"""Programs of a training: updates and log-probs, from shapes alone."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from fr.compiling.abstract import (
    Program,
    Stage,
    array,
    by_path,
    by_rows,
    bytes_of,
    parameters,
    shapes_of,
)
from fr.compiling.sampler_programs import Asked, engine_programs
from fr.compiling.slices import Slice
from fr.config import (
    PREFERENCES,
    Config,
    LoraConfig,
    PolicyConfig,
    PreferenceConfig,
    TrainingConfig,
)
from fr.config.algorithms import ALGORITHMS, with_settings
from fr.models.config import ModelConfig, choose_dtype
from fr.training.checks import check_policy, reward_mix
from fr.training.data import PackedBatch
from fr.training.lora import init_adapters, master_dtype
from fr.training.microbatches import training_mesh
from fr.training.pairs import BUCKET as PAIR_BUCKET
from fr.training.policy_loss import PolicyBatch
from fr.training.policy_update import make_logps, make_update, recomputes
from fr.training.preference_loss import (
    PreferenceBatch,
    check_preference,
    make_preference_update,
    with_head,
)
from fr.training.rollouts import BUCKET
from fr.training.supervised import check_training, make_supervised_update
from fr.training.update import Settings, init_state


def training_stage(
    config: Config, model: ModelConfig, place: Slice, prompt: int
) -> Stage:
    """The programs of a training by `config.algorithm`.

    Args:
        config: The whole configuration.
        model: Shape of the model that training starts from.
        place: The slice.
        prompt: Tokens of the longest prompt.

    Returns:
        Its programs.
    """
    if config.algorithm == "sft":
        return supervised_stage(config, config.training, model, place)
    if config.algorithm in PREFERENCES:
        return _preference_stage(config, model, place, prompt)
    return _policy_stage(config, model, place, prompt)


def supervised_stage(
    config: Config, training: TrainingConfig, model: ModelConfig, place: Slice
) -> Stage:
    """The programs of supervised training.

    Args:
        config: The whole configuration.
        training: Settings of this training.
        model: Shape of the model.
        place: The slice.

    Returns:
        Its programs.
    """
    mesh = training_mesh(training.model_axis, list(place.devices))
    check_training(training, mesh)
    learner = _Learner(config, training, model, mesh)
    grid = lambda kind: array((training.batch, training.sequence), kind)
    number = grid(jnp.int32)
    batch = PackedBatch(number, number, number, grid(jnp.float32))
    update = make_supervised_update(learner.model, training, config.lora, mesh)
    shape = f"{training.batch} rows x {training.sequence} tokens"
    programs = [learner.update(update, batch, shape)]
    return Stage("supervised training", programs, learner.held)


def _policy_stage(
    config: Config, model: ModelConfig, place: Slice, prompt: int
) -> Stage:
    c = config.policy
    mesh = training_mesh(c.model_axis, list(place.devices))
    check_policy(c, mesh)
    learner = _Learner(config, c, model, mesh)
    algorithm = with_settings(ALGORITHMS[config.algorithm], c)
    rows = c.prompts * c.rollouts // c.minibatches
    bucket = lambda length: -(-length // BUCKET) * BUCKET
    width, length = bucket(c.max_new_tokens), bucket(prompt) + bucket(c.max_new_tokens)
    line, grid = array((rows,), jnp.float32), array((rows, width), jnp.float32)
    flag = lambda x: array(x.shape, bool)
    own = recomputes(c)
    batch = PolicyBatch(
        tokens=array((rows, length), jnp.int32),
        start=array((rows,), jnp.int32),
        mask=flag(grid),
        old_logp=grid,
        advantages=grid,
        ref_logp=grid if c.kl else None,
        drawn_logp=grid if own else None,
        fresh=flag(line) if own else None,
        entropy=line if c.entropy_target else None,
    )
    update = make_update(learner.model, algorithm, c, config.lora, mesh)
    shape = f"{rows} rows x {length} tokens"
    programs = [learner.update(update, batch, shape)]
    held = dict(learner.held)
    given = c.microbatch or rows, length, width
    if own and c.minibatches * c.epochs > 1:
        programs.append(learner.logps(c, "old log-probs", *given))
    if c.kl:
        name = "reference log-probs"
        if c.reference_every:  # a copy in the state
            programs.append(learner.logps(c, name, *given))
        else:
            programs.append(learner.ancestor_logps(c, name, *given))
            held |= (
                {} if config.lora.active else {"ancestor": bytes_of(learner.ancestor)}
            )
    devices = place.sampler(config.sampling.devices, config.sampling.model_axis)
    confident = bool(reward_mix(config).sets) and config.rewards.confidence == "scored"
    asked = Asked(learner.model, prompt, c.max_new_tokens, probes=confident)
    sampler, there = engine_programs(asked, config.sampling, devices)
    return Stage("policy optimisation", sampler + programs, there | held)


def _preference_stage(
    config: Config, model: ModelConfig, place: Slice, prompt: int
) -> Stage:
    c, new = config.preference, config.sampling.max_new_tokens
    mesh = training_mesh(c.model_axis, list(place.devices))
    check_preference(c, mesh)
    learner, rows = _Learner(config, c, model, mesh), 2 * c.pairs
    bucket = lambda length: -(-length // PAIR_BUCKET) * PAIR_BUCKET
    length, width = bucket(prompt + new), bucket(new)
    grid, by_head = (
        array((rows, width), jnp.float32),
        config.algorithm == "reward_model",
    )
    batch = PreferenceBatch(
        tokens=array((rows, length), jnp.int32),
        start=array((rows,), jnp.int32),
        mask=array(grid.shape, bool),
        margin=array((c.pairs,), jnp.float32),
        ref_logp=None if by_head else grid,
    )
    update = make_preference_update(
        learner.model, config.algorithm, c, config.lora, mesh
    )
    programs = [learner.update(update, batch, f"{rows} rows x {length} tokens")]
    if not by_head:
        own = PolicyConfig(dtype=c.dtype)
        given = c.microbatch or rows, length, width
        programs.append(learner.logps(own, "reference log-probs", *given, plain=True))
    return Stage("training on pairs", programs, learner.held)


_STATE = ("parameters", "moments", "frozen")


def candidate_stage(
    config: Config, model: ModelConfig, place: Slice, prompt: int
) -> Stage:
    """The programs that sample the candidates of pairs.

    Args:
        config: The whole configuration.
        model: Shape of the model that answers.
        place: The slice.
        prompt: Tokens of the longest prompt.

    Returns:
        Its programs.
    """
    c = config.sampling
    devices = place.sampler(c.devices, c.model_axis)
    asked = Asked(model, prompt, c.max_new_tokens)
    return Stage("candidates", *engine_programs(asked, c, devices))


def vector_stage(
    config: Config, model: ModelConfig, place: Slice, prompt: int
) -> Stage:
    """The programs that sample completions to find and to choose a steering vector.

    Args:
        config: The whole configuration.
        model: Shape of the model that is steered.
        place: The slice.
        prompt: Tokens of the longest prompt.

    Returns:
        Its programs.
    """
    c = config.sampling
    devices = place.sampler(c.devices, c.model_axis)
    asked = Asked(model, prompt, c.max_new_tokens, statistics=False)
    chosen = dataclasses.replace(asked, vectors=model.layers + 2)
    plain, held = engine_programs(asked, c, devices)
    steered, more = engine_programs(chosen, c, devices)
    return Stage("steering vector", plain + steered, held | more)


class _Learner:
    """The state of a training, and programs that read it."""

    def __init__(
        self, config: Config, settings: Settings, model: ModelConfig, mesh: Mesh
    ):
        lora = config.lora
        if lora.vectors:
            model = dataclasses.replace(model, residual_bias=True)
        self.model, self._lora, self._mesh = model, lora, mesh
        self._microbatch = settings.microbatch
        self._dtype = choose_dtype(settings.dtype or None)
        start = parameters(model, master_dtype(settings.dtype, lora))
        trained: Any = start
        if lora.active:
            init = functools.partial(init_adapters, model, lora)
            trained = shapes_of(init, jax.random.key(0))
        if config.algorithm == "reward_model":
            trained = shapes_of(lambda tree: with_head(tree, model), trained)
        state = shapes_of(lambda tree: init_state(tree, settings), trained)
        state = dataclasses.replace(state, extra=_extra(settings, trained) or None)
        self.state = by_path(state, mesh)
        self.frozen = by_path(start, mesh) if lora.active else None
        self.ancestor = self.frozen or by_path(parameters(model, self._dtype), mesh)
        own = bytes_of(self.state.params)
        self.held = {"parameters": own, "moments": bytes_of(self.state) - own}
        if lora.active:
            self.held["frozen"] = bytes_of(self.frozen)

    def update(self, fn, batch, shape: str) -> Program:
        """An update of the state."""
        given = self.state, by_rows(batch, self._mesh), self.frozen
        shape += f" by {self._microbatch}" * bool(self._microbatch)
        lower = lambda: fn.lower(*given)
        return Program("update", shape, lower, _STATE, self._dtype.name)

    def logps(
        self, config: PolicyConfig, name, rows, length, width, plain: bool = False
    ) -> Program:
        """Log-probs under what is trained; `plain`: under the start."""
        lora = LoraConfig() if plain else self._lora
        params = self.frozen if plain and self.frozen else self.state.params
        frozen = None if plain else self.frozen
        uses = ("parameters", "frozen")
        return self._logps(
            config, lora, name, rows, length, width, params, frozen, uses
        )

    def ancestor_logps(
        self, config: PolicyConfig, name, rows, length, width
    ) -> Program:
        """Log-probs under a copy of the start."""
        uses = ("frozen",) if self.frozen else ("ancestor",)
        given = name, rows, length, width, self.ancestor, None, uses
        return self._logps(config, LoraConfig(), *given)

    def _logps(self, config, lora, name, rows, length, width, params, frozen, uses):
        fn: Any = make_logps(self.model, config, lora, self._mesh)
        batch = array((rows, length), jnp.int32), array((rows,), jnp.int32)
        tokens, start = by_rows(batch, self._mesh)
        lower = lambda: fn.lower(params, tokens, start, width, frozen=frozen)
        return Program(
            name, f"{rows} rows x {length} tokens", lower, uses, self._dtype.name
        )


def _extra(c: Settings, trained) -> dict[str, Any]:
    """Arrays that a training keeps in its state beside parameters and moments."""
    extra: dict[str, Any] = {}
    if isinstance(c, PolicyConfig):
        extra |= {"reference": trained} if c.reference_every else {}
        extra |= {"older": trained} if c.lag else {}
        extra |= {"entropy": array((), jnp.float32)} if c.entropy_target else {}
    if not isinstance(c, PreferenceConfig) and c.order == "permuted":
        extra["cursor"] = array((), jnp.int32)
    return extra
