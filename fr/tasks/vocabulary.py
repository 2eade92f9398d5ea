"""Tokenizers of words, for models that are made from random numbers."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tokenizers import Tokenizer, models, pre_tokenizers

from fr.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, EOS, UNKNOWN = "<pad>", "<eos>", "<unk>"  # ids 0, 1 and 2


def word_level(words: Iterable[str], size: int) -> Tokenizer:
    """Tokenizer of words between white space; ids 0, 1, 2 are pad, eos and unknown.

    Args:
        words: The words, each once.
        size: Rows of the embedding; the words that are missing are spare ones, which
            no text holds.

    Returns:
        The tokenizer.

    Raises:
        UserError: There are more words than rows.
    """
    known = [PAD, EOS, UNKNOWN, *words]
    if len(known) > size:
        raise UserError(f"a vocabulary of {size} has no room for {len(known)} words")
    known += [f"<spare_{i}>" for i in range(size - len(known))]
    tokenizer = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(known)}, unk_token=UNKNOWN)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([PAD, EOS, UNKNOWN])
    return tokenizer


def as_transformers(tokenizer: Tokenizer) -> "PreTrainedTokenizerFast":
    """A tokenizer of `word_level` in the form that `fr.models` holds and saves.

    Args:
        tokenizer: The tokenizer.

    Returns:
        The same, as a class of transformers.
    """
    # Imported where it is used: it takes a second or more.
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False,
        model_max_length=2048,
    )
