"""Fixtures of several test files: a tiny decoder, a tokenizer of characters."""

import atexit
import os
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence

import pytest
from jaxtyping import install_import_hook

# Most of a test's time is compilation. The first level of LLVM takes three quarters of
# the default's time and still writes vector code; and a program that one worker or
# subprocess of a session has compiled, the others read. Set before jax is imported.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1")
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="fr-programs-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
    atexit.register(
        shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True
    )

# Shapes in annotations are checked, from before any module of `fr` is imported: in the
# files that have some, since the check slows every call.
ROOT = pathlib.Path(__file__).parents[1]
install_import_hook(
    [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in (ROOT / "fr").rglob("*.py")
        if "from jaxtyping import" in path.read_text()
    ],
    os.environ.get("FR_CHECK_SHAPES", "typecheck.shapes"),
)

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from fr import user_modules
from fr.models import Model, ModelConfig
from fr.models.transformer import Transformer
from fr.models.weight_table import shapes
from fr.registry import REGISTRIES
from fr.sampling.devices import Devices
from fr.sampling.engine import Engine
from fr.sampling.sampling_params import row_key
from fr.types import Request

# `pytest -m quick`: whole files that are cheap and a few tests of others, so that every
# room is seen within a minute. A name that is gone is an error.
QUICK = {
    **dict.fromkeys(
        (
            *("answers", "countdown", "declaration"),
            *("files", "grading", "labels", "layering", "locks"),
            *("plans", "profiles", "rewards", "rule"),
            *("steps", "store", "style", "true_rates"),
        )
    ),
    "cli": ("test_bad_settings",),
    "distributed": ("test_flags_that_do_not_fit_are_named",),
    "logits": ("test_a_uniform_is_inverted",),
    "training": (
        "test_packing_by_hand",
        "test_loss_is_the_mean_over_learnt_tokens",
    ),
    "transformer": ("test_cached_is_uncached",),
    "weights": ("test_save_then_load_is_bitwise",),
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the short form."""
    seen: dict[str, set[str]] = {}
    for item in items:
        file, name = item.path.stem.removeprefix("test_"), item.name.split("[")[0]
        seen.setdefault(file, set()).add(name)
        if file in QUICK and (QUICK[file] is None or name in QUICK[file]):
            item.add_marker("quick")
    named = {
        f"{f}::{n}" for f, names in QUICK.items() if f in seen for n in names or ()
    }
    gone = {n for n in named if n.split("::")[1] not in seen[n.split("::")[0]]}
    # Only where all files are collected: tests named by their ids are few.
    if gone and len(seen) > 50:
        raise pytest.UsageError(f"QUICK of tests/conftest.py names {sorted(gone)}")


CHARACTERS = (
    "\n 0123456789+-*/()=<>.,:?"
    + "abcdefghijklmnopqrstuvwxyz"
    + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
)


def random_params(config: ModelConfig, seed: int = 0) -> dict:
    """Random float32 parameters by numpy: compiling `init_params` takes seconds."""
    draw = np.random.default_rng(seed)
    flat = {
        path: 0.2 * draw.standard_normal(shape, np.float32)
        for path, shape in shapes(config).items()
    }
    # Around what leaves a norm's input alone.
    flat = {
        path: leaf + ("scale" in path and not config.unit_offset)
        for path, leaf in flat.items()
    }
    return traverse_util.unflatten_dict(flat, sep="/")


@pytest.fixture
def own_modules(monkeypatch):
    """Loaded user modules and the names that they register end with the test."""
    from fr import diagnosis, interventions, rewards  # noqa: F401
    from fr.evaluation import measures  # noqa: F401
    from fr.models import families  # noqa: F401

    for registry in list(REGISTRIES):
        registry.complete()  # names of the package stay after the test
    for registry in REGISTRIES:
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
        monkeypatch.setattr(registry, "places", dict(registry.places))
    monkeypatch.setattr(user_modules, "_TEXTS", {})
    monkeypatch.setenv(user_modules.VARIABLE, "")
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        path = getattr(sys.modules[name], "__file__", None) or ""
        if user_modules._is_users(path):
            del sys.modules[name]


@pytest.fixture(scope="session")
def char_tokenizer() -> PreTrainedTokenizerFast:
    """One token a character; `<eos>` ends a text."""
    vocab = {
        token: i for i, token in enumerate(["<pad>", "<eos>", "<unk>", *CHARACTERS])
    }
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(
        Regex(r"[\s\S]"), behavior="isolated"
    )
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
    )


@pytest.fixture(scope="session")
def tiny_config(char_tokenizer) -> ModelConfig:
    """Two layers, grouped queries, a head size that is not width / heads."""
    return ModelConfig(
        vocab=len(char_tokenizer),
        width=32,
        layers=2,
        heads=4,
        kv_heads=2,
        head_dim=16,
        ff=48,
        max_positions=512,
    )


@pytest.fixture(scope="session")
def tiny_params(tiny_config) -> dict:
    """Random float32 parameters of `tiny_config`."""
    return jax.tree.map(jnp.asarray, random_params(tiny_config))


@pytest.fixture(scope="session")
def tiny_model(tiny_config, tiny_params, char_tokenizer) -> Model:
    """The tiny decoder as `load` would hand it out."""
    return Model(
        tiny_config, tiny_params, char_tokenizer, (char_tokenizer.eos_token_id,), "tiny"
    )


@pytest.fixture(scope="session")
def tiny_ancestor(tiny_config, tiny_params) -> dict:
    """Parameters near `tiny_params`: a model that it might have been trained from."""
    other = random_params(tiny_config, seed=1)
    return jax.tree.map(
        lambda ours, theirs: 0.8 * ours + 0.2 * theirs, tiny_params, other
    )


@pytest.fixture(scope="session")
def plain_engine(tiny_config, tiny_params) -> Engine:
    """Four slots, chunks of four steps, no ancestor; compiled once for the suite."""
    one = Devices("one")
    return Engine(
        Transformer(tiny_config), tiny_params, slots=4, chunk=4, prefill=2, devices=one
    )


@pytest.fixture(scope="session")
def lineage_engine(tiny_config, tiny_params, tiny_ancestor) -> Engine:
    """The same beside the ancestor."""
    model, one = Transformer(tiny_config), Devices("one")
    second = {"ancestor": model, "ancestor_params": tiny_ancestor}
    return Engine(
        model, tiny_params, **second, slots=4, chunk=4, prefill=2, devices=one
    )


def row(name: str, prompt: Sequence[int] = (5, 6, 7), **params) -> Request:
    """A row whose key follows from its name."""
    return Request(name, tuple(int(t) for t in prompt), row_key(0, name), params)


@pytest.fixture(scope="session")
def compilations() -> Callable[[], list[float]]:
    """Compile times of all programs since the fixture was made: a list that grows."""
    seen = []
    count = lambda event, seconds, **_: (
        seen.append(seconds) if "backend_compile" in event else None
    )
    jax.monitoring.register_event_duration_secs_listener(count)
    return lambda: list(seen)
