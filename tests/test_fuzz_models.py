"""Damaged files of models load as the undamaged ones do, or are refused in one line.

Every file is loaded in a worker process with limits on time and memory, so that
crashes, hangs and allocations are seen. Kinds of files: single and sharded safetensors
folders, their configs and tokenizers, GGUF.
"""

import json
import pathlib
import random
import resource
import shutil
import time

import numpy as np
import pytest
from test_data_fuzz import mutated

from fr.bounded import Bounded, GraderFailure, OutOfTime

SECONDS, MEMORY = 20.0, 3 << 30  # of one load in a worker
SLACK = 256 << 20  # bytes that a load may take beside twice the file: compilers, caches
NASTY = "  two\t\tTabs\r\n\n 1234.5 naïve 日本 😀 <|im_end|> hello world <think>"
CHAT = [{"role": "user", "content": "hello"}]


def make_models(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Tiny undamaged models by kind; imports are here, not in the parent of a fuzz."""
    import gguf
    import jax
    from conftest import random_params
    from gguf_files import TEMPLATE, byte_level_vocabulary, write_gguf
    from safetensors.numpy import load_file, save_file
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from fr.models import ModelConfig, save

    tokens, _, merges = byte_level_vocabulary()
    vocab = {token: i for i, token in enumerate(tokens)}
    inner = Tokenizer(models.BPE(vocab, [tuple(m.split(" ")) for m in merges]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(
        [AddedToken(t, normalized=False, special=True) for t in tokens[:3]]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        eos_token="<|im_end|>",
        pad_token="<|end|>",
        chat_template=TEMPLATE,
    )
    config = ModelConfig(
        vocab=len(vocab), width=16, layers=2, heads=4, kv_heads=2, head_dim=8, ff=24
    )
    params = jax.tree.map(np.asarray, random_params(config))
    sealed, single, sharded = (
        folder / name for name in ("sealed", "single", "sharded")
    )
    save(sealed, config, params, tokenizer)
    tensors = load_file(sealed / "model.safetensors")
    for path in (single, sharded):
        shutil.copytree(sealed, path)
    save_file(
        tensors, single / "model.safetensors"
    )  # without our checksum, as others write it
    (sharded / "model.safetensors").unlink()
    names = sorted(tensors)
    table = {}
    for i, part in enumerate((names[::2], names[1::2])):
        file = f"model-{i + 1:05d}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, sharded / file)
        table |= dict.fromkeys(part, file)
    (sharded / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": table})
    )
    (folder / "gguf").mkdir()
    write_gguf(folder / "gguf" / "a.gguf", config, params)
    write_gguf(folder / "gguf" / "q.gguf", config, params, kind="gpt2",
               quantised=gguf.GGMLQuantizationType.F16)  # fmt: skip
    return {
        "sealed": sealed,
        "single": single,
        "sharded": sharded,
        "gguf": folder / "gguf",
    }


# Which file of which model is damaged; None: a model of one file.
TARGETS = {
    "safetensors, ours": ("sealed", "model.safetensors"),
    "safetensors": ("single", "model.safetensors"),
    "a shard": ("sharded", "model-00001-of-00002.safetensors"),
    "index": ("sharded", "model.safetensors.index.json"),
    "config": ("single", "config.json"),
    "generation_config": ("single", "generation_config.json"),
    "tokenizer": ("single", "tokenizer.json"),
    "tokenizer_config": ("single", "tokenizer_config.json"),
    "chat template": ("single", "chat_template.jinja"),
    "GGUF": ("gguf", "a.gguf"),
    "GGUF, 16 bits": ("gguf", "q.gguf"),
}


def head_first(data: bytes, draw: random.Random, name: str) -> bytes:
    """`mutated`, half of the time in the header of a file of weights."""
    if name.endswith((".safetensors", ".gguf")) and draw.random() < 0.5:
        cut = min(
            len(data),
            8 + int.from_bytes(data[:8], "little") if "safe" in name else 6000,
        )
        return mutated(data[:cut], draw) + data[cut:]
    return mutated(data, draw)


def outcome(source: str, size: int) -> dict:
    """The outcome of a load, in a worker that isolates it from the tests."""
    from fr.errors import UserError
    from fr.models import load

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    said, probe = "", None
    try:
        model = load(source, "float32")
        ids = model.encode(NASTY), model.encode(CHAT)
        logits = np.asarray(model.logits(np.array([[1, 5, 9, 2, 70, 33]])))
        probe = [*map(list, ids), list(model.stop_tokens), logits.tobytes().hex()]
    except UserError as error:
        said = str(error)
        assert said and "\n" not in said and len(said) <= 2100, said
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    return {
        "said": said,
        "probe": probe,
        "grown": grown,
        "too_much": grown > 2 * size + SLACK,
    }


class Fuzz:
    """Loads damaged copies and counts what comes of them."""

    def __init__(self, folder: pathlib.Path):
        self.models = make_models(folder)
        self.work = folder / "work"
        self.pool = Bounded(
            "test_fuzz_models:outcome", SECONDS, workers=1, memory=MEMORY
        )
        self.counts: dict[str, dict[str, int]] = {}
        self.faults, self.others = [], []
        self.good = {}

    def run(self, target: str, seed: int | None) -> str:
        """The outcome of a file: refused, same, other (valid, different) or a fault."""
        model, name = TARGETS[target]
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self.models[model], self.work)
        path = self.work / name
        data = path.read_bytes()
        changed = (
            data
            if seed is None
            else head_first(data, random.Random(f"{target}/{seed}"), name)
        )
        path.write_bytes(changed)
        source = path if name.endswith(".gguf") else self.work
        try:
            found = self.pool.call(str(source), max(len(data), len(changed)))
        except OutOfTime as error:
            return self._count(target, seed, "hang", str(error))
        except GraderFailure as error:
            return self._count(target, seed, "crash", str(error))
        # The first loads import and compile.
        if found["too_much"] and seed is not None:
            return self._count(target, seed, "memory", f"{found['grown'] >> 20} MB")
        if seed is None:
            assert found["probe"], found["said"]
            self.good[target] = found["probe"]
            return "same"
        if found["said"]:
            return self._count(target, seed, "refused", found["said"])
        return self._count(
            target, seed, "same" if found["probe"] == self.good[target] else "other", ""
        )

    def _count(self, target: str, seed: int | None, kind: str, why: str) -> str:
        counts = self.counts.setdefault(target, {})
        counts[kind] = counts.get(kind, 0) + 1
        if kind in ("hang", "crash", "memory"):
            self.faults.append((target, seed, kind, why))
        if kind == "other":
            self.others.append((target, seed))
            # A file that carries a checksum of its own is never taken for another one.
            if target == "safetensors, ours":
                self.faults.append((target, seed, kind, "a damaged file is accepted"))
        return kind

    def all(self, seeds) -> None:
        """Every target with every seed."""
        try:
            for target in TARGETS:
                self.run(target, None)
                for seed in seeds:
                    self.run(target, seed)
        finally:
            self.pool.close()


@pytest.fixture
def fuzz(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(pathlib.Path(__file__).parent))
    return Fuzz(tmp_path)


def test_damaged_files_of_models_are_refused_or_say_what_they_said(fuzz):
    fuzz.all(range(4))
    assert not fuzz.faults


@pytest.mark.slow
def test_a_thousand_damaged_files_of_models(fuzz, capsys):
    begin, seeds = time.perf_counter(), range(1000, 1092)
    fuzz.all(seeds)
    with capsys.disabled():
        print(
            f"\nseeds {seeds[0]} to {seeds[-1]} of each kind, "
            f"{time.perf_counter() - begin:.0f} s"
        )
        for target, counts in fuzz.counts.items():
            print(f"{target}: {counts}")
        print("valid files that say something else:", fuzz.others)
        print("faults:", fuzz.faults)
    assert not fuzz.faults
