"""The vocabulary of the Countdown lineage: 128 words, one token a number."""

from tokenizers import Tokenizer, models, pre_tokenizers

from fr.tasks.countdown_checker import ANSWER
from fr.tasks.countdown_traces import LARGEST

VOCABULARY = 128
PAD, EOS, UNKNOWN = "<pad>", "<eos>", "<unk>"
_SIGNS = ("+", "-", "*", "/", "=", "(", ")", "->", ":", ",", "no", "up", "yes", ANSWER)


def word_level() -> Tokenizer:
    """The tokenizer itself: words are separated by white space; ids 0, 1, 2 are pad, eos and unknown."""
    words = [PAD, EOS, UNKNOWN, *_SIGNS, *map(str, range(LARGEST + 1))]
    # A power of two rows for the embedding; the spare words are never produced.
    words += [f"<spare_{i}>" for i in range(VOCABULARY - len(words))]
    tokenizer = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=UNKNOWN)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([PAD, EOS, UNKNOWN])
    return tokenizer


def countdown_tokenizer() -> "transformers.PreTrainedTokenizerFast":  # noqa: F821
    """The same in the form that `fr.models` holds and saves."""
    # Imported where it is used: it takes a second or more.
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=word_level(),
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False,
        model_max_length=2048,
    )
