"""Training on pairs: of a model's own answers (RLSF), or of a run's attempts."""

import dataclasses
import functools
import itertools
from collections.abc import Sequence

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh
from jaxtyping import Float

from fr import compile_cache, distributed
from fr.config import Config, LoraConfig, PolicyConfig, PreferenceConfig
from fr.errors import UserError
from fr.models import Model, load, save, sharding
from fr.models.dense import merge
from fr.models.orbax import save_outline
from fr.runs.inputs import begin_training
from fr.sampling.devices import Devices
from fr.training.data import visits
from fr.training.lora import master_dtype, partition, with_vectors
from fr.training.microbatches import (
    length_order,
    place_batch,
    score_rows,
    sort_by_length,
    training_mesh,
)
from fr.training.pairs import Pairs, failed_and_rescued, pairs_of
from fr.training.past_runs import PastRun, fingerprint, hold_out, print_counts
from fr.training.policy_update import make_logps
from fr.training.preference_loss import (
    check_preference,
    make_preference_evaluation,
    make_preference_update,
    with_head,
)
from fr.training.reward_model import RewardModel, save_reward_model
from fr.training.rlsf import candidate_pairs
from fr.training.trainer import Evaluator, Step, fit
from fr.training.update import TrainState, init_state
from fr.workdir import PathLike

_MADE = {
    "dpo": "specialist",
    "reward_model": "reward_model",
}  # folder of what an algorithm makes


def train_preferences(config: Config, workdir: PathLike, start: str) -> str:
    """Train a model on pairs by `config.algorithm`.

    Pairs are of the model's own answers, whose candidates for problems of the training
    split go to `candidates/`, or (`training.source`) of failed and rescued attempts of
    a run. A finished model is left alone. All processes train together.

    Args:
        config: The whole configuration.
        workdir: Folder of the models.
        start: Name of the model that training starts from.

    Returns:
        The exported folder, `workdir/specialist` or `workdir/reward_model`.
    """
    folder = epath.Path(workdir) / _MADE[config.algorithm]
    if distributed.agree(f"{folder.name}/finished", (folder / "config.json").exists()):
        return str(folder)
    devices = Devices(config.sampling.devices, model=config.sampling.model_axis)
    mesh = training_mesh(config.preference.model_axis, devices.all_devices)
    check_preference(config.preference, mesh)
    made = (
        None
        if config.training.source
        else candidate_pairs(config, epath.Path(workdir), start, devices)
    )
    model = load(
        start, dtype=master_dtype(config.preference.dtype, config.lora), mesh=mesh
    )
    model = with_vectors(model, config.lora)
    pairs, held, inputs = (made, None, {}) if made else _of_a_run(config, model)
    _train(config, start, model, pairs, held, mesh, folder, inputs)
    distributed.wait(folder.name)
    return str(folder)


def _of_a_run(config: Config, model: Model) -> tuple[Pairs, Pairs | None, dict]:
    """Pairs of a run's attempts to learn from, held-out pairs, and a hash of all."""
    found = failed_and_rescued(PastRun(config, model), config)
    away = hold_out(
        (worse.problem for _, worse in found), config, config.preference.eval_every > 0
    )
    # A control's pair is of two problems.
    learnt = [pair for pair in found if away.isdisjoint(one.problem for one in pair)]
    held = [pair for pair in found if away.issuperset(one.problem for one in pair)]
    if away and not (learnt and held):
        raise UserError(
            f"{len(found)} pairs of config.training.run = {config.training.run!r} are "
            "too few to hold some out; set config.preference.eval_every = 0"
        )
    print_counts(
        "pairs", len(learnt), (worse.problem for _, worse in learnt), len(away)
    )
    hashed = fingerprint(one for pair in found for one in pair)
    return pairs_of(learnt), pairs_of(held) if held else None, {"examples": hashed}


def _train(
    config: Config,
    source: str,
    start: Model,
    pairs: Pairs,
    held: Pairs | None,
    mesh: Mesh,
    folder: epath.Path,
    inputs: dict,
) -> None:
    """Train on the pairs; `folder` holds what `fit` leaves and in the end the model."""
    c, lora, by_head = (
        config.preference,
        config.lora,
        config.algorithm == "reward_model",
    )
    reference = None if by_head else _reference(start, pairs, c, mesh)
    update = make_preference_update(start.config, config.algorithm, c, lora, mesh)
    trained, frozen = partition(start.config, start.params, lora, config.seed)
    trained = with_head(trained, start.config) if by_head else trained
    # Before an update takes the buffers that the reference reads.
    evaluator = _evaluator(config, start, held, mesh, frozen) if held else None
    seed, total = f"{config.seed}/pairs", len(pairs.places)

    def advance(index: int, state: TrainState, past: Sequence[dict]) -> Step:
        chosen = np.array(
            [
                place
                for _, place in itertools.islice(
                    visits(seed, total, index * c.pairs), c.pairs
                )
            ]
        )
        if c.microbatch:
            need = pairs.columns_used[pairs.places[chosen].reshape(-1)]
            chosen = chosen[sort_by_length(need, c.microbatch, mesh, 2)[::2] // 2]
        batch = pairs.batch(chosen, reference)
        state, metrics = update(state, place_batch(batch, mesh), frozen)
        metrics |= {"update_tokens": int((batch.tokens >= 0).sum())}
        return Step(state, metrics)

    if distributed.is_first():
        begin_training(folder.parent, folder.name, config, source, start, inputs)
        compile_cache.compile_log().write_to(folder / "compilations.jsonl")
    if not by_head:  # checkpoints of a reward model do not answer
        save_outline(folder, start, source, lora)
    state = fit(
        sharding.shard_tree(init_state(trained, c), mesh), advance, c, folder, evaluator
    )
    learnt = state.params["model"] if by_head else state.params
    model = dataclasses.replace(
        start, params=merge(start.params, learnt, lora) if lora.active else learnt
    )
    if by_head:
        # Attempts of a run are learnt from whole.
        cuts = c.answer == "cut" and not config.training.source
        kernel = jax.device_get(state.params["reward"]["kernel"])
        save_reward_model(folder, RewardModel(model, kernel, cuts))
    else:
        save(folder, model.config, model.params, model.tokenizer, model.stop_tokens)


def _evaluator(
    config: Config, start: Model, held: Pairs, mesh: Mesh, frozen: dict | None
) -> Evaluator:
    """Loss, accuracy and gap on pairs of problems that nothing is learnt from."""
    c, total = config.preference, len(held.places)
    reference = (
        None if config.algorithm == "reward_model" else _reference(start, held, c, mesh)
    )
    look = make_preference_evaluation(
        start.config, config.algorithm, c, config.lora, mesh
    )
    parts = [range(total)[i : i + c.pairs] for i in range(0, total, c.pairs)]
    batches = [
        place_batch(held.batch(list(part), reference, c.pairs), mesh) for part in parts
    ]

    def measure(state: TrainState) -> dict[str, float]:
        seen = [jax.device_get(look(state.params, frozen, batch)) for batch in batches]
        return {
            f"held_out/{name}": sum(
                float(values[name]) * int(count) for values, count in seen
            )
            / total
            for name in ("loss", "accuracy", "gap")
        }

    return Evaluator(c.eval_every, measure, "held_out/loss", lower=True)


def _reference(
    start: Model, pairs: Pairs, config: PreferenceConfig, mesh: Mesh
) -> Float[np.ndarray, "M W"]:
    """Log-probs of all completions under the start."""
    logps = make_logps(
        start.config, PolicyConfig(dtype=config.dtype), LoraConfig(), mesh
    )
    read = functools.partial(logps, start.params)
    size, width = config.microbatch or 2 * config.pairs, pairs.mask.shape[1]
    return score_rows(
        read,
        pairs.tokens,
        pairs.start,
        width,
        length_order(pairs.columns_used),
        size,
        config.length_buckets,
        mesh,
    )
