"""Training on a model's own answers, ranked by its confidence in them: no reference answer is read (RLSF)."""

import dataclasses
import functools
import math
import random
from collections.abc import Sequence

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh
from jaxtyping import Bool, Float, Int

from fr import processes, programs, stages, store, tasks
from fr.config import Config, LoraConfig, PolicyConfig, PreferenceConfig, as_dict
from fr.diagnosis.calibration import answer_confidence
from fr.errors import UserError
from fr.models import Model, load, save, sharding
from fr.models.adapters import merge
from fr.models.orbax_io import save_outline
from fr.models.transformer import Transformer
from fr.pipeline.attempts import Planned, make_attempts, plan_attempt
from fr.pipeline.fit import with_template
from fr.pipeline.inputs import begin_training, inputs_of
from fr.pipeline.run import Run, check_chat
from fr.sampling.branches import first_tokens
from fr.sampling.devices import Devices
from fr.tasks.forced_answers import answer_span, reasoning_tokens
from fr.training.lora import master_type, split
from fr.training.policy import make_logps
from fr.training.preference import PreferenceBatch, check_preference, make_preference_update, with_head
from fr.training.reward_model import RewardModel, save_reward_model
from fr.training.state import TrainState, init_state, place_batch, training_mesh
from fr.training.trainer import Step, fit
from fr.workdir import PathLike

CANDIDATES = "candidates"  # folder of the attempts that pairs are made of
_MADE = {"dpo": "specialist", "reward_model": "reward_model"}  # folder of what an algorithm makes
_BUCKET = 32  # lengths are rounded up to it


@dataclasses.dataclass(frozen=True)
class Pairs:
    """M completions, and P pairs of them; columns of [M, W] count a completion's tokens."""

    tokens: Int[np.ndarray, "M T"]  # prompt and completion; -1 pads on the right
    start: Int[np.ndarray, "M"]
    mask: Bool[np.ndarray, "M W"]
    places: Int[np.ndarray, "P 2"]  # of the better one and of the worse
    margin: Float[np.ndarray, "P"]

    def batch(self, chosen: Sequence[int], ref_logp: Float[np.ndarray, "M W"] | None) -> PreferenceBatch:
        """The rows of some pairs, the better one of each before the worse."""
        rows, margin = self.places[chosen].reshape(-1), self.margin[chosen]
        reference = None if ref_logp is None else ref_logp[rows]
        return PreferenceBatch(self.tokens[rows], self.start[rows], self.mask[rows], margin, reference)


def train_preferences(config: Config, workdir: PathLike, ancestor: str) -> str:
    """Train the model `ancestor` on pairs of its own answers; returns `workdir/specialist`, or `/reward_model`.

    Candidates for problems of the training split go to `candidates/`, a share from each process; all train together.
    A finished model is left alone. Raises UserError for settings that do not fit, and without a pair.
    """
    folder = epath.Path(workdir) / _MADE[config.algorithm]
    if processes.agree(f"{folder.name}/finished", (folder / "config.json").exists()):
        return str(folder)
    devices = Devices(config.sampling.devices, model=config.sampling.model_axis)
    mesh = training_mesh(config.preference.model_axis, devices.everywhere)
    check_preference(config.preference, mesh)
    pairs = _pairs(config, epath.Path(workdir), ancestor, devices)
    _train(config, ancestor, pairs, mesh, folder)
    processes.wait(folder.name)
    return str(folder)


def confident_pairs(confidence: Sequence[float], least: float) -> list[tuple[int, int, float]]:
    """(better, worse, margin) of all candidates of a problem that confidence tells apart (arXiv 2507.21931).

    The better one has the larger confidence, `least` or more; the margin is exp of the difference. NaN, that of a
    candidate without an answer, pairs with nothing [ours].
    """
    each = list(enumerate(confidence))
    return [(i, j, math.exp(a - b)) for i, a in each for j, b in each if a > b and a >= least]


def _pairs(config: Config, workdir: epath.Path, ancestor: str, devices: Devices) -> Pairs:
    """Ask the ancestor for candidates and pair them; what it is sampled with goes when they are there."""
    programs.keep()
    task = tasks.make(config.task)
    problems = task.problems("train", config.preference.problems)
    model = with_template(load(ancestor, mesh=devices.mesh, stacked=devices.stacked), config)
    check_chat(config, model, task.prompt(problems[0]))
    found = {}
    if processes.is_first():
        found = inputs_of(task, problems, model, ancestor)
        found = {"candidate_questions": found.pop("questions"), "start": found.pop("specialist")} | found
        stages.open_folder(workdir, as_dict(config), found)
    processes.wait("preferences")
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
        found = first_tokens(Transformer(model.config, model.dtype), model.params, prompts, c.candidates)
        own = [[{"temperature": 0.0, "forced": (token,)} for token in row] for row in found.tolist()]
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
        lengths.append(reasoning_tokens(problem, a.tokens, run.specialist) if cuts else len(a.tokens))
        # A response that is nothing but its answer has nothing left to learn from.
        if lengths[-1]:
            groups.setdefault(a.problem, []).append(place)
    found = []
    for group in groups.values():
        pairs = confident_pairs([confidence[i] for i in group], run.config.preference.confident)
        found += [(group[better], group[worse], margin) for better, worse, margin in pairs]
    if not found:
        raise UserError(
            f"no two of {len(candidates)} candidates make a pair (the highest confidence is "
            f"{np.nanmax([0.0, *confidence]):.2f}); lower config.preference.confident"
        )
    processes.say(f"  {len(found)} pairs of {len(candidates)} candidates for {len(problems)} problems")
    places, margin = np.array([pair[:2] for pair in found]), np.array([pair[2] for pair in found], np.float32)
    return Pairs(*_table(candidates, lengths), places, margin)


def _table(
    candidates: Sequence[store.Attempt], lengths: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens, starts and masks of the first `lengths` tokens of completions, as arrays of one shape."""
    start = np.array([len(a.prompt) for a in candidates], np.int32)
    length = np.array(lengths, np.int32)
    bucket = lambda count: -(-int(count) // _BUCKET) * _BUCKET
    tokens = np.full((len(start), bucket((start + length).max())), -1, np.int32)
    for row, a, count in zip(tokens, candidates, lengths):
        row[: len(a.prompt) + count] = [*a.prompt, *a.tokens[:count]]
    return tokens, start, np.arange(bucket(length.max())) < length[:, None]


def _train(config: Config, ancestor: str, pairs: Pairs, mesh: Mesh, folder: epath.Path) -> None:
    """Train on the pairs; `folder` holds what `fit` leaves and in the end the model."""
    c, lora, by_head = config.preference, config.lora, config.algorithm == "reward_model"
    start = load(ancestor, dtype=master_type(c.dtype, lora), mesh=mesh)
    reference = None if by_head else _reference(start, pairs, c, mesh)
    update = make_preference_update(start.config, config.algorithm, c, lora, mesh)
    trained, frozen = split(start.config, start.params, lora, config.seed)
    trained = with_head(trained, start.config) if by_head else trained
    total = len(pairs.places)
    draw = lambda epoch: random.Random(f"{config.seed}/pairs/{epoch}").sample(range(total), total)
    order = functools.cache(draw)

    def advance(index: int, state: TrainState, past: Sequence[dict]) -> Step:
        # Every pair once before any comes again.
        chosen = [order(i // total)[i % total] for i in range(index * c.pairs, (index + 1) * c.pairs)]
        return Step(*update(state, place_batch(pairs.batch(chosen, reference), mesh), frozen))

    if processes.is_first():
        begin_training(folder.parent, folder.name, config, ancestor, start)
        programs.compile_log().write_to(folder / "compilations.jsonl")
    if not by_head:  # checkpoints of a head are no models
        save_outline(folder, start, ancestor, lora)
    state = fit(sharding.place(init_state(trained, c), mesh), advance, c, folder)
    learnt = state.params["model"] if by_head else state.params
    model = dataclasses.replace(start, params=merge(start.params, learnt, lora) if lora.rank else learnt)
    if by_head:
        save_reward_model(
            folder, RewardModel(model, jax.device_get(state.params["reward"]["kernel"]), c.answer == "cut")
        )
    else:
        save(folder, model.config, model.params, model.tokenizer, model.stop_tokens)


def _reference(start: Model, pairs: Pairs, config: PreferenceConfig, mesh: Mesh) -> Float[np.ndarray, "M W"]:
    """Log-probs of all completions under the ancestor, as many at a time as an update takes."""
    rows, width = config.microbatch or 2 * config.pairs, pairs.mask.shape[1]
    logps = make_logps(start.config, PolicyConfig(dtype=config.dtype), LoraConfig(), mesh)
    found = []
    for first in range(0, len(pairs.start), rows):
        # The last ones are read twice rather than in a shape of their own.
        part = np.minimum(np.arange(first, first + rows), len(pairs.start) - 1)
        placed = place_batch((pairs.tokens[part], pairs.start[part]), mesh)
        found.append(sharding.on_host(logps(start.params, *placed, width)))
    return np.concatenate(found)[: len(pairs.start)]
