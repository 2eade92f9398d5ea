"""Tiny GGUF files for tests, as llama.cpp converts a transformers folder."""

import gguf
import numpy as np
from tokenizers.pre_tokenizers import ByteLevel

from fr.models.config import ModelConfig
from fr.models.weight_table import entries
from fr.models.weights import disassemble

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6


def byte_level_vocabulary() -> tuple[list[str], list[int], list[str]]:
    """Tokens, types and merges: control tokens, bytes, words, a user's own token."""
    merges = [
        "h e",
        "l l",
        "he ll",
        "hell o",
        "Ġ w",
        "o r",
        "Ġw or",
        "Ġ Ġ",
        "1 2",
        "Ġ 1",
    ]
    words = [merge.replace(" ", "") for merge in merges]
    tokens = [
        "<|end|>",
        "<|im_start|>",
        "<|im_end|>",
        *sorted(ByteLevel.alphabet()),
        *words,
        "<think>",
    ]
    return tokens, [CONTROL] * 3 + [NORMAL] * (len(tokens) - 4) + [USER_DEFINED], merges


def sentencepiece_vocabulary() -> tuple[list[str], list[int], list[float]]:
    """Tokens, types and scores: unknown, begin, end, bytes, letters, and words."""
    words = ["▁t", "he", "▁the", "er", "▁a", "in", "▁th", "▁▁", "▁▁▁▁"]
    letters = list("▁abcdefghijklmnopqrstuvwxyzé,.!0123456789")
    tokens = [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{i:02X}>" for i in range(256)),
        *words,
        *letters,
    ]
    types = (
        [UNKNOWN, CONTROL, CONTROL]
        + [BYTE] * 256
        + [NORMAL] * (len(words) + len(letters))
    )
    scores = (
        [0.0] * 259
        + [-float(i) for i in range(len(words))]
        + [-1000.0 - i for i in range(len(letters))]
    )
    return tokens, types, scores


def write_tokenizer(
    writer: gguf.GGUFWriter, kind: str = "gpt2", pre: str = "smollm"
) -> int:
    """Add the metadata of one of the two vocabularies; returns its size."""
    writer.add_tokenizer_model(kind)
    if kind == "gpt2":
        tokens, types, merges = byte_level_vocabulary()
        writer.add_tokenizer_pre(pre)
        writer.add_token_merges(merges)
        writer.add_chat_template(TEMPLATE)
        writer.add_eos_token_id(0)
        writer.add_eot_token_id(2)
        writer.add_add_bos_token(False)
    else:
        tokens, types, scores = sentencepiece_vocabulary()
        writer.add_token_scores(scores)
        writer.add_unk_token_id(0)
        writer.add_eos_token_id(2)
    writer.add_bos_token_id(1)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    return len(tokens)


def write_gguf(
    path,
    config: ModelConfig,
    params: dict,
    arch: str = "llama",
    kind: str = "gpt2",
    quantised=gguf.GGMLQuantizationType.F32,
    edit=lambda writer: None,
) -> None:
    """Write a decoder, matrices as `quantised`; `edit` adds to the writer first."""
    writer = gguf.GGUFWriter(path, arch)
    writer.add_context_length(config.max_positions)
    writer.add_embedding_length(config.width)
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(config.ff)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    if config.window:
        writer.add_sliding_window(config.window)
        writer.add_attn_logit_softcapping(config.attention_softcap)
        writer.add_final_logit_softcapping(config.logit_softcap)
    assert write_tokenizer(writer, kind) <= config.vocab
    names = _names(config)
    for name, _, read in disassemble(config, params):
        array = read()
        if arch == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
            array = permute(
                array, config.heads if "q_proj" in name else config.kv_heads
            )
        if config.unit_offset and name.endswith("norm.weight"):
            array = array + 1
        kind = quantised if array.ndim > 1 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(
            names[name], gguf.quants.quantize(array, kind), raw_dtype=kind
        )
    edit(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def permute(weight: np.ndarray, heads: int) -> np.ndarray:
    """The order of query and key rows in llama.cpp's conversion of Llama files."""
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weight.shape))


def _names(config: ModelConfig) -> dict[str, str]:
    rows = [entry for entry, _ in entries(config)]
    return {
        r.hf.format(i): r.gguf.format(i) for r in rows for i in range(config.layers)
    }
