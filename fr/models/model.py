"""A loaded model: parameters, tokenizer and the plain forward pass."""

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from fr.errors import UserError
from fr.models.chat_template import encode_chat, hidden_ids
from fr.models.config import ModelConfig
from fr.models.fingerprint import fingerprint
from fr.models.tokenizer import one_line_errors
from fr.models.transformer import Transformer
from fr.prompts import plain_text
from fr.types import Prompt


@dataclasses.dataclass(frozen=True)
class Model:
    """The contents of a source of weights.

    Attributes:
        config: Shape and traits of the decoder.
        params: Parameters, layers stacked or a tuple of trees.
        tokenizer: A transformers tokenizer; None: the source has none.
        stop_tokens: Ids that end a text.
        name: The source, for errors and records.
        files: Files that it was read from.
        template_kwargs: Variables of the chat template.
    """

    config: ModelConfig
    params: dict
    tokenizer: Any
    stop_tokens: tuple[int, ...] = ()
    name: str = ""
    files: tuple[Path, ...] = ()
    template_kwargs: tuple[tuple[str, object], ...] = ()

    @property
    def dtype(self) -> jnp.dtype:
        """Type of parameters and compute."""
        return self.params["embed"]["embedding"].dtype

    @property
    def vocab(self) -> int:
        """Number of token ids that have an embedding."""
        return self.config.vocab

    @property
    def chat(self) -> bool:
        """True if the tokenizer has a template for chat messages."""
        return self.tokenizer is not None and bool(self.tokenizer.chat_template)

    @functools.cached_property
    def fingerprint(self) -> str | None:
        """A hash of the model's files and the hub's commit; None without files."""
        return fingerprint(self.files) or None

    def logits(
        self,
        tokens: Int[Array, "B T"] | Sequence[Sequence],
        mask: Shaped[Array | np.ndarray, "B T"] | None = None,
    ) -> Float[Array, "_ _ _"]:
        """The plain forward pass: no cache, compiled once per shape.

        Args:
            tokens: Token ids.
            mask: False on pads, on either side; None: no pads. Logits of pads are
                meaningless.

        Returns:
            Float32 next-token logits.
        """
        ids = jnp.asarray(tokens, jnp.int32)
        mask = jnp.ones(ids.shape, bool) if mask is None else jnp.asarray(mask, bool)
        return _forward(self.config, self.dtype, self.params, ids, mask)

    def encode(self, prompt: Prompt) -> tuple[int, ...]:
        """Token ids of a prompt.

        Args:
            prompt: Plain text, or chat messages. Messages are written in the model's
                own template up to where it replies, or without one as
                `fr.prompts.plain_text`.

        Returns:
            Token ids.

        Raises:
            UserError: There is no tokenizer, or an id has no embedding.
        """
        tokenizer = self._need_tokenizer()
        if isinstance(prompt, str) or not self.chat:
            text = prompt if isinstance(prompt, str) else plain_text(prompt)
            with one_line_errors(f"{self.name}: its tokenizer fails"):
                ids = tokenizer(text)["input_ids"]
        else:
            ids = encode_chat(tokenizer, prompt, dict(self.template_kwargs), self.name)
        check_ids(ids, self.config.vocab, f"{self.name}: its tokenizer")
        return tuple(ids)

    def decode(self, ids, special: bool = False) -> str:
        """Text of token ids.

        Args:
            ids: Token ids.
            special: Keep control tokens, such as the end of a turn. Tokens that mark
                thoughts or answers (`<think>`) are always kept.

        Returns:
            The text.
        """
        ids, tokenizer = np.asarray(ids, np.int64).tolist(), self._need_tokenizer()
        ids = ids if special else [i for i in ids if i not in self._hidden]
        with one_line_errors(f"{self.name}: its tokenizer fails"):
            return tokenizer.decode(
                ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
            )

    @functools.cached_property
    def _hidden(self) -> frozenset[int]:
        return hidden_ids(self.tokenizer, self.stop_tokens)

    @functools.cached_property
    def opens_thought(self) -> bool:
        """True if the chat template begins a thought, which completions continue."""
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
    """Check that token ids have an embedding: a gather would silently read another row.

    Args:
        ids: Token ids.
        vocab: Rows of the embedding.
        what: Start of the error.

    Raises:
        UserError: An id is outside [0, vocab).
    """
    for i in ids:
        if not 0 <= i < vocab:
            raise UserError(
                f"{what} gives id {i}, and the embedding has {vocab} rows (0 to "
                f"{vocab - 1})"
            )


def check_context(models: Iterable[Model], length: int, what: str, setting: str) -> str:
    """Check that rows of a length fit the models.

    Args:
        models: The models.
        length: Positions of the longest row.
        what: The prompts, for messages.
        setting: Name of the setting of new tokens.

    Returns:
        A warning if the length is beyond the one that a model is declared for, else "".

    Raises:
        UserError: The rotary frequencies of a model are not made for this length.
    """
    for model in models:
        c = model.config
        if length > c.context:
            raise UserError(
                f"{what} and {setting} need {length} positions, and "
                f"{model.name or 'the model'} has {c.context}; lower {setting} or ask "
                "shorter questions"
            )
        if length > c.max_positions:
            return (
                f"{what} and {setting} need {length} positions: {model.name} is scaled "
                f"beyond {c.max_positions}"
            )
    return ""


def positions_of(mask: Bool[Array, "B T"]) -> Int[Array, "B T"]:
    """Positions of a row's own tokens, counted from 0; -1 on pads.

    Args:
        mask: False on pads, on either side.

    Returns:
        Positions.
    """
    return jnp.where(mask, jnp.cumsum(mask, axis=-1, dtype=jnp.int32) - 1, -1)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _forward(config: ModelConfig, dtype, params, tokens, mask) -> Float[Array, "B T V"]:
    # Pads may come first, which a kernel would not know.
    return Transformer(config, dtype, attention="").apply(
        {"params": params}, tokens, positions_of(mask)
    )[0]
