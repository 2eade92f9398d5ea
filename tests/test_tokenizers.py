"""Ids of difficult texts equal transformers', from a folder and a GGUF file."""

import gzip
import json
from pathlib import Path

import gguf
import numpy as np
import pytest
from golden.nasty import TEXTS

from fr.errors import UserError
from fr.models.gguf import GGUFFile
from fr.models.gguf_tokenizer import gguf_tokenizer
from fr.models.tokenizer import load_tokenizer

HERE = Path(__file__).parent / "golden" / "tokenizers"
IDS = json.loads((HERE / "ids.json").read_text())
ARCHITECTURES = {"gemma": "gemma3", "qwen2": "qwen2"}
# NFC changes texts in other forms, a spelled space is read as a space, and a prefix
# goes after special tokens.
CHANGED = ("combining marks", "spelled spaces")
KINDS = {
    "tokens": "list",
    "token_type": "types",
    "scores": "scores",
    "merges": "merges",
}


def _vocabulary(name: str) -> dict:
    return json.loads(gzip.decompress((HERE / f"{name}.json.gz").read_bytes()))


def _write(path, given: dict, arch: str = "llama", rows: int = 0) -> GGUFFile:
    """A file with a vocabulary, and of tensors the embedding alone."""
    w = gguf.GGUFWriter(path, arch)
    (
        w.add_context_length(64),
        w.add_embedding_length(8),
        w.add_block_count(1),
        w.add_feed_forward_length(8),
    )
    (
        w.add_head_count(2),
        w.add_head_count_kv(2),
        w.add_key_length(4),
        w.add_layer_norm_rms_eps(1e-6),
    )
    if arch == "gemma3":
        w.add_sliding_window(8)
    for key, value in given.items():
        add = getattr(
            w, f"add_token_{KINDS[key]}" if key in KINDS else f"add_{key}", None
        )
        add = {"model": w.add_tokenizer_model, "pre": w.add_tokenizer_pre,
               "unknown_token_id": w.add_unk_token_id}.get(key, add)  # fmt: skip
        add(value)
    w.add_tensor(
        "token_embd.weight", np.zeros((rows or len(given["tokens"]), 8), np.float32)
    )
    (
        w.write_header_to_file(),
        w.write_kv_data_to_file(),
        w.write_tensors_to_file(),
        w.close(),
    )
    return GGUFFile(path)


@pytest.fixture(scope="module", params=IDS)
def both(request, tmp_path_factory):
    """The name of a family, its tokenizer from a folder, and from a GGUF file."""
    name, folder = request.param, tmp_path_factory.mktemp(request.param)
    made = _vocabulary(name)
    (folder / "tokenizer.json").write_text(json.dumps(made["json"]))
    file = _write(folder / "a.gguf", made["gguf"], ARCHITECTURES.get(name, "llama"))
    return name, load_tokenizer(folder), gguf_tokenizer(file)


@pytest.mark.parametrize("about", TEXTS)
def test_ids_are_those_of_transformers(both, about):
    name, folder, file = both
    assert folder(TEXTS[about])["input_ids"] == IDS[name][about]
    assert file(TEXTS[about])["input_ids"] == IDS[name][about]


def test_every_id_exists_and_texts_come_back(both):
    name, folder, file = both
    size = len(_vocabulary(name)["gguf"]["tokens"])
    for about, text in TEXTS.items():
        for tokenizer in (folder, file):
            ids = tokenizer(text)["input_ids"]
            assert max(ids, default=0) < size
            ids = ids[1:] if ids[:1] == IDS[name]["empty"] else ids
            back = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
            if about not in CHANGED and not (
                name == "mistral" and "<unk>" in text or "<s>" in text
            ):
                assert back == text, about


def test_a_vocabulary_beyond_the_embedding_is_refused(tmp_path):
    given = _vocabulary("smollm2")["gguf"]
    with pytest.raises(
        UserError, match=f"{len(given['tokens'])} tokens, and an embedding of 100 rows"
    ):
        gguf_tokenizer(_write(tmp_path / "a.gguf", given, rows=100))


@pytest.mark.parametrize("key, value, wanted", [
    ("bos_token_id", 10**6, "ggml.bos_token_id = 1000000 is outside the vocabulary"),
    ("merges", ["h zz"], "the merge 'h zz' is not of its tokens"),
    ("token_type", [1, 2], "2 tokenizer.ggml.token_type for"),
    ("pre", "other", "tokenizer.ggml.pre 'other' is not supported"),
    ("remove_extra_whitespaces", True, "remove_extra_whitespaces is not supported"),
])  # fmt: skip
def test_vocabularies_that_are_refused_by_key(tmp_path, key, value, wanted):
    given = _vocabulary("smollm2")["gguf"] | {key: value}
    with pytest.raises(UserError, match=wanted):
        gguf_tokenizer(_write(tmp_path / "a.gguf", given))


def test_equal_tokens_keep_their_ids_and_write_their_text(tmp_path):
    for name in ("smollm2", "mistral"):
        given = _vocabulary(name)["gguf"]
        i = next(
            i
            for i, t in enumerate(given["tokens"])
            if len(t) == 2 and t.isascii() and t.isalpha()
        )
        word = given["tokens"][i]
        given["tokens"] = [*given["tokens"], word]
        given["token_type"] = [*given["token_type"], 1]
        given |= (
            {"scores": [*given["scores"], given["scores"][i]]}
            if "scores" in given
            else {}
        )
        tokenizer = gguf_tokenizer(_write(tmp_path / f"{name}.gguf", given))
        assert [tokenizer.decode([j]) for j in (i, len(given["tokens"]) - 1)] == [
            word
        ] * 2
        assert (
            tokenizer.decode(
                tokenizer("the other", add_special_tokens=False)["input_ids"]
            )
            == "the other"
        )
