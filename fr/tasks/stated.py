"""The value that an answer states in words or signs, or the words themselves.

An answer may say more than its value: `There are 12 apples left.`,
`x = 4, since 4 + 3 = 7`.
"""

import functools
import re
from collections.abc import Iterator

from fr.tasks.formulas import has_open_operation
from fr.tasks.normalise import normalise_words, strip_markup, unify_notation
from fr.tasks.sentences import (
    CHANGES,
    CLAUSE_END,
    FORMULA_WORDS,
    REMARK,
    VERB,
    first_clause,
    first_sentence,
    formula_value,
    leading_value,
    number_in_words,
    sentence_value,
)
from fr.tasks.values import Value

# Short words that show that a text is not a formula.
_SMALL = set(
    "is it the of and or not no to in on at an as by if so we be are was has for you "
    "yes all its".split()
)
_DENIES = re.compile(
    r"\b(?:not|no|never|neither|nor|or|and|but|except|cannot|wrong|false)\b|n't\b", re.I
)
_SAID = re.compile(
    r"\b(?:is|are|was|were|be|on|called|named|equals)\b"
    r"(?:\s(?:always|simply|definitely))?",
    re.I,
)
_REASON = re.compile(
    r",?\s+(?:because|since)\b|,\s+(?:so|as|which|where|for)\b|[;—]\s|\s[-–]\s"
)


@functools.lru_cache(maxsize=16384)
def read_value(text: str, unmarked: bool = False) -> Value:
    """Read the value that an answer states.

    Args:
        text: The answer as written.
        unmarked: The answer came without a marker, so it may be any sentence. Only a
            value that is all of the text counts then, except for closing words.

    Returns:
        The value. Its kind is `text` where the answer is words or states no value or
        several, and `opaque` where it is a formula that is not parsed.
    """
    if len(text) > 400:
        text = text.strip().split("\n\n")[0]
    clean = unify_notation(strip_markup(text))
    if not clean:
        return Value("text")
    for form in _forms(clean):
        value = formula_value(form)
        if value is not None:
            return value
    if unmarked and "=" in clean:
        clean = clean.rpartition("=")[2].strip()
    stated = number_in_words(first_clause(clean))
    if stated is None and (not unmarked or re.search(r"[.!]$", clean)):
        stated = sentence_value(first_clause(clean))
    if stated is None and "=" in clean:
        stated = _after_equals(clean)
    if stated is None:
        stated = leading_value(clean)
    if stated is not None:
        return stated
    if _is_formula(clean):
        tight = re.sub(r"\s+", "", clean.replace("$", ""))
        return Value("opaque", text=re.sub(r"[\s.]+$", "", tight))
    return Value("text", text=normalise_words(_because(clean)))


def word_forms(text: str) -> tuple[str, ...]:
    """Forms of an answer in words, one of which must be the words of the reference.

    All words, the text without remarks in brackets, the first sentence, the part before
    a reason, and the parts before and after the verb of a short sentence
    (`The capital is Canberra.`).

    Args:
        text: The answer as written.

    Returns:
        Different forms (`normalise_words`), the whole text first.
    """
    clean = unify_notation(strip_markup(text))
    truth = re.match(r"(?:yes|no|true|false)\b(?=\s?[-–,])", clean, re.I)
    bold = re.match(r"\*\*([^*]+)\*\*", text.strip())
    sentence = first_sentence(clean)
    forms = [
        clean,
        REMARK.sub("", clean),
        sentence,
        _because(clean),
        bold[1] if bold else clean,
    ]
    forms += [truth[0]] if truth else []
    closing = CLAUSE_END.search(sentence, 1)
    if closing and "," in closing[0]:
        forms.append(sentence[: closing.start()])
    if len(sentence) < 200 and not _DENIES.search(sentence):
        said = first_clause(sentence) if "," in sentence else sentence
        forms += [said[match.end() :] for match in _SAID.finditer(said)]
        forms += [said[: match.start()] for match in list(VERB.finditer(said))[:1]]
    return tuple(dict.fromkeys(form for form in map(normalise_words, forms) if form))


def is_unevaluated(text: str) -> bool:
    """True if an answer leaves its sum or product to the reader: `3 + 4`.

    Args:
        text: The answer as written.

    Returns:
        True or False; False where the result follows an equals sign.
    """
    clean = unify_notation(strip_markup(text))
    first = next(
        (form for form in _forms(clean) if formula_value(form) is not None), clean
    )
    if "≈" in first:
        exact = re.split(r"[=≈]", first.partition("≈")[0])[-1]
        return has_open_operation(exact.strip())
    sides = [
        side.strip().rstrip(".") for side in re.split(r"[=≈]", first) if side.strip()
    ]
    return all(
        has_open_operation(side)
        for side in sides
        if side is sides[-1] or re.fullmatch(r"[-\d.,]+", side)
    )


def _because(text: str) -> str:
    """The first sentence up to a reason."""
    sentence = first_sentence(text)
    match = _REASON.search(sentence, 1)
    return sentence[: match.start()] if match else sentence


def _after_equals(clean: str) -> Value | None:
    """The number after the last equals sign of a calculation in words.

    For example `9 eggs * $2 per egg = $18`.
    """
    before, _, last = first_clause(clean).rpartition("=")
    if re.fullmatch(r"[A-Za-z][A-Za-z ]{1,40}", before) and not CHANGES.search(before):
        return formula_value(last.strip())
    related = re.search(r"[<>≤≥≠≡∈]|\bor\b", before)
    if related or not re.search(r"\d|gcd|lcm", before):
        return None
    value = read_value(last.strip()) if "=" not in last else None
    return value if value is not None and value.number is not None else None


def _forms(clean: str) -> Iterator[str]:
    """The whole text, then without remarks in brackets, then its first clause."""
    yield clean
    bare = REMARK.sub("", clean)
    if bare != clean and bare.strip():
        yield bare
    clause = first_clause(bare)
    if clause != bare:
        yield clause


def _is_formula(text: str) -> bool:
    """True if a text that states no value is a formula rather than words."""
    text = text.replace("$", "")
    if len(text) > 1500:
        return False
    words = set(
        re.findall(r"(?<![\\A-Za-z])[A-Za-z]{2,}", re.sub(r"\\[A-Za-z]+", " ", text))
    )
    words = {
        word
        for word in words - FORMULA_WORDS
        if len(word) > 3 or word.lower() in _SMALL
    }
    signs = bool(re.search(r"\\[A-Za-z]+|[\d^_+*/=<>≤≥∪|()\[\]]", text))
    return signs and not words
