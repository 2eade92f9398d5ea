"""The one value that a sentence states: `There are 12 apples left.`, `minus three`.

A sentence states a value only if there is exactly one and no word changes it
(`less than 5`, `not 5`, `half of 5`).
"""

import re
from fractions import Fraction

from fr.tasks.algebra import TooLarge, number
from fr.tasks.expressions import Unread
from fr.tasks.formulas import parse_formula
from fr.tasks.values import Value

_MAX_WORDS = 60  # of a sentence

# Words of functions and constants that belong to a formula.
FORMULA_WORDS = set(
    "sin cos tan cot sec csc log ln exp sqrt pi arcsin arccos arctan sinh cosh "
    "tanh".split()
)
_SCALES = {
    "hundred": 100,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "dozen": 12,
}
# Words that change a value from anywhere in its sentence.
CHANGES = re.compile(
    r"\b(?:not|no|never|neither|nor|without|except|unless|cannot|between|or|either"
    r"|minus|negative|plus"
    r"|times (?=[\d\\(])"
    r"|divided"
    r"|multiplied|modulo|mod|twice|double|triple|root|log|ln|logarithm|factorial"
    r"|squared|cubed|half|third|quarter"
    r"|undefined|impossible|infinite|infinitely|unknown|power|multiples?|once|thrice"
    r"|wrong|incorrect|instead|if|unlikely"
    r"|might|may|perhaps|maybe|guess|versus|vs"
    r"|ratio|range|ranges|plus-minus|remainder of|anything but|all but|far from"
    r"|short of)\b"
    r"|n't\b|\b(?:more|less|fewer|greater|smaller|larger|bigger|higher|lower|other"
    r"|rather|different|earlier|later"
    r"|longer|shorter|older|younger)\s+than\b"
    r"|\bat\s+(?:least|most)\b|\bup\s+to\b|\b(?:square|cube)\s+of\b|\bexceed",
    re.I,
)
# Words that change a value when they come right before it ...
_BEFORE = re.compile(
    r"(?:\b(?:under|over|above|below|beyond|than|before|after|until|exceeds?|per"
    r"|without|inverse|reciprocal of"
    r"|factors? of|divisors? of|percent of|part of|fraction of|modulus|almost|nearly"
    r"|question|step|case|part|option"
    r"|problem|equation|chapter|figure|example)|[A-Za-z]\s?[<>]|#)\s*$",
    re.I,
)
# ... a name, which the number belongs to (`June 20`, `Room 5`), ...
_NAMED = re.compile(
    r"(?<![.:!?] )\b(?!(?:There|The|So|Thus|Therefore|Hence|Total|Answer|Only|About"
    r"|Approximately|Exactly|Just|Around"
    r"|Roughly|It|They|We|Is|Final|Sum|Result|Product|Yes|Ans)\b)[A-Z][a-z]+\.?$"
)
# ... or right after it.
_AFTER = re.compile(
    r"\s*(?:or\b|and\b|to\b|of\b|R\b|r\b|remainder|squared|cubed|factorial|mod"
    r"|fold\b|times\s*[\d\\(]"
    r"|more than|less than|%|!"
    r"|\^|st\b|nd\b|rd\b|th\b|plus|minus|over\b|x\b|half|halves|thirds?|quarters?"
    r"|fifths?|tenths?|hundredths?|into\b"
    r"|choose|base|in base|percent of|out of)",
    re.I,
)
CLAUSE_END = re.compile(
    r"[,;:]?\s+(?:because|since|as|so|which|where|for|by|after|when|therefore|thus"
    r"|hence|while|i\.e\.|that is|given"
    r"|due|with|using|from|based|obtained|is (?:the|our|my|what|correct)"
    r"|and (?:so|this|that|thus|hence|we|it"
    r"|therefore|the|is)|follows|as (?:required|desired|claimed|shown|expected)|etc)\b"
    r"|[;—]\s|\s[-–]\s(?=[a-z])|,\s+(?=(?:I|we|it|this|that|the|not|as|giving"
    r"|meaning|at|in|on|namely|including|with)\b)"
)
_SENTENCE_END = re.compile(r"[.!?](?:[*_\"')\]]*)(?:\s|$)")
REMARK = re.compile(r"\s\((?=[A-Za-z]{3}|not )[^()\\]*\)")
# The answer follows one of these verbs. The number of a place or a time does not count.
VERB = re.compile(
    r"\b(?:is|are|equals|be|gives|yields|was|were|has|have|had|makes|gets|occurs"
    r"|appears|costs)\b",
    re.I,
)
_ADJUNCT = re.compile(
    r"(?<=[A-Za-z]) (?:in|at|on|from|for|after|per|into|with) "
    r"(?:the |each |every |all )?\d.*$"
)
_ONES = {
    word: n
    for n, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen "
        "fourteen fifteen sixteen seventeen eighteen nineteen".split()
    )
}
_TENS = {
    word: 10 * n
    for n, word in enumerate(
        "twenty thirty forty fifty sixty seventy eighty ninety".split(), 2
    )
}
_BELOW_HUNDRED = _ONES | _TENS
# A number in words beside a number makes it unclear which of them is meant.
_COUNTS = set(_BELOW_HUNDRED) - {"one"}
_ONE_WORD = "|".join((*_BELOW_HUNDRED, "hundred", "thousand", "million"))
_NUMBER_WORDS = re.compile(
    r"(?P<sign>minus |negative )?(?:(?<=[se] )(?P<digits>\d{1,30})"
    rf"|(?P<top>{'|'.join(_BELOW_HUNDRED)}|a)[\s-]"
    r"(?P<part>half|third|quarter)s?"
    rf"|(?P<words>(?:{_ONE_WORD})(?:[\s-](?:and )?(?:{_ONE_WORD}))*))"
    r"(?: (?!dozen|billion|trillion|million|thousand|hundred|squared|cubed|percent"
    r"|thirds|quarters|halves|or|and)"
    r"[a-z]{3,})?"
)
_WORD = re.compile(r"[(\"'*_]*[A-Za-z][A-Za-z'’-]+[)\"'*_.,:;!?]*|[aAI][,]?")


def first_sentence(text: str) -> str:
    """First sentence of a text.

    Args:
        text: Any text.

    Returns:
        The sentence without its closing mark, or all of the text.
    """
    match = _SENTENCE_END.search(text, 1)
    return text[: match.start()].strip() if match else text.strip()


def first_clause(text: str) -> str:
    """First clause of the first sentence of a text.

    Args:
        text: Any text.

    Returns:
        The sentence up to a reason, a remark or another clause.
    """
    text = first_sentence(text)
    match = CLAUSE_END.search(text, 1)
    return (text[: match.start()] if match else text).strip()


def formula_value(text: str) -> Value | None:
    """Value of a formula, Markdown's signs around it left out.

    Args:
        text: In the notation of `normalise.unify_notation`.

    Returns:
        The value, or None for any other text.
    """
    try:
        return parse_formula(text.strip(" *_`\"'"))
    except (Unread, TooLarge, ValueError, RecursionError, ArithmeticError):
        return None


def number_in_words(text: str) -> Value | None:
    """Value of a number in words: `minus three`, `forty-two apples`, `one half`.

    Args:
        text: A clause.

    Returns:
        The value, or None if the clause says anything else.
    """
    match = _NUMBER_WORDS.fullmatch(text.casefold().rstrip("."))
    if not match:
        return None
    if match["digits"]:
        total = Fraction(match["digits"])
    elif match["part"]:
        parts = {"half": 2, "third": 3, "quarter": 4}[match["part"]]
        total = Fraction(_BELOW_HUNDRED.get(match["top"], 1), parts)
    else:
        total, group = Fraction(0), 0
        for word in re.split(r"[\s-]+", match["words"]):
            if word in _BELOW_HUNDRED:
                group += _BELOW_HUNDRED[word]
            elif word == "hundred":
                group = max(group, 1) * 100
            elif word in ("thousand", "million"):
                total, group = total + max(group, 1) * _SCALES[word], 0
        total += group
    return Value("expr", expr=number(-total if match["sign"] else total))


def sentence_value(text: str) -> Value | None:
    """The one value of a sentence: `the sum of 17 and 25 is 42`.

    Args:
        text: A clause of at most 600 characters.

    Returns:
        The value after its last verb, or the only one among its words. None if there
        is none, if there are several or if a word changes it.
    """
    if len(text) > 600:
        return None
    verbs = [
        match
        for match in VERB.finditer(text)
        if not CHANGES.search(text[match.end() :])
    ]
    for match in reversed(verbs):
        value = _only(_ADJUNCT.sub("", text[match.end() :]), text[: match.end()])
        if value is not None:
            return value
    return None if CHANGES.search(text) else _only(text, "")


def leading_value(text: str) -> Value | None:
    """The value that a text begins with, if harmless words follow: `12 apples`.

    Args:
        text: Any text.

    Returns:
        The value or None.
    """
    sentence = first_sentence(REMARK.sub("", text))
    match = re.search(
        r"(?<=[\s\d)}$⦄\]])[,]?\s*(?=[A-Za-z][a-z]+(?:[^\w(]|$))", sentence
    )
    if not match or not match.start():
        return None
    head, tail = sentence[: match.start()].strip(), sentence[match.end() :]
    closing = CLAUSE_END.search(" " + tail)
    clause = tail[: max(closing.start() - 1, 0)] if closing else tail
    if CHANGES.search(clause) or _AFTER.match(tail) or re.search(r"\d", clause):
        return None
    return _among("", head, clause)


def _tokens(text: str) -> list[tuple[bool, str]]:
    """(is a word, text) of the words of a sentence and of its formulas as a whole."""
    pieces: list[tuple[bool, str]] = []
    for piece in text.split():
        bare = piece.strip("()*_`\"'.,:;!?").lower()
        word = bool(_WORD.fullmatch(piece)) and bare not in FORMULA_WORDS
        if not word and pieces and not pieces[-1][0]:
            pieces[-1] = (False, f"{pieces[-1][1]} {piece}")
        else:
            pieces.append((word, piece))
    return pieces


def _only(text: str, before: str) -> Value | None:
    """The value of the only formula among words."""
    pieces = _tokens(text)
    if len(pieces) > _MAX_WORDS or not before and not any(word for word, _ in pieces):
        return None
    found = [(i, piece) for i, (word, piece) in enumerate(pieces) if not word]
    if _COUNTS & {
        piece.strip("*_`\"'.,:;!?()").lower() for word, piece in pieces if word
    }:
        return None
    # a lone letter is the name of the value, as in `the value of x is 5`
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
    following = " ".join(piece for _, piece in pieces[at + 1 :])
    return _among(f"{before} {ahead}".strip(), piece, following)


def _among(before: str, piece: str, following: str) -> Value | None:
    """The value of a formula among words; None where these change it."""
    if _BEFORE.search(before) or _NAMED.search(before):
        return None
    if not re.search(r"[\d\\+*/^=(\[⦃-]", piece):
        return None  # a lone letter, which any sentence may begin with
    value = formula_value(piece.strip().strip("*_`\"'").rstrip(",;:"))
    if value is None or value.kind == "list":
        return None
    word = re.match(r"[A-Za-z]+", following)
    if word and (scale := _SCALES.get(word[0].lower())):
        if value.number is None:
            return None
        following = following[word.end() :].strip()
        value = value._replace(expr=number(value.number * scale))
    if following and _AFTER.match(following):
        return None
    return value
