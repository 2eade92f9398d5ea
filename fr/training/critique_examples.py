"""Examples of critique fine-tuning (arXiv 2501.17703, 2506.03295) from a run."""

import dataclasses

import numpy as np

from fr import tasks
from fr.config import Config
from fr.errors import UserError
from fr.models import Model
from fr.tasks.critiques import ask_critique, critique
from fr.tasks.formats import encode_text
from fr.training.past_runs import Completion, PastRun


def critique_examples(
    past: PastRun, config: Config, model: Model, shuffled: bool
) -> list[Completion]:
    """Critiques of a run's rollouts: log P(critique | problem, response) is learnt.

    Args:
        past: The run.
        config: The whole configuration.
        model: Encodes.
        shuffled: Control: each response is shown with the critique of the problem's
            next response; problems with one response are left out.

    Returns:
        Examples, whose prompt is the problem with a response.

    Raises:
        UserError: The tokenizer cannot write a critique.
    """
    task, found = tasks.make(config.task), []
    by_problem: dict[str, list[Completion]] = {}
    for response in past.responses():
        by_problem.setdefault(response.problem, []).append(response)
    for name, responses in by_problem.items():
        problem = past.problem(name)
        asked = [
            ask_critique(task.prompt(problem), problem.task, response.text)
            for response in responses
        ]
        texts = [critique(problem, each.text, each.grade) for each in responses]
        if shuffled:
            texts = texts[1:] + texts[:1] if len(texts) > 1 else []
        for response, prompt, text in zip(responses, asked, texts):
            prompt_ids = np.array(model.encode(prompt), np.int32)
            tokens = _encode(model, text)
            found.append(
                dataclasses.replace(
                    response,
                    prompt=prompt_ids,
                    tokens=tokens,
                    learnt=np.ones(len(tokens), bool),
                )
            )
    return found


def _encode(model: Model, text: str) -> np.ndarray:
    """Ids of a critique and its stop token."""
    ids = encode_text(model, text)
    if ids is None:
        raise UserError(
            f"the tokenizer of {model.name} cannot write {text[:40]!r}, a critique; "
            "train another model"
        )
    return np.array([*ids, model.stop_tokens[0]], np.int32)
