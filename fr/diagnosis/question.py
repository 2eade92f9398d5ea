"""What the words of a question say before any attempt: numbers for a baseline that reads no failure."""

import re
import zlib

import numpy as np

BAG = 16  # buckets of hashed words
QUESTION_COLUMNS = (
    "question_length",
    "question_words",
    "question_digits",
    *(f"question_bag_{i}" for i in range(BAG)),
)


def question_features(prompt: str | list[dict]) -> dict[str, float]:
    """Numbers of a prompt, by QUESTION_COLUMNS: its length, and the shares of its words in hashed buckets.

    Args:
        prompt: text, or chat messages, of which the contents are read.

    Returns:
        Logarithm of one plus the characters and the words, share of characters that are
        digits, and of each bucket the share of the words that fall into it
        (feature hashing, arXiv 0902.2206).
    """
    text = (
        prompt
        if isinstance(prompt, str)
        else "\n".join(str(m.get("content", "")) for m in prompt)
    )
    words = re.findall(r"\w+|[^\w\s]", text.lower())
    bucket = np.array([zlib.crc32(word.encode()) % BAG for word in words], int)
    shares = np.bincount(bucket, minlength=BAG) / max(len(words), 1)
    digits = sum(letter.isdigit() for letter in text) / max(len(text), 1)
    values = (np.log1p(len(text)), np.log1p(len(words)), digits, *shares)
    return dict(zip(QUESTION_COLUMNS, map(float, values)))
