"""Training on pairs: of a model's own answers, ranked by its confidence in them (RLSF), or of a run's attempts."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh
from jaxtyping import Float

from fr import compile_cache, distributed, store, tasks
from fr.config import Config, LoraConfig, PolicyConfig, PreferenceConfig, as_dict
from fr.errors import UserError
from fr.models import Model, load, save, sharding
from fr.models.dense import merge
from fr.models.orbax import save_outline
from fr.models.transformer import Transformer
from fr.runs import stages
from fr.runs.attempts import Planned, make_attempts, plan_attempt
from fr.runs.compatibility import with_template
from fr.runs.inputs import begin_training, inputs_of
from fr.runs.run import Run, check_chat
from fr.sampling.cot_decoding import first_tokens
from fr.sampling.devices import Devices
from fr.stats.calibration import answer_confidence
from fr.tasks.formats import answer_span, reasoning_tokens
from fr.training.epochs import visits
from fr.training.lora import master_type, split
from fr.training.microbatches import by_need, in_order
from fr.training.pairs import Pairs, arrays, as_pairs, failed_and_rescued
from fr.training.past_runs import Past, apart, fingerprint, tell
from fr.training.policy_loss import make_logps, score_rows
from fr.training.preference_loss import (
    check_preference,
    make_preference_exam,
    make_preference_update,
    with_head,
)
from fr.training.reward_model import RewardModel, save_reward_model
from fr.training.trainer import Exam, Step, fit
from fr.training.update import TrainState, init_state, place_batch, training_mesh
from fr.workdir import PathLike

CANDIDATES = "candidates"  # folder of the attempts that pairs are made of
_MADE = {
    "dpo": "specialist",
    "reward_model": "reward_model",
}  # folder of what an algorithm makes


def train_preferences(config: Config, workdir: PathLike, start: str) -> str:
    """Train the model `start` on pairs; returns `workdir/specialist`, or `/reward_model`.

    Pairs are of the model's own answers, whose candidates for problems of the training split go to `candidates/`, a
    share from each process, or (`training.source`) of a run's failed and rescued attempts; all train together. A
    finished model is left alone. Raises UserError for settings that do not fit, and without a pair.
    """
    folder = epath.Path(workdir) / _MADE[config.algorithm]
    if distributed.agree(f"{folder.name}/finished", (folder / "config.json").exists()):
        return str(folder)
    devices = Devices(config.sampling.devices, model=config.sampling.model_axis)
    mesh = training_mesh(config.preference.model_axis, devices.everywhere)
    check_preference(config.preference, mesh)
    made = (
        None
        if config.training.source
        else _pairs(config, epath.Path(workdir), start, devices)
    )
    model = load(
        start, dtype=master_type(config.preference.dtype, config.lora), mesh=mesh
    )
    pairs, held, inputs = (made, None, {}) if made else _of_a_run(config, model)
    _train(config, start, model, pairs, held, mesh, folder, inputs)
    distributed.wait(folder.name)
    return str(folder)


def _of_a_run(config: Config, model: Model) -> tuple[Pairs, Pairs | None, dict]:
    """Pairs of a run's failed and rescued attempts, those of held-out problems, and a hash of all."""
    found = failed_and_rescued(Past(config, model), config)
    away = apart(
        (worse.problem for _, worse in found), config, config.preference.eval_every > 0
    )
    # A control's pair is of two problems.
    learnt = [pair for pair in found if away.isdisjoint(one.problem for one in pair)]
    held = [pair for pair in found if away.issuperset(one.problem for one in pair)]
    if away and not (learnt and held):
        raise UserError(
            f"{len(found)} pairs of config.training.run = {config.training.run!r} are too few to hold some out; set "
            "config.preference.eval_every = 0"
        )
    tell("pairs", len(learnt), (worse.problem for _, worse in learnt), len(away))
    hashed = fingerprint(one for pair in found for one in pair)
    return as_pairs(learnt), as_pairs(held) if held else None, {"examples": hashed}


def confident_pairs(
    confidence: Sequence[float], least: float
) -> list[tuple[int, int, float]]:
    """(better, worse, margin) of all candidates of a problem that confidence tells apart (arXiv 2507.21931).

    The better one has the larger confidence, `least` or more; the margin is exp of the difference. NaN, that of a
    candidate without an answer, pairs with nothing [ours].
    """
    each = list(enumerate(confidence))
    return [
        (i, j, math.exp(a - b))
        for i, a in each
        for j, b in each
        if a > b and a >= least
    ]


def _pairs(
    config: Config, workdir: epath.Path, ancestor: str, devices: Devices
) -> Pairs:
    """Ask the ancestor for candidates and pair them; what it is sampled with goes when they are there."""
    compile_cache.keep()
    task = tasks.make(config.task)
    problems = task.problems("train", config.preference.problems)
    model = with_template(
        load(ancestor, mesh=devices.mesh, stacked=devices.stacked), config
    )
    check_chat(config, model, task.prompt(problems[0]))
    found = {}
    if distributed.is_first():
        found = inputs_of(task, problems, model, ancestor)
        found = {
            "candidate_questions": found.pop("questions"),
            "start": found.pop("specialist"),
        } | found
        stages.open_folder(workdir, as_dict(config), found)
    distributed.wait("preferences")
    named = dataclasses.replace(config, specialist=ancestor, ancestor="")
    run = Run(named, workdir, task, problems, model, None, devices, found)
    make_attempts(run, _plan(run), CANDIDATES)
    return make_pairs(run, store.read(workdir / CANDIDATES))


def _plan(run: Run) -> list[Planned]:
    """Candidates: samples under the run's settings, or greedy from each of the likeliest first tokens."""
    c, model = run.config.preference, run.specialist
    prompts = [model.encode(run.task.prompt(problem)) for problem in run.problems]
    own = [[{}] * c.candidates] * len(prompts)
    if c.source == "branches":
        found = first_tokens(
            Transformer(model.config, model.dtype), model.params, prompts, c.candidates
        )
        own = [
            [{"temperature": 0.0, "forced": (token,)} for token in row]
            for row in found.tolist()
        ]
    return [
        plan_attempt(run, prompt, problem, c.source, i, params, False)
        for problem, prompt, each in zip(run.problems, prompts, own)
        for i, params in enumerate(each)
    ]


def make_pairs(run: Run, candidates: Sequence[store.Attempt]) -> Pairs:
    """Pair the candidates of each problem by their confidence; raises UserError if there is none to pair.

    With `preference.answer` = cut, the sentence that states the answer is cut off both responses of a pair, so that
    confidence in an answer is not trained for itself (arXiv 2507.21931).
    """
    problems = {problem.id: problem for problem in run.problems}
    confidence, lengths, groups = [], [], {}
    cuts = run.config.preference.answer == "cut"
    for place, a in enumerate(candidates):
        span = answer_span(problems[a.problem], a.tokens, run.specialist)
        confidence.append(answer_confidence(a.stats["margin"], span))
        problem = problems[a.problem]
        lengths.append(
            reasoning_tokens(problem, a.tokens, run.specialist)
            if cuts
            else len(a.tokens)
        )
        # A response that is nothing but its answer has nothing left to learn from.
        if lengths[-1]:
            groups.setdefault(a.problem, []).append(place)
    found = []
    for group in groups.values():
        pairs = confident_pairs(
            [confidence[i] for i in group], run.config.preference.confident
        )
        found += [
            (group[better], group[worse], margin) for better, worse, margin in pairs
        ]
    if not found:
        raise UserError(
            f"no two of {len(candidates)} candidates make a pair (the highest confidence is "
            f"{np.nanmax([0.0, *confidence]):.2f}); lower config.preference.confident"
        )
    distributed.print0(
        f"  {len(found)} pairs of {len(candidates)} candidates for {len(problems)} problems"
    )
    places, margin = (
        np.array([pair[:2] for pair in found]),
        np.array([pair[2] for pair in found], np.float32),
    )
    learnt = [np.ones(count, bool) for count in lengths]
    shown = [a.tokens[:count] for a, count in zip(candidates, lengths)]
    return Pairs(*arrays([a.prompt for a in candidates], shown, learnt), places, margin)


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
    trained, frozen = split(start.config, start.params, lora, config.seed)
    trained = with_head(trained, start.config) if by_head else trained
    # Before an update takes the buffers that the reference reads.
    exam = _exam(config, start, held, mesh, frozen) if held else None
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
            need = pairs.needs[pairs.places[chosen].reshape(-1)]
            chosen = chosen[by_need(need, c.microbatch, mesh, 2)[::2] // 2]
        return Step(
            *update(state, place_batch(pairs.batch(chosen, reference), mesh), frozen)
        )

    if distributed.is_first():
        begin_training(folder.parent, folder.name, config, source, start, inputs)
        compile_cache.compile_log().write_to(folder / "compilations.jsonl")
    if not by_head:  # checkpoints of a head are no models
        save_outline(folder, start, source, lora)
    state = fit(sharding.place(init_state(trained, c), mesh), advance, c, folder, exam)
    learnt = state.params["model"] if by_head else state.params
    model = dataclasses.replace(
        start, params=merge(start.params, learnt, lora) if lora.rank else learnt
    )
    if by_head:
        # Attempts of a run are learnt from whole.
        cuts = c.answer == "cut" and not config.training.source
        kernel = jax.device_get(state.params["reward"]["kernel"])
        save_reward_model(folder, RewardModel(model, kernel, cuts))
    else:
        save(folder, model.config, model.params, model.tokenizer, model.stop_tokens)


def _exam(
    config: Config, start: Model, held: Pairs, mesh: Mesh, frozen: dict | None
) -> Exam:
    """Loss, accuracy and gap on pairs of problems that nothing is learnt from."""
    c, total = config.preference, len(held.places)
    reference = (
        None if config.algorithm == "reward_model" else _reference(start, held, c, mesh)
    )
    look = make_preference_exam(start.config, config.algorithm, c, config.lora, mesh)
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

    return Exam(c.eval_every, measure, "held_out/loss", lower=True)


def _reference(
    start: Model, pairs: Pairs, config: PreferenceConfig, mesh: Mesh
) -> Float[np.ndarray, "M W"]:
    """Log-probs of all completions under the start, as many at a time as an update takes."""
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
        in_order(pairs.needs),
        size,
        config.length_buckets,
        mesh,
    )
