"""Foreign code (chat templates, tokenizers) is bounded and fails in one line."""

import json

import pytest

from fr import foreign
from fr.errors import UserError
from fr.models.chat_template import encode_chat, end_of_turn

ASK = [{"role": "user", "content": "hi"}]


@pytest.fixture
def impatient(monkeypatch):
    """A process that is given little time."""
    monkeypatch.setattr(foreign, "SECONDS", 1.5)
    foreign._pool.cache_clear()
    yield
    foreign._pool().close()
    foreign._pool.cache_clear()


ENDLESS = {
    "nested loops": "{% for a in range(99999) %}{% for b in range(99999) %}"
    "{% endfor %}{% endfor %}",
    "a long string": "{{ 'x' * 10**10 }}",
    "doubling": "{% set n = namespace(x='xxxx') %}{% for i in range(60) %}"
    "{% set n.x = n.x ~ n.x %}{% endfor %}",
    "a padded number": "{{ '%99999999999d' % 3 }}",
    "a wide join": "{{ (['x' * 10000] * 100000) | join('y' * 1000) }}",
    "a large power": "{{ (9 ** (9 ** 9)) % 7 }}",
}


def test_templates_without_end_are_stopped_and_said_in_one_line(impatient):
    for what, template in ENDLESS.items():
        said = (
            r"^m: (needs more than 1\.5 s of processor time or 1536 MB"
            r"|no answer in 1\.5 s)$"
        )
        with pytest.raises(UserError, match=said):
            foreign.render(template, ASK, {}, "m")
            pytest.fail(what)
    assert foreign.render("{{ messages[0].content }}", ASK, {}, "m") == "hi"


def test_templates_that_fail_are_one_line():
    for template, why in {
        "{% if %}": "TemplateSyntaxError",
        "{{ " + "(" * 10000: "RecursionError|TemplateSyntaxError",
        "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}": "RecursionError",
        "{{ a.b.c }}": "'a' is undefined",
        "{{ raise_exception('not\nthis') }}": "TemplateError: not$",
        "{{ ''.__class__.__mro__ }}": "SecurityError",
        "{% for i in range(90000) %}{{ 'x' * 1000 }}{% endfor %}": (
            "it writes 90000000 characters"
        ),
    }.items():
        with pytest.raises(
            UserError, match=f"^m: its chat template fails: .*({why})"
        ) as error:
            foreign.render(template, ASK, {}, "m: its chat template fails")
        assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_a_template_is_rendered_as_transformers_renders_it(char_tokenizer):
    template = (
        "{{ bos_token }}{% for m in messages %}<{{ m['role'] }}>{{ m.content | trim }}"
        "{{ {'a': 'é'} | tojson }}{% if loop.last %}{% break %}{% endif %}{% endfor %}"
        "\n"
        "{% if add_generation_prompt %}go{% endif %}{{ tool }}"
    )
    char_tokenizer.chat_template = template
    try:
        for messages in (
            ASK,
            [*ASK, {"role": "assistant", "content": " yes \u2028\n"}],
        ):
            theirs = char_tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, return_dict=False, tool="x"
            )
            assert encode_chat(char_tokenizer, messages, {"tool": "x"}, "m") == theirs
    finally:
        char_tokenizer.chat_template = None


def test_an_endless_template_is_said_when_the_model_is_loaded(
    impatient, char_tokenizer
):
    char_tokenizer.chat_template = ENDLESS["nested loops"]
    try:
        with pytest.raises(
            UserError, match="its chat template fails: (needs more|no answer)"
        ):
            end_of_turn(char_tokenizer)
        char_tokenizer.chat_template = "{{ raise_exception('no replies') }}"
        assert end_of_turn(char_tokenizer) is None
    finally:
        char_tokenizer.chat_template = None


def test_a_tokenizer_that_panics_or_cannot_be_read_is_one_line(
    tmp_path, char_tokenizer
):
    good = json.loads(char_tokenizer.backend_tokenizer.to_str())
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(good))
    assert foreign.check_tokenizer(path) == len(char_tokenizer)
    regex = {
        "type": "Split",
        "pattern": {"Regex": "("},
        "behavior": "Isolated",
        "invert": False,
    }
    for change in (
        {"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}},
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA////"}},
        {"pre_tokenizer": regex},
        {"model": None},
    ):
        bad = good | change
        path.write_text(json.dumps(bad))
        with pytest.raises(UserError, match=f"^{path}: ") as error:
            assert foreign.check_tokenizer(path) == len(char_tokenizer)
        assert "\n" not in str(error.value)
