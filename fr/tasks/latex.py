"""Equality of LaTeX answers by the optional package math-verify; only ever imported in a grader process."""

from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

_EXTRACT = (LatexExtractionConfig(), ExprExtractionConfig())


def equivalent(reference: str, answer: str) -> bool:
    """True if the two expressions are mathematically the same."""
    # Its own time-outs are off: they use the alarm that bounds this process.
    sides = [parse(f"${side.strip('$')}$", _EXTRACT, parsing_timeout=None) for side in (reference, answer)]
    return bool(verify(*sides, timeout_seconds=None))
