"""Equality of formulas by math-verify; only ever imported in a grader process."""

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
    """Whether two formulas in the spelling of `undress.unified` are the same."""
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
