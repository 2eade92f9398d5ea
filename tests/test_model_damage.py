"""Contradictory model files are refused in one line, before memory is allocated."""

import json
import os
import shutil
import struct

import numpy as np
import pytest
from conftest import random_params
from golden.make import HERE
from safetensors.numpy import load_file, save_file
from test_tokenizers import _vocabulary, _write

from fr.errors import UserError
from fr.models import load, save
from fr.models.families import model_config
from fr.models.gguf_read import read_gguf
from fr.models.gguf_tokenizer import gguf_tokenizer
from fr.models.safetensors_header import read_header
from fr.models.tokenizer import load_tokenizer


def refusal(call, *args) -> str:
    with pytest.raises(UserError) as caught:
        call(*args)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 700
    return str(caught.value)


@pytest.fixture
def folder(tmp_path):
    """A copy of a golden model's folder, to be damaged."""
    return shutil.copytree(HERE / "qwen2", tmp_path / "model")


@pytest.mark.parametrize(
    "name", ["config.json", "generation_config.json", "model.safetensors"]
)
def test_a_pipe_or_a_device_is_not_waited_for(folder, name):
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    assert f"{name}: is a named pipe" in refusal(load, folder)
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/zero")
    assert f"{name}: is a device" in refusal(load, folder)


def sharded(folder) -> dict[str, str]:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    save_file(tensors, folder / "a.safetensors")
    return dict.fromkeys(tensors, "a.safetensors")


def test_an_index_names_files_of_its_folder_only(folder, tmp_path):
    table, index = sharded(folder), folder / "model.safetensors.index.json"
    write = lambda given: index.write_text(json.dumps({"weight_map": given}))
    write(table)
    load(folder)
    some = next(iter(table))
    shutil.copy(folder / "a.safetensors", tmp_path / "out.safetensors")
    for name in (
        "../out.safetensors",
        str(tmp_path / "out.safetensors"),
        "..",
        "",
        "x\0y",
        "sub/a.safetensors",
    ):
        write(table | {some: name})
        assert "is not the name of a file in its folder" in refusal(load, folder)
    for name in (3, None, ["a.safetensors"], {}):
        write(table | {some: name})
        assert "which is not a file name" in refusal(load, folder)
    (folder / "b.safetensors").symlink_to(tmp_path / "out.safetensors")
    write(table | {some: "b.safetensors"})
    assert "is a link out of its folder" in refusal(load, folder)
    write(table | {some: "c.safetensors"})
    assert "c.safetensors is missing" in refusal(load, folder)
    (folder / "b.safetensors").unlink()
    save_file({some: np.zeros(3, np.float32)}, folder / "b.safetensors")
    assert f"tensor {some} is in a.safetensors, too" in (
        write(table | {some: "b.safetensors"}) and refusal(load, folder)
    )
    index.write_text(
        f'{{"weight_map": {{"{some}": "a.safetensors", "{some}": "a.safetensors"}}}}'
    )
    assert "occurs twice" in refusal(load, folder)
    for text in ("[]", '{"weight_map": []}', "{}", "[" * 100000, '{"weight_map": NaN}'):
        index.write_text(text)
        refusal(load, folder)


def test_the_hubs_links_to_its_store_are_followed(folder, tmp_path):
    table = sharded(folder)
    blobs, snapshot = tmp_path / "m" / "blobs", tmp_path / "m" / "snapshots" / "c0ffee"
    blobs.mkdir(parents=True), snapshot.mkdir(parents=True)
    shutil.move(folder / "a.safetensors", blobs / "123")
    (snapshot / "a.safetensors").symlink_to("../../blobs/123")
    shutil.copy(folder / "config.json", snapshot)
    (snapshot / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": table})
    )
    assert load(snapshot).config.layers == 2


BIG = 10**9
CONFIGS = {
    "num_hidden_layers": (BIG, -1, 0, 2.0, "2", True, [], {}, 10**400),
    "head_dim": (BIG, -8, 7, "8", 1.5),
    "hidden_size": (BIG, -16, "16"),
    "vocab_size": (BIG, 0, "many"),
    "intermediate_size": (2**40, -1),
    "num_attention_heads": (BIG, 0, "4"),
    "num_key_value_heads": (3, BIG, -1),
    "max_position_embeddings": (2**40, -1, "long"),
    "rms_norm_eps": (0, -1e-5, 10.0, "small", [1e-5]),
    "rope_theta": (-1.0, 0, "high", 1e300),
    "tie_word_embeddings": ("no", 2, []),
    "rope_scaling": (
        [],
        "linear",
        {"rope_type": "linear", "factor": -2},
        {"rope_type": [], "factor": 2},
    ),
    "rope_parameters": (
        ["x"],
        {"rope_theta": {}},
        {"rope_type": "yarn", "factor": "2"},
    ),
    "layer_types": ("full_attention", [1, 2], {}),
    "model_type": (3, [], {}),
    "hidden_act": (["silu"], {}),
    "eos_token_id": (-5, BIG, "2", [1, [2]], True, 1.5, {"a": 1}),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_settings_of_other_types_or_sizes_are_refused_by_name(folder, name):
    config = json.loads((folder / "config.json").read_text())
    for value in CONFIGS[name]:
        (folder / "config.json").write_text(json.dumps(config | {name: value}))
        line = refusal(load, folder)
        assert (
            name in line or "rope" in name and "rope" in line or "activation" in line
        ), line
    for value in ("NaN", "Infinity", "[" * 10**5, '"' + "x" * (1 << 24) + '"'):
        text = json.dumps(config | {name: 0})
        (folder / "config.json").write_text(
            text.replace(f'"{name}": 0', f'"{name}": {value}')
        )
        assert "config.json" in refusal(load, folder)


def test_generation_config_gives_stop_tokens_of_the_vocabulary(folder):
    for value in (-5, BIG, "x", [1, None, [3]], 1e3, {}):
        (folder / "generation_config.json").write_text(
            json.dumps({"eos_token_id": value})
        )
        assert "eos_token_id" in refusal(load, folder)
    (folder / "generation_config.json").write_text("[1]")
    assert "does not hold a JSON object" in refusal(load, folder)


def header_of(path) -> tuple[dict, bytes]:
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def put(path, header, data: bytes, length: int | None = None) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(
        (len(text) if length is None else length).to_bytes(8, "little") + text + data
    )


def test_headers_of_safetensors_agree_with_their_bytes(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"a": np.ones((2, 3), np.float32), "b": np.zeros(4, np.float32)}, path)
    header, data = header_of(path)
    assert read_header(path) == {"a": ("F32", (2, 3)), "b": ("F32", (4,))}
    edit = lambda name, **values: header | {name: header[name] | values}
    first, second = sorted("ab", key=lambda n: header[n]["data_offsets"])
    end = header[first]["data_offsets"][1]
    for bad, why in (
        (edit(first, shape=[2, 2]), "its shape and type want"),
        (edit(first, shape=[2**40, 2**40]), "its shape and type want"),
        (edit(first, shape=[-1, -6]), "not a list of sizes"),
        (edit(first, shape="23"), "not a list of sizes"),
        (edit(first, dtype="F33"), "an unknown type 'F33'"),
        (edit(first, dtype=[]), "an unknown type"),
        (edit(second, data_offsets=[0, 16]), "overlaps another|leaves a gap"),
        (
            edit(second, data_offsets=[end + 4, end + 4 + len(data) - end]),
            "leaves a gap",
        ),
        (edit(first, more=1), "must have dtype"),
        (header | {"c": 3}, "must have dtype"),
        ([header], "is not an object"),
        (header | {"__metadata__": {"x": 3}}, "must hold texts"),
        (b'{"a": ' + b"[" * 10**5, "nested too deeply"),
        (b"\xff{}", "not UTF-8"),
        (json.dumps(header).replace('"b"', '"a"').encode(), "occurs twice"),
    ):
        put(path, bad, data)
        with pytest.raises(UserError, match=why):
            read_header(path)
    for length in (2**63, len(data) + 10**6, 10**9):
        put(path, header, data, length)
        assert "its header would have" in refusal(read_header, path)
    put(path, header, data + b"\0")
    assert "its tensors have 40 bytes, and there are 41" in refusal(read_header, path)


def test_a_flipped_bit_anywhere_in_an_export_is_seen(tmp_path, tiny_config):
    save(tmp_path, tiny_config, random_params(tiny_config))
    path = tmp_path / "model.safetensors"
    data = path.read_bytes()
    for at in (8 + 60, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        refusal(load, tmp_path)
    path.write_bytes(data)
    load(tmp_path)


def test_a_weight_beyond_all_weights_is_refused_by_name(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][3] = 3e6
    save_file(tensors, folder / "model.safetensors")
    assert "tensor model.norm.weight holds values beyond 2^20" in refusal(load, folder)


def gguf_bytes(
    keys: bytes = b"", tensors: bytes = b"", counts=(0, 0), version: int = 3
) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, *counts) + keys + tensors


def text(value: str | bytes) -> bytes:
    value = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(value)) + value


def key(name, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value


def tensor(name, shape, kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(
        f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset
    )


U32, ARRAY, STRING = 4, 9, 8
GGUFS = {
    "empty": b"",
    "version 1": gguf_bytes(version=1),
    "other byte order": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
    "counts": gguf_bytes(counts=(2**63, 2**63)),
    "count of tensors": gguf_bytes(counts=(1000, 0)),
    "a text beyond the file": gguf_bytes(
        struct.pack("<Q", 2**62) + b"abc", counts=(0, 1)
    ),
    "broken UTF-8 in a key": gguf_bytes(
        key(b"\xff\xfe", U32, b"\0" * 4), counts=(0, 1)
    ),
    "broken UTF-8 in a value": gguf_bytes(
        key("a", STRING, text(b"\xc3")), counts=(0, 1)
    ),
    "an array beyond the file": gguf_bytes(
        key("a", ARRAY, struct.pack("<IQ", 6, 2**60)), counts=(0, 1)
    ),
    "texts beyond the file": gguf_bytes(
        key("a", ARRAY, struct.pack("<IQ", 8, 2**20)), counts=(0, 1)
    ),
    "arrays of arrays": gguf_bytes(
        key("a", ARRAY, struct.pack("<IQ", 9, 1) + b"\0" * 40), counts=(0, 1)
    ),
    "unknown type of value": gguf_bytes(key("a", 77, b"\0" * 8), counts=(0, 1)),
    "a truth of 2": gguf_bytes(key("a", 7, b"\2"), counts=(0, 1)),
    "a key twice": gguf_bytes(key("a", U32, b"\0" * 4) * 2, counts=(0, 2)),
    "alignment 0": gguf_bytes(
        key("general.alignment", U32, struct.pack("<I", 0)), counts=(0, 1)
    ),
    "alignment 48": gguf_bytes(
        key("general.alignment", U32, struct.pack("<I", 48)), counts=(0, 1)
    ),
    "alignment 2^31": gguf_bytes(
        key("general.alignment", U32, struct.pack("<I", 2**31)), counts=(0, 1)
    ),
    "dims beyond the file": gguf_bytes(
        tensors=tensor("t", (2**40, 2**40)), counts=(1, 0)
    ),
    "no dims": gguf_bytes(tensors=tensor("t", ()), counts=(1, 0)),
    "a dim of 0": gguf_bytes(tensors=tensor("t", (0, 4)), counts=(1, 0)),
    "2^31 dims": gguf_bytes(
        tensors=text("t") + struct.pack("<I", 2**31), counts=(1, 0)
    ),
    "an offset beyond the file": gguf_bytes(
        tensors=tensor("t", (8,), offset=2**40), counts=(1, 0)
    ),
    "an unknown type": gguf_bytes(tensors=tensor("t", (8,), kind=99), counts=(1, 0)),
    "a row that its type does not store": gguf_bytes(
        tensors=tensor("t", (7,), kind=2), counts=(1, 0)
    ),
    "bytes behind its tensors": gguf_bytes(tensors=tensor("t", (8,)), counts=(1, 0))
    + b"\0" * 200,
    "a tensor twice": gguf_bytes(tensors=tensor("t", (8,)) * 2, counts=(2, 0))
    + b"\0" * 100,
}


@pytest.mark.parametrize("about", GGUFS)
def test_a_gguf_file_that_lies_about_itself_is_refused(tmp_path, about):
    path = tmp_path / "a.gguf"
    path.write_bytes(GGUFS[about])
    assert f"{path} is not a whole GGUF file: " in refusal(read_gguf, path)
    assert str(path) in refusal(load, path)


@pytest.mark.parametrize("name, value, wanted", [
    ("block_count", 2**31, "block_count"),
    ("embedding_length", 2**31, "embedding_length"),
    ("head_count", 0, "head_count"),
    ("key_length", 2**31, "key_length"), ("key_length", 5, "must be even"),
    ("context_length", 2**31, "max_position_embeddings"),
    ("layer_norm_rms_eps", float("nan"), "not a finite"),
    ("feed_forward_length", 2**31, "intermediate_size"),
])  # fmt: skip
def test_values_of_a_gguf_file_have_bounds(tmp_path, monkeypatch, name, value, wanted):
    import gguf

    add = getattr(gguf.GGUFWriter, f"add_{name}")
    monkeypatch.setattr(
        gguf.GGUFWriter, f"add_{name}", lambda writer, _: add(writer, value)
    )
    assert wanted in refusal(
        _write, tmp_path / "a.gguf", _vocabulary("smollm2")["gguf"]
    )


def test_scores_and_tokens_of_a_gguf_file_have_types(tmp_path):
    given = _vocabulary("mistral")["gguf"]
    broken = given | {"scores": [float("nan"), *given["scores"][1:]]}
    file = _write(tmp_path / "a.gguf", broken)
    assert "tokenizer.ggml.scores" in refusal(gguf_tokenizer, file)
    longest = given | {"tokens": [*given["tokens"][:-1], "x" * 5000]}
    assert "a token of 5000 characters" in refusal(
        gguf_tokenizer, _write(tmp_path / "b.gguf", longest)
    )


def tokenizer_folder(tmp_path, char_tokenizer):
    char_tokenizer.save_pretrained(tmp_path / "t")
    return tmp_path / "t"


def changed(path, edit) -> None:
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps(value))


TOKENIZERS = {
    "two tokens of one id": lambda t: t["model"]["vocab"].update(a=5, b=5),
    "an id beyond": lambda t: t["model"]["vocab"].update(a=70000),
    "a negative id": lambda t: t["model"]["vocab"].update(a=-1),
    "an id that is a text": lambda t: t["model"]["vocab"].update(a="5"),
    "no vocabulary": lambda t: t["model"].pop("vocab"),
    "a model of another type": lambda t: t.update(model=[]),
    "an unknown model": lambda t: t["model"].update(type="Magic"),
    "an added token of another id": lambda t: t["added_tokens"][0].update(id=9),
    "an added token without an id": lambda t: t["added_tokens"][0].pop("id"),
    "an added token that is a number": lambda t: t["added_tokens"].append(3),
    "a broken expression": lambda t: t["pre_tokenizer"].update(
        pattern={"Regex": "(((("}
    ),
    "a broken map of characters": lambda t: t.update(
        normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA////"}
    ),
}


@pytest.mark.parametrize("about", TOKENIZERS)
def test_a_tokenizer_that_contradicts_itself_is_refused(
    tmp_path, char_tokenizer, about
):
    folder = tokenizer_folder(tmp_path, char_tokenizer)
    assert (
        load_tokenizer(folder)("a1")["input_ids"] == char_tokenizer("a1")["input_ids"]
    )
    changed(folder / "tokenizer.json", TOKENIZERS[about])
    assert "tokenizer" in refusal(load_tokenizer, folder)


TABLES = {
    "eos_token": (3, [], {"content": 3}, "<none>"),
    "chat_template": (3, {"a": 1}, [1]),
    "added_tokens_decoder": (
        [],
        {"0": "x"},
        {"x": {"content": "a"}},
        {"5": {"content": "<pad>"}},
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_settings_of_a_tokenizer_have_types(tmp_path, char_tokenizer, name):
    folder = tokenizer_folder(tmp_path, char_tokenizer)
    good = (folder / "tokenizer_config.json").read_text()
    for value in TABLES[name]:
        (folder / "tokenizer_config.json").write_text(
            json.dumps(json.loads(good) | {name: value})
        )
        refusal(load_tokenizer, folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)
        assert f"{name}: is a named pipe" in refusal(load_tokenizer, folder)
        (folder / name).unlink()
        (folder / name).write_text("{}")


def test_an_error_quotes_a_file_in_one_line_that_can_be_printed():
    line = str(UserError("a\nb\u2028\ud800\x1b" + "x" * 9000))
    assert (
        line.isprintable() and line.startswith("a␊b⟨2028⟩⟨D800⟩␛") and len(line) < 2100
    )
    assert "model_type" in refusal(model_config, {"model_type": "x\n" * 999}, "w")
