"""Equality of formulas by math-verify; imported in grader processes only."""

from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

_EXTRACT = (LatexExtractionConfig(), ExprExtractionConfig())
_SIGNS = {
    "⦃": "\\{",
    "⦄": "\\}",
    "≤": "\\le ",
    "≥": "\\ge ",
    "∪": "\\cup ",
    "±": "\\pm ",
    "∈": "\\in ",
    "⏎": "\\\\",
}


def equivalent(reference: str, answer: str) -> bool:
    """True if math-verify finds two formulas equal.

    Args:
        reference: In the notation of `normalise.unify_notation`.
        answer: In the same notation.

    Returns:
        Its verdict; the order of the arguments matters to it.
    """
    # Its own time-outs are off: they use the alarm that bounds this process.
    sides = [
        parse(f"${_latex(side)}$", _EXTRACT, parsing_timeout=None)
        for side in (reference, answer)
    ]
    return bool(verify(*sides, timeout_seconds=None))


def _latex(text: str) -> str:
    for sign, command in _SIGNS.items():
        text = text.replace(sign, command)
    return text
