"""Make the golden tokenizers: small vocabularies of each family's exact pipeline, and
transformers' ids.

    PYTHONPATH=tests python tests/golden/make_tokenizers.py

A tokenizer.json of the pipeline that the family publishes, trained on those texts and
some words, the same vocabulary as a GGUF file holds it, and the ids that transformers
gives for the texts of `nasty`.
"""

import gzip
import json
from pathlib import Path

from golden.nasty import TEXTS
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    processors,
    trainers,
)
from tokenizers import pre_tokenizers as pre
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import generate_merges

HERE = Path(__file__).parent / "tokenizers"
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}DIGITS| "
    r"?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def byte_level(name: str, vocabulary: int = 700) -> Tokenizer:
    """A byte-level tokenizer as SmolLM2, Llama 3, or Qwen 2 and 3 publish it."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=name == "llama3"))
    spelling = pre.ByteLevel(add_prefix_space=False, use_regex=False)
    digits = "{1,3}" if name == "llama3" else ""
    words = pre.Split(Regex(WORDS.replace("DIGITS", digits)), behavior="isolated")
    tokenizer.pre_tokenizer = pre.Sequence([words, spelling])
    if name == "smollm2":
        whole = pre.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True)
        tokenizer.pre_tokenizer = pre.Sequence(
            [pre.Digits(individual_digits=True), whole]
        )
    if name == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|begin_of_text|>", "<|eot_id|>"] if name == "llama3" else CHAT
    alphabet = pre.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, initial_alphabet=alphabet, special_tokens=special
    )
    tokenizer.train_from_iterator(_text(), trainer)
    tokenizer.add_tokens(
        [AddedToken(t, normalized=False) for t in ("<think>", "</think>")]
    )
    if name == "llama3":
        start = (special[0], tokenizer.token_to_id(special[0]))
        tokenizer.post_processor = processors.TemplateProcessing(
            f"{start[0]} $A", special_tokens=[start]
        )
    return tokenizer


def sentencepiece(name: str) -> Tokenizer:
    """A sentencepiece tokenizer as transformers converts the tokenizers of Llama 2
    and Mistral, or of Gemma.
    """
    gemma = name == "gemma"
    learner = Tokenizer(models.BPE())
    learner.normalizer = normalizers.Replace(" ", "▁")
    learner.pre_tokenizer = pre.Split(Regex(r"▁*[^▁]*"), behavior="isolated")
    learner.train_from_iterator(_text(), trainers.BpeTrainer(vocab_size=600))
    pieces = sorted(learner.get_vocab(), key=learner.get_vocab().get)
    pieces = [p for p in pieces if "▁▁" not in p and "\n" not in p and "\t" not in p]
    runs = (
        ["\n" * n for n in range(1, 6)]
        + ["▁" * n for n in range(2, 32)]
        + ["\t\t", "\t\t\t"]
    )
    special = (
        ["<pad>", "<eos>", "<bos>", "<unk>"] if gemma else ["<unk>", "<s>", "</s>"]
    )
    turns = ["<start_of_turn>", "<end_of_turn>"] if gemma else []
    letters = [p for p in pieces if len(p) == 1]
    long = [p for p in pieces if len(p) > 1]
    middle = runs if gemma else ["▁▁", "▁▁▁▁"]
    tokens = [
        *special,
        *turns,
        *middle,
        *(f"<0x{i:02X}>" for i in range(256)),
        *long,
        *letters,
    ]
    vocab = {token: i for i, token in enumerate(tokens)}
    scores = {token: -float(i) for i, token in enumerate(tokens)}
    merges = generate_merges(vocab, None if gemma else scores)
    model = models.BPE(
        vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True
    )
    tokenizer = Tokenizer(model)
    spaces = normalizers.Replace(" ", "▁")
    tokenizer.normalizer = (
        spaces if gemma else normalizers.Sequence([normalizers.Prepend("▁"), spaces])
    )
    if gemma:
        tokenizer.pre_tokenizer = pre.Split(" ", behavior="merged_with_previous")
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(
        steps + ([] if gemma else [decoders.Strip(" ", 1, 0)])
    )
    tokenizer.add_special_tokens(
        [AddedToken(t, normalized=False, special=True) for t in special + turns]
    )
    if gemma:
        tokenizer.add_tokens([AddedToken(t, normalized=False) for t in runs])
    start = "<bos>" if gemma else "<s>"
    tokenizer.post_processor = processors.TemplateProcessing(
        f"{start} $A", special_tokens=[(start, vocab[start])]
    )
    return tokenizer


def metadata(name: str, tokenizer: Tokenizer) -> dict:
    """The keys of a GGUF file that llama.cpp's conversion writes for a tokenizer."""
    raw = json.loads(tokenizer.to_str())
    tokens = [
        tokenizer.id_to_token(i)
        for i in range(tokenizer.get_vocab_size(with_added_tokens=True))
    ]
    added = {
        t["id"]: CONTROL if t["special"] else USER_DEFINED for t in raw["added_tokens"]
    }
    out = {
        "tokens": tokens,
        "token_type": [added.get(i, NORMAL) for i in range(len(tokens))],
    }
    if name in ("gemma", "mistral"):
        # Spaces of tokens that a user has defined are spelled as such.
        out["tokens"] = [
            t.replace("▁", " ") if added.get(i) == USER_DEFINED else t
            for i, t in enumerate(tokens)
        ]
        out["token_type"] = [
            BYTE if t.startswith("<0x") else k
            for t, k in zip(tokens, out["token_type"])
        ]
        start = "<bos>" if name == "gemma" else "<s>"
        return out | {
            "model": "llama",
            "scores": [-float(i) for i in range(len(tokens))],
            "bos_token_id": tokens.index(start),
            "unknown_token_id": tokens.index("<unk>"),
            "add_space_prefix": name != "gemma",
        }
    split = {"smollm2": "smollm", "llama3": "llama-bpe", "qwen2": "qwen2"}[name]
    merges = [" ".join(pair) for pair in raw["model"]["merges"]]
    start = {"bos_token_id": 0} if name == "llama3" else {"add_bos_token": False}
    return out | {"model": "gpt2", "pre": split, "merges": merges} | start


NAMES = {n: byte_level for n in ("smollm2", "llama3", "qwen2")} | {
    n: sentencepiece for n in ("mistral", "gemma")
}


def _text() -> list[str]:
    # Twice, so that what is rare occurs often enough to be learnt.
    words = "the there then where other another when which with number numbers "
    words = (words + "answer sum product equals").split()
    return [" ".join(words * 3), *TEXTS.values(), *TEXTS.values()]


def main() -> None:
    """Write every vocabulary and its ids."""
    HERE.mkdir(exist_ok=True)
    golden = {}
    for name, make in NAMES.items():
        tokenizer = make(name)
        both = {
            "json": json.loads(tokenizer.to_str()),
            "gguf": metadata(name, tokenizer),
        }
        text = json.dumps(both, ensure_ascii=False, separators=(",", ":"))
        (HERE / f"{name}.json.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
        theirs = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
        golden[name] = {
            about: theirs(given)["input_ids"] for about, given in TEXTS.items()
        }
    (HERE / "ids.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
