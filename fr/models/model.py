"""A loaded model: parameters, tokenizer and the plain forward pass."""

import dataclasses
import functools
from collections.abc import Iterable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from fr.errors import UserError
from fr.models.chat_template import encode_chat, hidden_ids
from fr.models.config import ModelConfig
from fr.models.fingerprint import fingerprint
from fr.models.tokenizer import reads
from fr.models.transformer import Transformer
from fr.prompts import plain_text
from fr.types import Prompt


@dataclasses.dataclass(frozen=True)
class Model:
    """All that a source of weights holds; parameters are stacked by layer, as `init_params` lays them out."""

    config: ModelConfig
    params: dict
    tokenizer: (
        object | None
    )  # of transformers; None: the source has none, and only ids go in
    stop_tokens: tuple[int, ...] = ()  # any of them ends a text
    name: str = ""  # the source, for errors and records
    files: tuple[Path, ...] = ()  # that it was read from
    template_kwargs: tuple[
        tuple[str, object], ...
    ] = ()  # variables of the chat template

    @property
    def dtype(self) -> jnp.dtype:
        """Type of parameters and compute."""
        return self.params["embed"]["embedding"].dtype

    @property
    def chat(self) -> bool:
        """Whether the tokenizer has a template for chat messages."""
        return self.tokenizer is not None and bool(self.tokenizer.chat_template)

    @functools.cached_property
    def fingerprint(self) -> str | None:
        """A hash of the files that the model was read from, and the hub's commit; None if of none."""
        return fingerprint(self.files) or None

    def logits(
        self, tokens: Int[Array, "B T"], mask: Bool[Array, "B T"] | None = None
    ) -> Float[Array, "B T V"]:
        """The plain forward pass: float32 next-token logits, without a cache, compiled once per shape.

        `mask` is False on pads, on either side; their own logits mean nothing.
        """
        tokens = jnp.asarray(tokens, jnp.int32)
        mask = jnp.ones(tokens.shape, bool) if mask is None else jnp.asarray(mask, bool)
        return _forward(self.config, self.dtype, self.params, tokens, mask)

    def encode(self, prompt: Prompt) -> tuple[int, ...]:
        """Ids of plain text, or of chat messages in the model's own template, up to where it is to speak.

        Without a template messages are read in their plain form (`fr.prompts.plain_text`). Raises UserError
        where there is no tokenizer, and for an id that has no embedding.
        """
        tokenizer = self._need_tokenizer()
        if isinstance(prompt, str) or not self.chat:
            text = prompt if isinstance(prompt, str) else plain_text(prompt)
            with reads(f"{self.name}: its tokenizer fails"):
                ids = tokenizer(text)["input_ids"]
        else:
            ids = encode_chat(tokenizer, prompt, dict(self.template_kwargs), self.name)
        check_ids(ids, self.config.vocab, f"{self.name}: its tokenizer")
        return tuple(ids)

    def decode(self, ids, special: bool = False) -> str:
        """Text of ids, as they stand; `special` keeps control tokens such as an end of turn.

        Special tokens that mark what is said, as `<think>` and `<answer>`, are always kept.
        """
        ids, tokenizer = np.asarray(ids, np.int64).tolist(), self._need_tokenizer()
        ids = ids if special else [i for i in ids if i not in self._hidden]
        with reads(f"{self.name}: its tokenizer fails"):
            return tokenizer.decode(
                ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
            )

    @functools.cached_property
    def _hidden(self) -> frozenset[int]:
        return hidden_ids(self.tokenizer, self.stop_tokens)

    @functools.cached_property
    def opens_thought(self) -> bool:
        """Whether its chat template begins a thought that completions go on with."""
        if not self.chat:
            return False
        begun = self.decode(self.encode([{"role": "user", "content": "?"}])[-16:])
        return begun.rstrip().endswith(("<think>", "<thinking>", "[THINK]"))

    def _need_tokenizer(self):
        if self.tokenizer is None:
            raise UserError(
                f"{self.name} has no tokenizer (tokenizer.json, tokenizer_config.json)"
            )
        return self.tokenizer


def check_ids(ids: Iterable[int], vocab: int, what: str) -> None:
    """Raise UserError for an id without an embedding: a gather would read another row, in silence."""
    for i in ids:
        if not 0 <= i < vocab:
            raise UserError(
                f"{what} gives id {i}, and the embedding has {vocab} rows (0 to {vocab - 1})"
            )


def check_context(models: Iterable[Model], length: int, what: str, setting: str) -> str:
    """What to warn of where rows of `length` positions reach beyond the length that a model is declared for.

    "" where they do not. Raises UserError, naming the `setting` of new tokens, where the rotary frequencies
    are not made for so many positions.
    """
    for model in models:
        c = model.config
        if length > c.context:
            raise UserError(
                f"{what} and {setting} need {length} positions, and {model.name or 'the model'} has {c.context}; "
                f"lower {setting} or ask shorter questions"
            )
        if length > c.max_positions:
            return f"{what} and {setting} need {length} positions: {model.name} is scaled beyond {c.max_positions}"
    return ""


def positions_of(mask: Bool[Array, "B T"]) -> Int[Array, "B T"]:
    """Positions that count a row's own tokens from 0, whichever side its pads are on; -1 on pads."""
    return jnp.where(mask, jnp.cumsum(mask, axis=-1, dtype=jnp.int32) - 1, -1)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _forward(config: ModelConfig, dtype, params, tokens, mask) -> Float[Array, "B T V"]:
    return Transformer(config, dtype).apply(
        {"params": params}, tokens, positions_of(mask)
    )[0]
