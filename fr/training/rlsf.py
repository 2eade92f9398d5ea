"""Pairs of a model's own answers, ranked by its confidence (RLSF, arXiv 2507.21931)."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from etils import epath

from fr import compile_cache, distributed, store, tasks
from fr.config import Config, as_dict
from fr.errors import UserError
from fr.models import load
from fr.runs import stages
from fr.runs.attempts import make_attempts
from fr.runs.compatibility import with_template
from fr.runs.inputs import inputs_of, own_parts
from fr.runs.planned import Planned, plan_attempt
from fr.runs.run import Run, check_chat
from fr.sampling.cot_decoding import branch_params
from fr.sampling.devices import Devices
from fr.stats.calibration import answer_confidence
from fr.tasks.formats import answer_span, reasoning_tokens
from fr.training.pairs import Pairs, padded_rows

CANDIDATES = "candidates"  # folder of the attempts that pairs are made of


def confident_pairs(
    confidence: Sequence[float], least: float
) -> list[tuple[int, int, float]]:
    """Pairs of a problem's candidates that confidence tells apart (arXiv 2507.21931).

    The better one has the larger confidence, at least `least`; the margin is
    exp(c_better - c_worse). A candidate without an answer (NaN) is in no pair [ours].

    Args:
        confidence: Confidence of each candidate in its answer.
        least: Smallest confidence of a better candidate.

    Returns:
        (better, worse, margin) by index of candidates.
    """
    each = list(enumerate(confidence))
    return [
        (i, j, math.exp(a - b))
        for i, a in each
        for j, b in each
        if a > b and a >= least
    ]


def candidate_pairs(
    config: Config, workdir: epath.Path, ancestor: str, devices: Devices
) -> Pairs:
    """Sample candidates from the ancestor and pair them; the sampler is then freed.

    Args:
        config: The whole configuration.
        workdir: Receives the folder `candidates/`.
        ancestor: Name of the model that answers.
        devices: Devices of the sampler.

    Returns:
        The pairs.
    """
    compile_cache.keep()
    task = tasks.make(config.task)
    problems = task.problems("train", config.preference.problems)
    model = with_template(
        load(ancestor, mesh=devices.mesh, stacked=devices.layout.scanned), config
    )
    check_chat(config, model, task.prompt(problems[0]))
    found = {}
    if distributed.is_first():
        found = inputs_of(task, problems, model, ancestor) | own_parts(config)
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
    """Candidates: samples, or greedy from each of the most likely first tokens."""
    c, model = run.config.preference, run.specialist
    prompts = [model.encode(run.task.prompt(problem)) for problem in run.problems]
    own: list[list[dict]] = [[{}] * c.candidates] * len(prompts)
    if c.source == "branches":
        own = branch_params(model, prompts, c.candidates)
    return [
        plan_attempt(run, prompt, problem, c.source, i, params, False)
        for problem, prompt, each in zip(run.problems, prompts, own)
        for i, params in enumerate(each)
    ]


def make_pairs(run: Run, candidates: Sequence[store.Attempt]) -> Pairs:
    """Pair the candidates of each problem by confidence.

    With `preference.answer` = cut both responses of a pair end before the sentence that
    states the answer, so that confidence in an answer is not trained for itself (arXiv
    2507.21931).

    Args:
        run: The model, its problems and settings.
        candidates: Attempts in the order of the store.

    Returns:
        The pairs.

    Raises:
        UserError: No two candidates make a pair.
    """
    problems = {problem.id: problem for problem in run.problems}
    confidence, lengths = [], []
    groups: dict[str, list[int]] = {}
    cuts = run.config.preference.answer == "cut"
    for place, a in enumerate(candidates):
        problem, tokens = problems[a.problem], a.tokens.tolist()
        span = answer_span(problem, tokens, run.specialist)
        confidence.append(answer_confidence(a.stats["margin"], span))
        lengths.append(
            reasoning_tokens(problem, tokens, run.specialist) if cuts else len(tokens)
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
            f"no two of {len(candidates)} candidates make a pair (the highest "
            f"confidence is {np.nanmax([0.0, *confidence]):.2f}); lower "
            "config.preference.confident"
        )
    distributed.print0(
        f"  {len(found)} pairs of {len(candidates)} candidates for {len(problems)} "
        "problems"
    )
    places, margin = (
        np.array([pair[:2] for pair in found]),
        np.array([pair[2] for pair in found], np.float32),
    )
    learnt = [np.ones(count, bool) for count in lengths]
    shown = [a.tokens[:count] for a, count in zip(candidates, lengths)]
    return Pairs(
        *padded_rows([a.prompt for a in candidates], shown, learnt), places, margin
    )
