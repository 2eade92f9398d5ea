"""Token ids of a completion and its prompt: as given, from bytes, or from a text."""

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from fr.errors import UserError
from fr.exchange.sampled import STOP, Sampled
from fr.models import Model
from fr.models.model import check_ids
from fr.types import Prompt

LOST = "prompt without its special tokens"
_CEILING = 1e-3  # nats above 0 that rounding explains


@dataclasses.dataclass(frozen=True)
class Read:
    """A completion as token ids of the run's model, [T].

    Attributes:
        tokens: Ids, the stop token included where one ended it.
        logp: The engine's log-probs in nats; NaN where one is not known.
        truncated: It has no stop token.
        marks: What was done to it: `retokenised`, `stop added`, `end guessed`, ....
    """

    tokens: Int[np.ndarray, "T"]
    logp: Float[np.ndarray, "T"]
    truncated: bool
    marks: tuple[str, ...]


class Reader:
    """Makes token ids of a model's vocabulary."""

    def __init__(self, model: Model, budget: int):
        """Make no table yet.

        Args:
            model: The model that was sampled.
            budget: New tokens of a rollout, for files that do not say how one ended.
        """
        self._model, self._budget = model, budget
        self._ids: dict[bytes, int] | None = None

    def prompt(self, sampled: Sampled, usual: Prompt) -> tuple[tuple[int, ...], str]:
        """Token ids of a prompt.

        Args:
            sampled: The completion.
            usual: The prompt of the run's own task, where the file has none.

        Returns:
            Ids, and how they were found: `""` (given), `prompt retokenised`, `prompt of
            the task` or LOST.

        Raises:
            UserError: An id has no embedding.
        """
        if sampled.prompt_tokens:
            ids = _whole(sampled.prompt_tokens, f"{sampled.where}: its prompt")
            self._check(ids, f"{sampled.where}: its prompt")
            return tuple(ids), ""
        if sampled.prompt is None or _says(sampled.prompt, usual):
            return self._model.encode(usual), "prompt of the task"
        own = self._model.encode(usual) if sampled.decoded else ()
        if own and self._model.decode(own).strip() == str(sampled.prompt).strip():
            return own, "prompt of the task"
        ids = list(self._model.encode(sampled.prompt))
        begin = self._model.tokenizer.bos_token_id
        # The text may begin with the mark that the tokenizer adds.
        while len(ids) > 1 and ids[0] == ids[1] == begin:
            ids = ids[1:]
        decode = self._model.decode
        if any(decode([i]) != decode([i], special=True) for i in {*own} - {*ids}):
            return tuple(ids), LOST
        return tuple(ids), "prompt retokenised"

    def completion(self, sampled: Sampled) -> Read:
        """Token ids and log-probs of a completion.

        Args:
            sampled: The completion.

        Returns:
            The ids.

        Raises:
            UserError: An id has no embedding, or a log-prob is above 0.
        """
        tokens, marks = self._tokens(sampled)
        logp = np.full(len(tokens), math.nan, np.float32)
        if sampled.logp is not None and "retokenised" not in marks:
            logp = _logp(sampled.logp, sampled.where)
        stops = self._model.stop_tokens
        # Ids are complete as they are given; a text is without its stop token.
        open_end = sampled.tokens is None and not sampled.stopped
        if tokens and tokens[-1] in stops:
            open_end = False
        ended = sampled.ended == STOP or not sampled.ended and self._short(tokens)
        if open_end and ended:
            tokens, logp = [*tokens, self._stop()], np.append(logp, np.float32("nan"))
            marks += ("stop token added",)
        if not sampled.ended and sampled.tokens is None:
            marks += ("end not known",)
        ends = bool(tokens) and tokens[-1] in stops
        return Read(np.array(tokens, np.int32), logp, not ends, marks)

    def _short(self, tokens: Sequence[int]) -> bool:
        return len(tokens) < self._budget

    def _tokens(self, sampled: Sampled) -> tuple[list[int], tuple[str, ...]]:
        if sampled.tokens is not None:
            ids = _whole(sampled.tokens, sampled.where)
            self._check(ids, sampled.where)
            return ids, ()
        text = sampled.text or ""
        if sampled.pieces is not None:
            table = self._table()
            # Some decoders put a space before a word; the text decides below.
            found = [table.get(p, table.get(p.strip(), -1)) for p in sampled.pieces]
            if min(found, default=0) >= 0 and self._model.decode(found) == text:
                return found, ("ids from bytes",)
        encode: Any = self._model.tokenizer
        ids = encode(text, add_special_tokens=False)["input_ids"] if text else []
        changed = self._model.decode(ids) != text
        return ids, ("retokenised",) + ("text changed",) * changed

    def _check(self, ids: Sequence[int], what: str) -> None:
        check_ids(ids, self._model.vocab, what)

    def _stop(self) -> int:
        stops, end = self._model.stop_tokens, self._model.tokenizer.eos_token_id
        if not stops:
            raise UserError(f"{self._model.name} has no stop token")
        return end if end in stops else stops[0]

    def _table(self) -> dict[bytes, int]:
        """Ids by their bytes; -1 where several tokens have the same."""
        if self._ids is None:
            self._ids = {}
            for token, i in _bytes_of(self._model.tokenizer):
                self._ids[token] = -1 if token in self._ids else i
        return self._ids


def _says(prompt: Prompt, usual: Prompt) -> bool:
    """True for one message of the task's plain text: a chat around it is not known."""
    if isinstance(prompt, str) or not isinstance(usual, str) or len(prompt) != 1:
        return False
    return prompt[0]["content"].strip() == usual.strip()


def _whole(values: Sequence[Any], what: str) -> list[int]:
    if not isinstance(values, list | tuple) or not all(type(v) is int for v in values):
        raise UserError(f"{what}: its token ids must be a list of whole numbers")
    return list(values)


def _logp(values: Sequence[float | None], where: str) -> np.ndarray:
    found = np.array([math.nan if v is None else v for v in values], np.float64)
    found[~np.isfinite(found)] = math.nan
    if len(found) and np.nanmax(found, initial=-1.0) > _CEILING:
        raise UserError(
            f"{where}: a log-prob is {np.nanmax(found):.3g}, above 0; log-probs in "
            "nats are read, not probabilities"
        )
    found[found < np.finfo(np.float32).min] = math.nan
    return found.astype(np.float32)


def _bytes_of(tokenizer: Any) -> list[tuple[bytes, int]]:
    """The bytes that each token of a vocabulary stands for."""
    added = {t.content: i for i, t in tokenizer.added_tokens_decoder.items()}
    described = json.loads(tokenizer.backend_tokenizer.to_str())
    by_byte = '"ByteLevel"' in json.dumps(described.get("decoder"))
    letters, found = _letters(), []
    for token, i in tokenizer.get_vocab().items():
        if token in added:
            found.append((token.encode(), i))
        elif by_byte and all(c in letters for c in token):
            found.append((bytes(letters[c] for c in token), i))
        elif len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            found.append((bytes.fromhex(token[3:5]), i))
        else:
            found.append((token.replace("\u2581", " ").encode(), i))
    return found


def _letters() -> dict[str, int]:
    """The letters that byte-level vocabularies write for bytes (GPT-2)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    moved = {chr(256 + place): byte for place, byte in enumerate(others)}
    return {chr(byte): byte for byte in plain} | moved
