"""What an answer in words or signs claims: the one value that a line states, or the words themselves.

A line may say more than the value (`There are 12 apples left.`, `x = 4, since 4 + 3 = 7`). It states a
value only if there is exactly one and no word changes it (`less than 5`, `not 5`, `half of 5`).
"""

import functools
import re
from fractions import Fraction

from fr.tasks import algebra
from fr.tasks.expressions import Unread
from fr.tasks.formulas import parse, undone
from fr.tasks.undress import normalised, plain, unified
from fr.tasks.values import Value

_WORDS = 60  # of a sentence that is read

# Words of functions and constants that belong to a formula.
_OF_FORMULAS = set(
    "sin cos tan cot sec csc log ln exp sqrt pi arcsin arccos arctan sinh cosh tanh".split()
)
_SMALL = set(
    "is it the of and or not no to in on at an as by if so we be are was has for you yes all its".split()
)
_SCALES = {
    "hundred": 100,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "dozen": 12,
}
# Words that change a value when they stand anywhere in its sentence ...
_CHANGES = re.compile(
    r"\b(?:not|no|never|neither|nor|without|except|unless|cannot|between|or|either|minus|negative|plus"
    r"|times (?=[\d\\(])"
    r"|divided"
    r"|multiplied|modulo|mod|twice|double|triple|root|log|ln|logarithm|factorial|squared|cubed|half|third|quarter"
    r"|undefined|impossible|infinite|infinitely|unknown|power|multiples?|once|thrice|wrong|incorrect|instead|if|unlikely"
    r"|might|may|perhaps|maybe|guess|versus|vs"
    r"|ratio|range|ranges|plus-minus|remainder of|anything but|all but|far from|short of)\b"
    r"|n't\b|\b(?:more|less|fewer|greater|smaller|larger|bigger|higher|lower|other|rather|different|earlier|later"
    r"|longer|shorter|older|younger)\s+than\b"
    r"|\bat\s+(?:least|most)\b|\bup\s+to\b|\b(?:square|cube)\s+of\b|\bexceed",
    re.I,
)
# ... or right before it or behind it.
_DENIES = re.compile(
    r"\b(?:not|no|never|neither|nor|or|and|but|except|cannot|wrong|false)\b|n't\b", re.I
)
_SAID = re.compile(
    r"\b(?:is|are|was|were|be|on|called|named|equals)\b(?:\s(?:always|simply|definitely))?",
    re.I,
)
_BEFORE = re.compile(
    r"(?:\b(?:under|over|above|below|beyond|than|before|after|until|exceeds?|per|without|inverse|reciprocal of"
    r"|factors? of|divisors? of|percent of|part of|fraction of|modulus|almost|nearly|question|step|case|part|option"
    r"|problem|equation|chapter|figure|example)|[A-Za-z]\s?[<>]|#)\s*$",
    re.I,
)
# A name before a number belongs to it: `June 20`, `Room 5`.
_NAMED = re.compile(
    r"(?<![.:!?] )\b(?!(?:There|The|So|Thus|Therefore|Hence|Total|Answer|Only|About|Approximately|Exactly|Just|Around"
    r"|Roughly|It|They|We|Is|Final|Sum|Result|Product|Yes|Ans)\b)[A-Z][a-z]+\.?$"
)
_BEHIND = re.compile(
    r"\s*(?:or\b|and\b|to\b|of\b|R\b|r\b|remainder|squared|cubed|factorial|mod|fold\b|times\s*[\d\\(]"
    r"|more than|less than|%|!"
    r"|\^|st\b|nd\b|rd\b|th\b|plus|minus|over\b|x\b|half|halves|thirds?|quarters?|fifths?|tenths?|hundredths?|into\b"
    r"|choose|base|in base|percent of|out of)",
    re.I,
)
_CLAUSE = re.compile(
    r"[,;:]?\s+(?:because|since|as|so|which|where|for|by|after|when|therefore|thus|hence|while|i\.e\.|that is|given"
    r"|due|with|using|from|based|obtained|is (?:the|our|my|what|correct)|and (?:so|this|that|thus|hence|we|it"
    r"|therefore|the|is)|follows|as (?:required|desired|claimed|shown|expected)|etc)\b"
    r"|[;—]\s|\s[-–]\s(?=[a-z])|,\s+(?=(?:I|we|it|this|that|the|not|as|giving|meaning|at|in|on|namely|including|with)\b)"
)
_REASON = re.compile(
    r",?\s+(?:because|since)\b|,\s+(?:so|as|which|where|for)\b|[;—]\s|\s[-–]\s"
)
_SENTENCE = re.compile(r"[.!?](?:[*_\"')\]]*)(?:\s|$)")
_REMARK = re.compile(r"\s\((?=[A-Za-z]{3}|not )[^()\\]*\)")
# What a sentence says after one of these is its answer; what follows a place or a time is not.
_VERB = re.compile(
    r"\b(?:is|are|equals|be|gives|yields|was|were|has|have|had|makes|gets|occurs|appears|costs)\b",
    re.I,
)
_ADJUNCT = re.compile(
    r"(?<=[A-Za-z]) (?:in|at|on|from|for|after|per|into|with) (?:the |each |every |all )?\d.*$"
)
_UNITS = {
    word: n
    for n, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen".split()
    )
}
_UNITS |= {
    word: 10 * n
    for n, word in enumerate(
        "twenty thirty forty fifty sixty seventy eighty ninety".split(), 2
    )
}
_COUNTS = set(_UNITS) - {
    "one"
}  # numbers in words beside a number make it unclear which is meant
_ONE_WORD = "|".join((*_UNITS, "hundred", "thousand", "million"))
_NUMBER_WORDS = re.compile(
    rf"(?P<sign>minus |negative )?(?:(?<=[se] )(?P<digits>\d{{1,30}})|(?P<top>{'|'.join(_UNITS)}|a)[\s-]"
    r"(?P<part>half|third|quarter)s?"
    rf"|(?P<words>(?:{_ONE_WORD})(?:[\s-](?:and )?(?:{_ONE_WORD}))*))"
    r"(?: (?!dozen|billion|trillion|million|thousand|hundred|squared|cubed|percent|thirds|quarters|halves|or|and)"
    r"[a-z]{3,})?"
)
_WORD = re.compile(r"[(\"'*_]*[A-Za-z][A-Za-z'’-]+[)\"'*_.,:;!?]*|[aAI][,]?")


@functools.lru_cache(maxsize=16384)
def read(text: str, whole: bool = False) -> Value:
    """The value that an answer states.

    Args:
      text: the answer as it is written.
      whole: only a value that is all of the text counts, but for closing words (the text stood
        without a marker, so it may be any sentence).

    Returns:
      A `Value`; of kind `text` where the answer is words or states no value or several, and
      `opaque` where it is a formula that is not read here.
    """
    clean = unified(plain(text.strip().split("\n\n")[0] if len(text) > 400 else text))
    if not clean:
        return Value("text")
    for form in _forms(clean):
        value = _parsed(form)
        if value is not None:
            return value
    if whole and "=" in clean:
        clean = clean.rpartition("=")[2].strip()
    stated = _worded(_clause(clean))
    if stated is None and (not whole or re.search(r"[.!]$", clean)):
        stated = _sentence(_clause(clean))
    if stated is None and "=" in clean:
        stated = _after_equals(clean)
    if stated is None:
        stated = _leading(clean)
    if stated is not None:
        return stated
    if _is_formula(clean):
        return Value(
            "opaque",
            text=re.sub(r"[\s.]+$", "", re.sub(r"\s+", "", clean.replace("$", ""))),
        )
    return Value("text", text=normalised(_because(clean)))


def words(text: str) -> tuple[str, ...]:
    """The words of an answer as they are compared.

    All of them, without remarks in brackets, the first sentence, what stands before a reason, and
    what stands on either side of the verb of a short sentence (`The capital is Canberra.`).
    """
    clean = unified(plain(text))
    truth = re.match(r"(?:yes|no|true|false)\b(?=\s?[-–,])", clean, re.I)
    bold = re.match(r"\*\*([^*]+)\*\*", text.strip())
    sentence = _first_sentence(clean)
    forms = [
        clean,
        _REMARK.sub("", clean),
        sentence,
        _because(clean),
        bold[1] if bold else clean,
    ]
    forms += [truth[0]] if truth else []
    forms += [
        sentence[: match.start()]
        for match in [_CLAUSE.search(sentence, 1)]
        if match and "," in match[0]
    ]
    if len(sentence) < 200 and not _DENIES.search(sentence):
        said = _clause(sentence) if "," in sentence else sentence
        forms += [said[match.end() :] for match in _SAID.finditer(said)]
        forms += [said[: match.start()] for match in list(_VERB.finditer(said))[:1]]
    return tuple(dict.fromkeys(form for form in map(normalised, forms) if form))


def _because(text: str) -> str:
    sentence = _first_sentence(text)
    match = _REASON.search(sentence, 1)
    return sentence[: match.start()] if match else sentence


def _after_equals(clean: str) -> Value | None:
    """What a calculation in words comes to, `9 eggs * $2 per egg = $18`: a number after its last equals sign."""
    before, _, last = _clause(clean).rpartition("=")
    if re.fullmatch(r"[A-Za-z][A-Za-z ]{1,40}", before) and not _CHANGES.search(before):
        return _parsed(last.strip())
    if not re.search(r"\d|gcd|lcm", before) or re.search(r"[<>≤≥≠≡∈]|\bor\b", before):
        return None
    value = read(last.strip()) if "=" not in last else None
    return value if value is not None and value.number is not None else None


def number_undone(text: str) -> bool:
    """Whether an answer leaves its sums or products to the reader (`3 + 4`); what an equals sign closes is done."""
    clean = unified(plain(text))
    first = next((form for form in _forms(clean) if _parsed(form) is not None), clean)
    if "≈" in first:
        return undone(re.split(r"[=≈]", first.partition("≈")[0])[-1].strip())
    sides = [
        side.strip().rstrip(".") for side in re.split(r"[=≈]", first) if side.strip()
    ]
    return all(
        undone(side)
        for side in sides
        if side is sides[-1] or re.fullmatch(r"[-\d.,]+", side)
    )


def _forms(clean: str):
    """The whole text, and what is left of it without remarks in brackets and closing clauses."""
    yield clean
    bare = _REMARK.sub("", clean)
    if bare != clean and bare.strip():
        yield bare
    clause = _clause(bare)
    if clause != bare:
        yield clause


def _clause(text: str) -> str:
    """The first clause of the first sentence."""
    text = _first_sentence(text)
    match = _CLAUSE.search(text, 1)
    return (text[: match.start()] if match else text).strip()


def _first_sentence(text: str) -> str:
    match = _SENTENCE.search(text, 1)
    return text[: match.start()].strip() if match else text.strip()


def _parsed(text: str) -> Value | None:
    try:
        return parse(text.strip(" *_`\"'"))
    except (Unread, algebra.TooLarge, ValueError, RecursionError, ArithmeticError):
        return None


def _worded(text: str) -> Value | None:
    """A number in words, with its sign and perhaps what it counts: `minus three`, `forty-two apples`, `one half`."""
    match = _NUMBER_WORDS.fullmatch(text.casefold().rstrip("."))
    if not match:
        return None
    if match["digits"]:
        total = Fraction(match["digits"])
    elif match["part"]:
        total = Fraction(
            _UNITS.get(match["top"], 1),
            {"half": 2, "third": 3, "quarter": 4}[match["part"]],
        )
    else:
        total, group = 0, 0
        for word in re.split(r"[\s-]+", match["words"]):
            if word in _UNITS:
                group += _UNITS[word]
            elif word == "hundred":
                group = max(group, 1) * 100
            elif word in ("thousand", "million"):
                total, group = total + max(group, 1) * _SCALES[word], 0
        total += group
    return Value("expr", expr=algebra.number(-total if match["sign"] else total))


def _tokens(text: str) -> list[tuple[bool, str]]:
    """(is a word, text) of runs of a sentence: words one by one, formulas as a whole."""
    pieces: list[tuple[bool, str]] = []
    for piece in text.split():
        bare = piece.strip("()*_`\"'.,:;!?").lower()
        word = bool(_WORD.fullmatch(piece)) and bare not in _OF_FORMULAS
        if not word and pieces and not pieces[-1][0]:
            pieces[-1] = (False, f"{pieces[-1][1]} {piece}")
        else:
            pieces.append((word, piece))
    return pieces


def _sentence(text: str) -> Value | None:
    """The one value of a sentence of words, or the one after its verb: `the sum of 17 and 25 is 42`."""
    if len(text) > 600:
        return None
    verbs = [
        match
        for match in _VERB.finditer(text)
        if not _CHANGES.search(text[match.end() :])
    ]
    for match in reversed(verbs):
        value = _only(_ADJUNCT.sub("", text[match.end() :]), text[: match.end()])
        if value is not None:
            return value
    return None if _CHANGES.search(text) else _only(text, "")


def _only(text: str, before: str) -> Value | None:
    """The value of the only formula among words."""
    pieces = _tokens(text)
    if len(pieces) > _WORDS or not before and not any(word for word, _ in pieces):
        return None
    found = [(i, piece) for i, (word, piece) in enumerate(pieces) if not word]
    if _COUNTS & {
        piece.strip("*_`\"'.,:;!?()").lower() for word, piece in pieces if word
    }:
        return None
    # the name of what is told, as in `the value of x is 5`
    stated = [
        (i, piece)
        for i, piece in found
        if not re.fullmatch(r"[$\s]*[A-Za-z][$\s]*", piece)
    ] or found
    if len(stated) != 1:
        return None
    at, piece = stated[0]
    if any(j > at for j, _ in found if j != at):
        return None
    ahead = " ".join(piece for _, piece in pieces[:at])
    behind = " ".join(piece for _, piece in pieces[at + 1 :])
    return _among(f"{before} {ahead}".strip(), piece, behind)


def _among(before: str, piece: str, behind: str) -> Value | None:
    """The value of a formula among words; None where these change it."""
    if _BEFORE.search(before) or _NAMED.search(before):
        return None
    if not re.search(r"[\d\\+*/^=(\[⦃-]", piece):
        return None  # a lone letter, which any sentence may begin with
    value = _parsed(piece.strip().strip("*_`\"'").rstrip(",;:"))
    if value is None or value.kind == "list":
        return None
    word = re.match(r"[A-Za-z]+", behind)
    if word and (scale := _SCALES.get(word[0].lower())):
        if value.number is None:
            return None
        behind = behind[word.end() :].strip()
        value = value._replace(expr=algebra.number(value.number * scale))
    if behind and _BEHIND.match(behind):
        return None
    return value


def _leading(text: str) -> Value | None:
    """The value that a text begins with, if the rest of the sentence is harmless words: `12 apples`."""
    sentence = _first_sentence(_REMARK.sub("", text))
    match = re.search(
        r"(?<=[\s\d)}$⦄\]])[,]?\s*(?=[A-Za-z][a-z]+(?:[^\w(]|$))", sentence
    )
    if not match or not match.start():
        return None
    head, tail = sentence[: match.start()].strip(), sentence[match.end() :]
    closing = _CLAUSE.search(" " + tail)
    clause = tail[: max(closing.start() - 1, 0)] if closing else tail
    if _CHANGES.search(clause) or _BEHIND.match(tail) or re.search(r"\d", clause):
        return None
    return _among("", head, clause)


def _is_formula(text: str) -> bool:
    """Whether a text that is not read is a formula rather than words."""
    text = text.replace("$", "")
    if len(text) > 1500:
        return False
    words = set(
        re.findall(r"(?<![\\A-Za-z])[A-Za-z]{2,}", re.sub(r"\\[A-Za-z]+", " ", text))
    )
    words = {
        word for word in words - _OF_FORMULAS if len(word) > 3 or word.lower() in _SMALL
    }
    signs = bool(re.search(r"\\[A-Za-z]+|[\d^_+*/=<>≤≥∪|()\[\]]", text))
    return signs and not words
