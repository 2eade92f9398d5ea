"""Reward terms, one function each, and the mix of them that a config names."""

# Importing these files registers their terms.
from fr.rewards import confidence_terms, text_terms  # noqa: F401
from fr.rewards.mix import MixedRewards, RewardMix
from fr.rewards.terms import TERMS, Term, register_term

__all__ = [
    "TERMS",
    "MixedRewards",
    "RewardMix",
    "Term",
    "register_term",
]
