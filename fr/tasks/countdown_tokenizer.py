"""The vocabulary of the Countdown lineage: 128 words, one token a number."""

import json

from tokenizers import Tokenizer, models, pre_tokenizers

from fr.tasks.countdown_checker import ANSWER
from fr.tasks.countdown_traces import LARGEST

VOCABULARY = 128
PAD, EOS, UNKNOWN = "<pad>", "<eos>", "<unk>"
_SIGNS = ("+", "-", "*", "/", "=", "(", ")", "->", ":", ",", "no", "up", "yes", ANSWER)


def build() -> Tokenizer:
    """A word-level tokenizer: words are separated by white space; ids 0, 1, 2 are pad, eos and unknown."""
    words = [PAD, EOS, UNKNOWN, *_SIGNS, *map(str, range(LARGEST + 1))]
    # A power of two rows for the embedding; the spare words are never produced.
    words += [f"<spare_{i}>" for i in range(VOCABULARY - len(words))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([PAD, EOS, UNKNOWN])
    return tokenizer


def files() -> dict[str, bytes]:
    """File name -> content of a tokenizer folder that `transformers.AutoTokenizer` opens."""
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": PAD,
        "eos_token": EOS,
        "unk_token": UNKNOWN,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 2048,
    }
    return {
        "tokenizer.json": (build().to_str(pretty=True) + "\n").encode(),
        "tokenizer_config.json": (json.dumps(config, indent=2) + "\n").encode(),
    }
