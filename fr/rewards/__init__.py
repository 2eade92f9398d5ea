"""Rewards: one function a term, and the mix of them that a config names."""

from fr.rewards import certainty as _certainty  # noqa: F401  (each files its terms in TERMS)
from fr.rewards import guards as _guards  # noqa: F401
from fr.rewards import judged as _judged  # noqa: F401
from fr.rewards import outcome as _outcome  # noqa: F401
from fr.rewards import progress as _progress  # noqa: F401
from fr.rewards import shaping as _shaping  # noqa: F401
from fr.rewards.base import TERMS, Term, term
from fr.rewards.mix import Mix, Mixed
from fr.rewards.user import import_terms

__all__ = ["TERMS", "Mix", "Mixed", "Term", "import_terms", "term"]
