"""Supervised training on whatever a config names: traces, solutions, right rollouts, rescued attempts."""

import dataclasses
import random
from collections.abc import Callable, Sequence

import jax
import numpy as np
from etils import epath

from fr import distributed, tasks
from fr.config import OF_A_RUN, Config, TrainingConfig
from fr.errors import UserError
from fr.models import Model, ModelConfig, save, sharding
from fr.models.dense import merge
from fr.models.orbax import save_outline
from fr.models.transformer import init_params
from fr.runs.inputs import begin_training
from fr.tasks.countdown import VOCABULARY, countdown_tokenizer
from fr.tasks.countdown_traces import TRACES
from fr.tasks.task import worked_completion
from fr.training.data import Example, Make, PackedData, in_batches
from fr.training.lora import split
from fr.training.past_runs import Past, apart, fingerprint, tell
from fr.training.sft import check_training, make_loss, make_step
from fr.training.trainer import Exam, Step, fit
from fr.training.update import TrainState, init_state, place_batch, training_mesh
from fr.types import Problem
from fr.workdir import PathLike


@dataclasses.dataclass(frozen=True)
class Examples:
    """What is learnt from, `total` places of it, and held-out examples to measure on."""

    make: Make
    total: int
    held: list[Example]
    inputs: dict = dataclasses.field(default_factory=dict)  # hashes, for `stages`


def from_scratch(config: Config) -> Model:
    """The `architecture` with random parameters, and the tokenizer of Countdown."""
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


def train_supervised(
    config: Config,
    training: TrainingConfig,
    workdir: PathLike,
    start: Model,
    folder: epath.Path,
    source: str = "",
) -> None:
    """Train `start`, whose name is `source`; `folder` holds checkpoints, metrics and in the end the model.

    With `config.lora` adapters are trained, and merged for the export. Raises UserError, before anything is
    written, for settings that do not fit and without an example.
    """
    mesh, lora = training_mesh(training.model_axis), config.lora
    check_training(training, mesh)
    if start.tokenizer is None or not start.stop_tokens:
        raise UserError(
            f"{start.name} has no tokenizer or no stop token, so it cannot learn from text"
        )
    examples, seed = (
        examples_of(config, training, start),
        f"{config.seed}/{folder.name}",
    )
    # A pad is masked by its position; its id is never read.
    data = PackedData(examples.make, examples.total, 0, training, seed)
    trained, frozen = split(start.config, start.params, lora, config.seed)
    update = make_step(start.config, training, lora, mesh)
    state = init_state(trained, training)
    permuted = training.order == "permuted"
    if permuted:
        state = state.replace(extra={"cursor": np.int32(0)})
    cursors: dict[
        int, int
    ] = {}  # by step: what the state holds, without waiting for the device

    def advance(i: int, state: TrainState, _) -> Step:
        at = (
            cursors.pop(i)
            if i in cursors
            else int(state.extra["cursor"])
            if permuted
            else 0
        )
        batch, cursors[i + 1] = data.batch(i, at)
        state, metrics = update(state, place_batch(batch, mesh), frozen)
        if permuted:
            place = state.extra["cursor"].sharding
            state = state.replace(
                extra={"cursor": sharding.put(np.int32(cursors[i + 1]), place)}
            )
            metrics |= {"epoch": cursors[i + 1] / data.total}
        return Step(state, metrics)

    exam = (
        _exam(training, start, examples.held, config, mesh, frozen)
        if training.eval_every
        else None
    )
    if distributed.is_first():
        begin_training(
            workdir,
            folder.name,
            config,
            source,
            start if source else None,
            examples.inputs,
        )
    distributed.wait(f"{folder.name}/claim")
    save_outline(folder, start, source, lora)
    state = fit(sharding.place(state, mesh), advance, training, folder, exam)
    params = merge(start.params, state.params, lora) if lora.rank else state.params
    save(folder, start.config, params, start.tokenizer, start.stop_tokens)


def examples_of(config: Config, training: TrainingConfig, model: Model) -> Examples:
    """What `training.source` names, as token ids of the model.

    Raises UserError where the task has none of it, and where an example is longer than a packed sequence.
    """
    if training.source in OF_A_RUN:
        return _of_a_run(config, training, model)
    task = tasks.make(dataclasses.replace(config.task, shots=0))
    writer = _writer(config, training)
    encode = _encoder(model)
    problems, prompts = task.problems("train"), {}

    def example(chance: random.Random, problem: Problem) -> Example:
        if problem.id not in prompts:
            prompts[problem.id] = list(model.encode(task.prompt(problem)))
        prompt = prompts[problem.id]
        return [*prompt, *encode(writer(chance, problem)), model.stop_tokens[0]], len(
            prompt
        )

    held = []
    if training.eval_every:
        some = task.problems("validation", training.eval_problems)
        held = [
            example(random.Random(f"{config.seed}/validation/{p.id}"), p) for p in some
        ]
    if not (problems and (held or not training.eval_every)):
        raise UserError(
            f"{config.task.name} has {len(problems)} training problems to learn from and {len(held)} validation "
            "problems to look at; set config.task.split_shares, or config.training.eval_every = 0"
        )
    make = lambda chance, place: example(chance, problems[place])
    # Of traces, which are many, one shows whether the tokenizer knows their words.
    fixed = (
        len(problems)
        if training.source == "solutions" or config.task.name != "countdown"
        else 1
    )
    lengths = [len(make(random.Random(0), place)[0]) for place in range(fixed)]
    _check_lengths([*lengths, *(len(ids) for ids, _ in held)], training, "an example")
    return Examples(make, len(problems), held)


def _check_lengths(lengths: Sequence[int], training: TrainingConfig, what: str) -> None:
    long = sum(length > training.sequence for length in lengths)
    if long:
        raise UserError(
            f"{what} has {max(lengths)} tokens with its prompt, and {long} of {len(lengths)} are longer than "
            f"config.training.sequence = {training.sequence}; raise it"
        )


def _writer(
    config: Config, training: TrainingConfig
) -> Callable[[random.Random, Problem], str]:
    """What is learnt of a problem, as text."""
    kinds = [TRACES[kind] for kind, _ in training.traces]
    shares = [share for _, share in training.traces]
    parts = {config.task.name, *config.task.parts} - {"mixed"}
    if training.source == "traces" and parts != {"countdown"}:
        raise UserError(
            f"config.task.name = {config.task.name!r} has no traces to train on; only 'countdown' has: set "
            "config.training.source = 'solutions'"
        )

    def write(chance: random.Random, problem: Problem) -> str:
        if problem.task == "countdown":
            kind = (
                chance.choices(kinds, shares)[0]
                if training.source != "solutions"
                else TRACES["answer_first"]
            )
            return kind(chance, problem)
        if not problem.answer:
            raise UserError(
                f"{problem.id}: problems of {problem.task} carry no solution and no reference to learn from; set "
                "config.training.source = 'rollouts' and config.training.run"
            )
        return worked_completion(
            problem.meta.get("solution") or problem.meta.get("chain") or "",
            problem.answer,
        )

    return write


def _encoder(model: Model) -> Callable[[str], list[int]]:
    """Ids of a completion; raises UserError for a text that the tokenizer has no token for."""
    begin = len(model.encode(""))  # some tokenizers put a token before every text
    unknown = model.tokenizer.unk_token_id

    def encode(text: str) -> list[int]:
        ids = list(model.encode(text))[begin:]
        if unknown is not None and unknown in ids:
            raise UserError(
                f"{model.name} has no token for a word of {text[:40]!r}; lower config.task.largest or target, or "
                "train another model"
            )
        return ids

    return encode


def _of_a_run(config: Config, training: TrainingConfig, model: Model) -> Examples:
    past = Past(config, model)
    found = past.right() if training.source == "rollouts" else past.rescued()
    if not found:
        raise UserError(
            f"config.training.run = {training.run!r} has no right, finished attempt to learn from; ask more problems "
            "there, or set config.training.operators = ()"
        )
    away = apart((one.problem for one in found), config, training.eval_every > 0)
    learnt = [one for one in found if one.problem not in away]
    _check_lengths(
        [len(one.ids) for one in found], training, "an attempt of config.training.run"
    )
    tell(
        f"examples ({training.source})",
        len(learnt),
        (one.problem for one in learnt),
        len(away),
    )
    example = lambda one: (one.ids, [*[False] * len(one.prompt), *one.learnt.tolist()])
    ready = [example(one) for one in learnt]
    held = [example(one) for one in found if one.problem in away]
    return Examples(
        lambda chance, place: ready[place],
        len(ready),
        held,
        {"examples": fingerprint(found)},
    )


def _exam(
    training: TrainingConfig,
    start: Model,
    held: Sequence[Example],
    config: Config,
    mesh,
    frozen: dict | None,
) -> Exam:
    """Nats a learnt token of held-out examples."""
    look = make_loss(start.config, training, config.lora, mesh)
    packed = in_batches(held, training.batch, training.sequence, 0)
    batches = [place_batch(batch, mesh) for batch in packed]

    def measure(state: TrainState) -> dict[str, float]:
        seen = jax.device_get([look(state.params, frozen, batch) for batch in batches])
        return {
            "held_out/loss": float(
                sum(total for total, _ in seen) / sum(count for _, count in seen)
            )
        }

    return Exam(training.eval_every, measure, "held_out/loss", lower=True)
