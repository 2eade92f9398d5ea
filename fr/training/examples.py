"""Examples as token ids: traces, solutions, files, right and rescued attempts."""

import dataclasses
import functools
import hashlib
import random
from collections.abc import Callable, Sequence

from fr import tasks
from fr.config import OF_A_RUN, Config, TrainingConfig
from fr.errors import UserError
from fr.models import Model
from fr.tasks.task import worked_completion
from fr.training.critique_examples import critique_examples
from fr.training.data import Example, Make
from fr.training.file_examples import read_examples
from fr.training.past_runs import (
    Completion,
    PastRun,
    fingerprint,
    hold_out,
    print_counts,
)
from fr.types import Problem


@dataclasses.dataclass(frozen=True)
class Examples:
    """Examples to learn from, and held-out examples to measure on.

    Attributes:
        make: (random generator, place) -> example.
        total: Number of places.
        held: Held-out examples.
        inputs: Hashes of what was read, for `runs.stages`.
    """

    make: Make
    total: int
    held: Sequence[Example]
    inputs: dict = dataclasses.field(default_factory=dict)


def examples_of(config: Config, training: TrainingConfig, model: Model) -> Examples:
    """The examples that `training.source` names, as token ids of the model.

    Args:
        config: The whole configuration.
        training: Settings of this training.
        model: Encodes and decodes.

    Returns:
        The examples.

    Raises:
        UserError: The task has none, or one is longer than a packed row.
    """
    if training.source == "file":
        return _of_a_file(config, training, model)
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
            f"{config.task.name} has {len(problems)} training problems to learn from "
            f"and {len(held)} validation problems to look at; set "
            "config.task.split_shares, or config.training.eval_every = 0"
        )
    make = lambda chance, place: example(chance, problems[place])
    # Traces are many: one of them shows that the tokenizer knows their words.
    written = training.source != "solutions" and tasks.traces_of(config.task.name)
    fixed = 1 if written else len(problems)
    lengths = [len(make(random.Random(0), place)[0]) for place in range(fixed)]
    _check_lengths([*lengths, *(len(ids) for ids, _ in held)], training, "an example")
    return Examples(make, len(problems), held)


def _check_lengths(lengths: Sequence[int], training: TrainingConfig, what: str) -> None:
    long = sum(length > training.sequence for length in lengths)
    if long:
        raise UserError(
            f"{what} has {max(lengths)} tokens with its prompt, and {long} of "
            f"{len(lengths)} are longer than config.training.sequence = "
            f"{training.sequence}; raise it"
        )


def _writer(
    config: Config, training: TrainingConfig
) -> Callable[[random.Random, Problem], str]:
    """The completion of a problem that is learnt, as text."""
    parts = {config.task.name, *config.task.parts} - {"mixed"}
    registries = {part: tasks.traces_of(part) for part in parts}
    if training.source == "traces" and not all(registries.values()):
        raise UserError(
            f"config.task.name = {config.task.name!r} has no traces to train on: set "
            "config.training.source = 'solutions'"
        )
    solved = training.source == "solutions"
    names = ["answer_first"] if solved else [kind for kind, _ in training.traces]
    shares = [share for _, share in training.traces]
    kinds = {
        part: [known[name] for name in names]
        for part, known in registries.items()
        if known
    }

    def write(chance: random.Random, problem: Problem) -> str:
        if own := kinds.get(problem.task):
            kind = own[0] if solved else chance.choices(own, shares)[0]
            return kind(chance, problem)
        if not problem.answer:
            raise UserError(
                f"{problem.id}: problems of {problem.task} carry no solution and no "
                "reference to learn from; set config.training.source = 'rollouts' and "
                "config.training.run"
            )
        return worked_completion(
            problem.meta.get("solution") or problem.meta.get("chain") or "",
            problem.answer,
        )

    return write


def _encoder(model: Model) -> Callable[[str], list[int]]:
    """Ids of a completion; raises UserError if the tokenizer cannot encode it."""
    begin = len(model.encode(""))  # some tokenizers put a token before every text
    unknown = model.tokenizer.unk_token_id

    def encode(text: str) -> list[int]:
        ids = list(model.encode(text))[begin:]
        if unknown is not None and unknown in ids:
            raise UserError(
                f"{model.name} has no token for a word of {text[:40]!r}; lower "
                "config.task.largest or target, write it in words that the model "
                "knows, or train another model"
            )
        return ids

    return encode


def _of_a_file(config: Config, training: TrainingConfig, model: Model) -> Examples:
    group = "pretraining" if training is config.pretraining else "training"
    encode, found = _encoder(model), []
    for one in read_examples(training.file, f"config.{group}.file"):
        if isinstance(one.prompt, str):
            _named(one.where, encode, one.prompt)  # every word is known
        prompt = list(model.encode(one.prompt))
        ids = [*prompt, *_named(one.where, encode, one.completion)]
        found.append((str(one.prompt), ([*ids, model.stop_tokens[0]], len(prompt))))
        if len(ids) >= training.sequence:
            raise UserError(
                f"{one.where}: has {len(ids) + 1} tokens with its prompt and a stop "
                f"token, config.{group}.sequence is {training.sequence}; raise it"
            )
    prompts = dict.fromkeys(prompt for prompt, _ in found)
    if training.eval_every and len(prompts) < 2:
        raise UserError(
            f"{training.file} has one prompt, and none could be held out; set "
            f"config.{group}.eval_every = 0"
        )
    held = dataclasses.replace(config, training=training)
    away = hold_out(prompts, held, training.eval_every > 0)
    learnt = [(prompt, one) for prompt, one in found if prompt not in away]
    print_counts("examples (file)", len(learnt), (p for p, _ in learnt), len(away))
    digest = hashlib.sha256(repr([one for _, one in found]).encode()).hexdigest()
    return Examples(
        lambda chance, place: learnt[place][1],
        len(learnt),
        [one for prompt, one in found if prompt in away],
        {"examples": digest[:32]},
    )


def _named(where: str, encode: Callable[[str], list[int]], text: str) -> list[int]:
    """Ids of a text of a file; an error names the line."""
    try:
        return encode(text)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


# Examples of a run by source: (run, config, model) -> completions.
_FOUND: dict[str, Callable[[PastRun, Config, Model], list[Completion]]] = {
    "rollouts": lambda past, config, model: past.right(),
    "retried": lambda past, config, model: past.retried(),
    "rescued": lambda past, config, model: past.rescued(),
    "critiques": functools.partial(critique_examples, shuffled=False),
    "critiques_shuffled": functools.partial(critique_examples, shuffled=True),
}


def _of_a_run(config: Config, training: TrainingConfig, model: Model) -> Examples:
    past = PastRun(config, model)
    found = _FOUND[training.source](past, config, model)
    if not found:
        raise UserError(
            f"config.training.run = {training.run!r} has no right, finished attempt to "
            "learn from; ask more problems there, or set config.training.operators = "
            "()"
        )
    away = hold_out((one.problem for one in found), config, training.eval_every > 0)
    learnt = [one for one in found if one.problem not in away]
    _check_lengths(
        [len(one.ids) for one in found], training, "an attempt of config.training.run"
    )
    print_counts(
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
