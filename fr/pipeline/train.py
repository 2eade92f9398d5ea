"""A lineage: an ancestor from random numbers, and a specialist trained from an ancestor."""

import dataclasses
from collections.abc import Collection

import jax
import jax.numpy as jnp
from etils import epath

from fr import processes, stages, tasks
from fr.config import PREFERENCES, Config, TrainingConfig, as_dict
from fr.errors import UserError
from fr.models import Model, ModelConfig, load, save, sharding
from fr.models.orbax_io import save_outline
from fr.models.transformer import init_params
from fr.pipeline.inputs import begin_training
from fr.pipeline.names import check_names
from fr.pipeline.policy import train_policy
from fr.pipeline.preference import train_preferences
from fr.tasks.countdown_tokenizer import VOCABULARY, countdown_tokenizer
from fr.training.data import TraceData
from fr.training.sft import make_step
from fr.training.state import TrainState, check_rows, init_state, place_batch, training_mesh
from fr.training.trainer import Step, fit
from fr.workdir import PathLike


def train_lineage(config: Config, workdir: PathLike, redo: Collection[str] = ()) -> list[str]:
    """Train what the config does not name: `ancestor/` if it is "scratch", `specialist/` if it is "".

    Without steps of its algorithm no specialist is trained. Finished models are left alone, but for the stages
    `redo`, which are made again with all that follows. Returns their folders. Several processes train together, on
    all devices of all of them. Raises UserError for a name that is not known, and for a folder that was made with
    other settings.
    """
    ancestor, made = config.ancestor, []
    if config.ancestor == "scratch" or (not config.specialist and _steps(config)):
        check_names(config, training=True)
    if processes.is_first():
        stages.check(workdir, as_dict(config), redo=redo)
        stages.drop(workdir, redo)
    processes.wait("lineage")
    if ancestor == "scratch":
        ancestor = train_ancestor(config, workdir)
        made.append(ancestor)
    if not config.specialist and _steps(config):
        made.append(train_specialist(config, workdir, ancestor))
    return made


def train_ancestor(config: Config, workdir: PathLike) -> str:
    """Train `architecture` on `pretraining`; returns the exported folder `workdir/ancestor`."""
    folder = epath.Path(workdir) / "ancestor"
    if not _finished(folder):
        start = _from_scratch(config)
        _train(start, config, config.pretraining, epath.Path(workdir), folder)
    processes.wait(folder.name)
    return str(folder)


def train_specialist(config: Config, workdir: PathLike, ancestor: str) -> str:
    """Train the model `ancestor` (any name that `load` takes) by `algorithm`; returns `workdir/specialist`.

    What the algorithm reward_model makes answers nothing and is `workdir/reward_model`.
    """
    folder = epath.Path(workdir) / "specialist"
    if not ancestor:
        raise UserError(
            'config.specialist and config.ancestor are both empty; name a model, or ancestor "scratch"'
        )
    if config.algorithm in PREFERENCES:
        return train_preferences(config, workdir, ancestor)
    if not _finished(folder):
        if config.algorithm == "sft":
            # Float32 masters, whatever the type that the ancestor is sampled in.
            start = load(ancestor, dtype=jnp.float32, mesh=training_mesh())
            _train(start, config, config.training, epath.Path(workdir), folder)
        else:
            train_policy(config, workdir, ancestor, folder)
    processes.wait(folder.name)
    return str(folder)


def _steps(config: Config) -> int:
    """Steps of the specialist's training."""
    pairs = dict.fromkeys(PREFERENCES, config.preference)
    return ({"sft": config.training} | pairs).get(config.algorithm, config.policy).steps


def _finished(folder: epath.Path) -> bool:
    """An export ends with its config.json."""
    return processes.agree(f"{folder.name}/finished", (folder / "config.json").exists())


def _from_scratch(config: Config) -> Model:
    shape, tokenizer = config.architecture, countdown_tokenizer()
    decoder = ModelConfig(
        vocab=VOCABULARY,
        width=shape.width,
        layers=shape.layers,
        heads=shape.heads,
        kv_heads=shape.heads,
        head_dim=shape.width // shape.heads,
        ff=shape.ff,
    )
    params = init_params(decoder, jax.random.key(config.seed))
    return Model(decoder, params, tokenizer, (tokenizer.eos_token_id,), "scratch")


def _train(
    start: Model, config: Config, training: TrainingConfig, workdir: epath.Path, folder: epath.Path
) -> None:
    """Train `start` on the task's traces; `folder` holds checkpoints, metrics and in the end the model."""
    data, mesh = _traces(start, config, training, folder.name), training_mesh()
    check_rows(training.batch, 0, mesh, "config.training.batch")
    state, step = init_state(start.params, training), make_step(start.config, training, mesh)

    def advance(i: int, state: TrainState, _) -> Step:
        return Step(*step(state, place_batch(data.batch(i), mesh)))

    if processes.is_first():
        begin_training(workdir, folder.name, config, start.name, start if start.name != "scratch" else None)
    processes.wait(f"{folder.name}/claim")
    save_outline(folder, start)
    state = fit(sharding.place(state, mesh), advance, training, folder)
    save(folder, start.config, state.params, start.tokenizer, start.stop_tokens)


def _traces(model: Model, config: Config, training: TrainingConfig, role: str) -> TraceData:
    if config.task.name != "countdown":
        raise UserError(
            f"config.task.name = {config.task.name!r} has no traces to train on; only 'countdown' has"
        )
    if model.tokenizer is None or not model.stop_tokens:
        raise UserError(f"{model.name} has no tokenizer or no stop token, so it cannot learn from text")

    def encode(texts: list[str]) -> list[list[int]]:
        ids = model.tokenizer(texts)["input_ids"]
        if any(model.tokenizer.unk_token_id in row for row in ids):
            raise UserError(
                f"{model.name} has no token for a word of the traces; lower config.task.largest or target"
            )
        return ids

    task = tasks.make(dataclasses.replace(config.task, shots=0))
    # A pad is masked by its position; its id is never read.
    return TraceData(task, encode, model.stop_tokens[0], 0, training, f"{config.seed}/{role}")
