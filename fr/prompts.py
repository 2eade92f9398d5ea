"""Chat messages as plain text, for models that have no chat template."""

from collections.abc import Sequence

QUESTION, SOLUTION = "Question:", "Solution:"


def plain_text(messages: Sequence[dict[str, str]]) -> str:
    """The few-shot form of chat messages, up to where the model is to go on.

    The system message, then `Question: ...` and `Solution: ...` for each pair of turns, a blank line between
    two pairs, and `Solution:` after the last question. A base model goes on with a next `Question:`, where its
    answer ends (`fr.tasks.extract`).
    """
    blocks = []
    for message in messages:
        content = message["content"].strip()
        if message["role"] == "assistant" and blocks:
            # An example that is only its answer states it on a line of its own, as models are asked to.
            blocks[-1] += ("\n" if content.startswith("Answer:") else " ") + content
        elif message["role"] == "user":
            blocks.append(f"{QUESTION} {content}\n{SOLUTION}")
        else:
            blocks.append(content)
    return "\n\n".join(blocks)
