"""Chat prompts: worked examples as turns of their own, then the question."""

from collections.abc import Iterable

from fr.tasks.extract import CUE

INSTRUCTION = f'End with a line "{CUE}" and the answer.'


def chat(question: str, shots: Iterable[tuple[str, str, str]]) -> list[dict[str, str]]:
    """Messages for a model's own template; `shots` are (question, solution or "", answer)."""
    messages = []
    for asked, solution, answer in shots:
        messages += [
            {"role": "user", "content": f"{asked}\n{INSTRUCTION}"},
            {"role": "assistant", "content": f"{solution}\n{CUE} {answer}".lstrip()},
        ]
    return [*messages, {"role": "user", "content": f"{question}\n{INSTRUCTION}"}]
