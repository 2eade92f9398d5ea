"""Rewards: one function a term, and the mix of them that a config names."""

from fr.rewards import confidence_terms as _certainty  # noqa: F401  (each files its terms in TERMS)
from fr.rewards import confidence_terms as _progress  # noqa: F401
from fr.rewards import confidence_terms as _shaping  # noqa: F401
from fr.rewards import text_terms as _guards  # noqa: F401
from fr.rewards import text_terms as _judged  # noqa: F401
from fr.rewards import text_terms as _outcome  # noqa: F401
from fr.rewards.mix import Mix, Mixed
from fr.rewards.terms import TERMS, Term, import_terms, term

__all__ = ["TERMS", "Mix", "Mixed", "Term", "import_terms", "term"]
