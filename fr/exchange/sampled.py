"""A completion as another tool wrote it, and the registry of the tools' formats."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

from fr.registry import Registry
from fr.types import Prompt

FORMATS = Registry("format")
STOP, LENGTH = "stop", "length"  # ends of a completion: a stop token, or the budget


@dataclasses.dataclass(frozen=True)
class Sampled:
    """One completion of a file. T is the number of its tokens.

    Attributes:
        where: `file:line`, for messages.
        name: Name that the tool gave it; "": none. Equal names with equal completions
            of a problem are one rollout.
        ids: Texts that may be the id of its problem, the best first.
        question: The file's own question; "": it has none.
        reference: The file's own answer to it.
        prompt: What was asked: text or messages; None: only ids.
        prompt_tokens: Its token ids; None: the file has none.
        decoded: A prompt of text was decoded from ids, perhaps without special tokens.
        text: The completion; None: only ids.
        tokens: Token ids, [T]; None: the file has none.
        pieces: The bytes of every token, [T], where there are no ids.
        logp: Log-probs of the tokens in nats, [T]; None or NaN: not known.
        ended: `stop`, `length` or "" (not known).
        stopped: A text, or a token of the request, ended it: no stop token was drawn.
        reward: The tool's own reward, which is kept and no grade; NaN: none.
        model: The model as the tool calls it.
        settings: Sampling settings by names of the store, as far as the file has them.
        unread: A reason to leave it out; "": it is read.
    """

    where: str
    name: str = ""
    ids: tuple[str, ...] = ()
    question: str = ""
    reference: str = ""
    prompt: Prompt | None = None
    prompt_tokens: Sequence[int] | None = None
    decoded: bool = False
    text: str | None = None
    tokens: Sequence[int] | None = None
    pieces: Sequence[bytes] | None = None
    logp: Sequence[float | None] | None = None
    ended: str = ""
    stopped: bool = False
    reward: float = math.nan
    model: str = ""
    settings: Mapping[str, float] = dataclasses.field(default_factory=dict)
    unread: str = ""


class Row(NamedTuple):
    """A stored attempt that is written for another tool. T tokens."""

    problem: str  # id of the problem
    attempt: int  # index among the problem's attempts by the operator
    operator: str  # its name
    task: str  # name of the task
    model: str  # the sampled model
    question: str  # of the problem
    reference: str  # answer of the problem
    prompt: list[int]  # token ids
    prompt_text: str | None  # decoded; None: the tokenizer is not on this machine
    tokens: list[int]  # token ids, the stop token included
    pieces: list[str] | None  # the text that each token adds
    logp: list[float | None]  # nats, temperature 1, [T]
    text: str  # of the new tokens without the stop token
    truncated: bool  # it has no stop token
    grade: str  # one of fr.types.GRADES
    answer: str | None  # the answer that the grader found
    temperature: float | None  # of the draws
    top_p: float | None  # of the draws


@dataclasses.dataclass(frozen=True)
class Format:
    """Files of one tool.

    Attributes:
        suffixes: Endings of its files.
        records: path -> (place for messages, record) of each record, as a stream.
        completions: (place, record) -> its completions, whose fields may have any type.
        write: (rows, file) -> nothing; writes stored attempts as the tool would.
        texts: Its files have no token ids.
        prompts: It is written with the prompt's text, which needs the tokenizer.
    """

    suffixes: tuple[str, ...]
    records: Callable[[str], Iterator[tuple[str, Any]]]
    completions: Callable[[str, Any], Iterable[Sampled]]
    write: Callable[[Iterable[Row], BinaryIO], None]
    texts: bool = False
    prompts: bool = False


def exact(logp: Sequence[float | None]) -> list[float | None]:
    """Log-probs for JSON, which read back as the same float32.

    Args:
        logp: Nats.

    Returns:
        Numbers of nine digits; None where one is not known.
    """
    known = (None if v is None or not math.isfinite(v) else v for v in logp)
    return [None if v is None else float(f"{v:.9g}") for v in known]
