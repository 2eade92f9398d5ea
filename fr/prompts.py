"""Chat messages as plain text, for models that have no chat template."""

from collections.abc import Sequence

QUESTION, SOLUTION = "Question:", "Solution:"


def plain_text(messages: Sequence[dict[str, str]]) -> str:
    """The few-shot form of chat messages, up to the place where the model continues.

    The system message, then `Question: ...` and `Solution: ...` for each pair of turns,
    a blank line between pairs, and `Solution:` after the last question. A base model
    may continue with a new `Question:`; its answer ends there (`fr.tasks`).

    Args:
      messages: chat messages with "role" and "content".

    Returns:
      The prompt.
    """
    blocks: list[str] = []
    for message in messages:
        content = message["content"].strip()
        if message["role"] == "assistant" and blocks:
            # An example without reasoning has its answer on a line of its own.
            blocks[-1] += ("\n" if content.startswith("Answer:") else " ") + content
        elif message["role"] == "user":
            blocks.append(f"{QUESTION} {content}\n{SOLUTION}")
        else:
            blocks.append(content)
    return "\n\n".join(blocks)
