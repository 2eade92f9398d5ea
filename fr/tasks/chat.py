"""How a question is put to a model: worked examples, then the question, as chat messages or as plain text."""

import re
from collections.abc import Iterable

from fr.config import TaskConfig
from fr.prompts import plain_text
from fr.tasks.extract import CUE
from fr.types import Prompt


def ask(
    config: TaskConfig, question: str, shots: Iterable[tuple[str, str, str]]
) -> Prompt:
    """The prompt of a question under `config.system`, `config.template` and `config.instruction`.

    Args:
      config: with `chat` = plain the result is text (`plain_text`), else messages for the model's own template.
      question: what is asked.
      shots: (question, solution or "", answer) of each worked example.
    """
    messages = [{"role": "system", "content": config.system}] if config.system else []
    for asked, solution, answer in shots:
        messages += [
            {"role": "user", "content": _turn(config, asked)},
            {"role": "assistant", "content": worked(solution, answer)},
        ]
    messages.append({"role": "user", "content": _turn(config, question)})
    return plain_text(messages) if config.chat == "plain" else messages


def worked(solution: str, answer: str) -> str:
    """How a right completion reads: a solution, or "", and a last line with the answer."""
    return f"{solution}\n{CUE} {answer}".lstrip()


def _turn(config: TaskConfig, question: str) -> str:
    # In one pass: a question may itself hold the name of a place.
    values = {"{question}": question, "{instruction}": config.instruction}
    return re.sub(
        r"\{question\}|\{instruction\}", lambda m: values[m[0]], config.template
    ).strip()
