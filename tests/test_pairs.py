"""A pair of models: vocabularies, variables of the template, records of files."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import random_params
from tokenizers import AddedToken

from fr.config import Config, TaskConfig
from fr.errors import UserError
from fr.models import Model, load, save
from fr.models.sharding import check_heads
from fr.runs.compatibility import check_vocabularies, pair_ancestor, with_template
from fr.sampling import token_stats


def _with(model, *tokens, text=None):
    """The model with special tokens after its vocabulary, and a changed tokenizer."""
    import tokenizers
    from transformers import PreTrainedTokenizerFast

    raw = json.loads(model.tokenizer.backend_tokenizer.to_str())
    if text:
        raw = json.loads(json.dumps(raw).replace(*text))
    inner = tokenizers.Tokenizer.from_str(json.dumps(raw))
    inner.add_special_tokens(
        [AddedToken(t, special=True, normalized=False) for t in tokens]
    )
    own = PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<eos>", pad_token="<pad>", unk_token="<unk>"
    )
    config = dataclasses.replace(model.config, vocab=model.config.vocab + 4)
    return dataclasses.replace(model, tokenizer=own, config=config)


def test_special_tokens_that_differ_are_left_out_and_named(tiny_model):
    n = len(tiny_model.tokenizer)
    ours, theirs = (
        _with(tiny_model, "<|user|>", "<think>"),
        _with(tiny_model, "<|user|>", "<|box|>", "<|more|>"),
    )
    ancestor, said = pair_ancestor(ours, theirs)
    assert ancestor.config.masked == (n + 1, n + 2)
    assert (
        "'<think>', there '<|box|>'" in said and "'nothing', there '<|more|>'" in said
    )
    assert pair_ancestor(ours, ours) == (ours, "")


def test_ordinary_tokens_that_differ_are_refused_with_the_first_of_them(tiny_model):
    other = _with(tiny_model, text=('"a": ', '"\u00e4": '))
    with pytest.raises(
        UserError,
        match=r"1 ids are other .*\('a', there '\u00e4'\); an ancestor must share",
    ):
        pair_ancestor(tiny_model, other)
    with pytest.raises(UserError, match="must share the vocabulary"):
        check_vocabularies(tiny_model, other, "a reward model")


def test_an_ancestor_without_a_tokenizer_takes_the_specialists(tiny_model):
    bare = dataclasses.replace(tiny_model, tokenizer=None, name="bare")
    assert pair_ancestor(tiny_model, bare) == (
        bare,
        "bare has no tokenizer: the tokenizer of tiny is used",
    )
    wide = dataclasses.replace(bare, config=dataclasses.replace(bare.config, vocab=200))
    with pytest.raises(UserError, match="bare has no tokenizer"):
        pair_ancestor(tiny_model, wide)


def test_a_masked_id_has_no_log_ratio_and_moves_no_other(tau=0.6):
    draw = np.random.default_rng(0)
    s, a = (jnp.asarray(draw.normal(size=(3, 40)) * 3, jnp.float32) for _ in range(2))
    a = a.at[:, 7].set(-30.0)
    read = lambda z: token_stats.logit_moments(z, jnp.float32(tau))
    deferred = token_stats.defer(s, a, jnp.float32(tau), (7, 99))
    token = jnp.full(3, 7)
    assert np.abs(token_stats.delta_path(read(s), read(a), token)).max() > 20
    np.testing.assert_allclose(
        token_stats.delta_path(read(s), read(deferred), token), 0, atol=1e-5
    )
    # Its probability is the specialist's; the rest keeps its proportions.
    p = lambda z: np.asarray(jax.nn.softmax(z / tau, -1), np.float64)
    np.testing.assert_allclose(p(deferred)[:, 7], p(s)[:, 7], rtol=1e-4)
    rest = np.arange(40) != 7
    scaled = p(a)[:, rest] / p(a)[:, rest].sum(1, keepdims=True) * (1 - p(s)[:, 7:8])
    np.testing.assert_allclose(p(deferred)[:, rest], scaled, rtol=1e-4)
    assert token_stats.defer(s, a, jnp.float32(tau), ()) is a


def test_a_template_is_told_its_variables(tiny_model):
    template = (
        "{% for m in messages %}{{ m.content }}{% endfor %}"
        "{% if enable_thinking %} think{% endif %}"
    )
    tiny_model.tokenizer.chat_template = template
    try:
        config = lambda text: Config(task=TaskConfig(template_kwargs=text))
        ask = lambda model: model.decode(
            model.encode([{"role": "user", "content": "hi"}])
        )
        assert ask(with_template(tiny_model, config(""))) == "hi"
        assert (
            ask(with_template(tiny_model, config('{"enable_thinking": true}')))
            == "hi think"
        )
        with pytest.raises(UserError, match="reads no variable 'thinking'"):
            ask(with_template(tiny_model, config('{"thinking": true}')))
        for bad in ("[1]", "{x"):
            with pytest.raises(UserError, match="config.task.template_kwargs"):
                with_template(tiny_model, config(bad))
    finally:
        tiny_model.tokenizer.chat_template = None


def test_a_fingerprint_is_of_contents_not_of_places(
    tmp_path, monkeypatch, tiny_config, char_tokenizer
):
    monkeypatch.setenv("FR_CACHE", str(tmp_path / "cache"))
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        save(
            tmp_path / name,
            tiny_config,
            random_params(tiny_config, seed),
            char_tokenizer,
        )
    a, b, c = (load(tmp_path / name).fingerprint for name in "abc")
    assert a == b != c and len(a) == 32
    assert load(tmp_path / "a").fingerprint == a  # from the cache
    (tmp_path / "b" / "generation_config.json").write_text('{"eos_token_id": [3]}')
    assert load(tmp_path / "b").fingerprint != a
    commit = "0123456789abcdef" * 2 + "01234567"
    hub = tmp_path / "models--o--n" / "snapshots" / commit
    hub.parent.mkdir(parents=True)
    (tmp_path / "a").rename(hub)
    assert load(hub).fingerprint == f"{a}@{commit}"
    assert Model(tiny_config, {}, None).fingerprint is None


def test_a_hub_id_may_name_its_revision(monkeypatch, tmp_path, tiny_config):
    import huggingface_hub

    asked = []
    save(tmp_path, tiny_config, random_params(tiny_config))
    give = lambda name, revision=None, **_: asked.append((name, revision)) or tmp_path
    monkeypatch.setattr(huggingface_hub, "snapshot_download", give)
    load("owner/name"), load("owner/name@v1.0")
    assert asked == [("owner/name", None), ("owner/name", "v1.0")]


def test_heads_that_do_not_divide_are_refused_or_said():
    assert not check_heads(28, 4, "m", 4, 100)
    with pytest.raises(
        UserError, match="28 heads do not divide .* axis of 8.* axis that divides is 4"
    ):
        check_heads(28, 4, "m", 8, 100)
    assert "1 key-value heads do not divide over a model axis of 4" in check_heads(
        8, 1, "m", 4, 512
    )
