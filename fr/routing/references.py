"""What every policy is held against; declared here, before any row is seen."""

from collections.abc import Mapping
from typing import TypeVar

import numpy as np

from fr.routing.learn import PERMUTED

Cost = TypeVar("Cost", float, np.ndarray)  # a mean over problems, or of each

# Fitted on other failures and judged as they are; `fresh_z`: with standard scores of the failures at hand.
FROZEN_HEADS = ("frozen_head", "frozen_head_fresh_z")
FROZEN = (*FROZEN_HEADS, "frozen_rule", "frozen_fixed")
# Reading the failure costs its diagnosis; those that are neither here nor below need no failure.
DIAGNOSED = (
    "routed",  # the rule, as a cell's own protocols call it
    *("rule", "rule_no_fallback", "rule_subset", "rule_subset_no_fallback", "frozen_rule"),
    *("head", "head_signals", PERMUTED, *FROZEN_HEADS),
)
COUNTED = ("head_free", "head_nuisances")  # these read what comes with the rollouts


def charge(policy: str, known: Mapping[str, Cost]) -> Cost | float:
    """Forward positions that a policy pays for a problem before its first attempt; `known` as of `costs`."""
    if policy in DIAGNOSED:
        return known["diagnosis"]
    return known["failures"] if policy in COUNTED else 0.0


# What each policy is held against; `permuted` is itself with its routes shuffled over the problems of a cell.
REFERENCES = {
    "head": ("best_fixed_per_cell", "permuted", "head_nuisances", "head_prompt", "rule", "retry",
             "random_operator", "best_fixed_per_task", "best_fixed", "head_intercept", PERMUTED),
    "head_free": ("best_fixed_per_cell", "permuted", "head_nuisances", "head_prompt", "retry"),
    "head_signals": ("best_fixed_per_cell", "permuted", "head_prompt", PERMUTED),
    "head_nuisances": ("best_fixed_per_cell", "permuted", "head_prompt"),
    "head_prompt": ("best_fixed_per_cell",),
    "head_intercept": ("best_fixed",),
    PERMUTED: ("best_fixed_per_cell",),
    "rule": ("best_fixed_per_cell", "permuted", "retry", "random_operator", "best_fixed_per_task",
             "best_fixed", "always_sparse_steer_random"),
    "rule_no_fallback": ("best_fixed_per_cell", "permuted", "retry"),
    "rule_subset": ("best_fixed_per_cell", "permuted", "retry"),
    "rule_subset_no_fallback": ("best_fixed_per_cell", "permuted", "retry"),
    "best_fixed_per_cell": ("retry", "best_fixed_per_task", "best_fixed"),
    "frozen_head": ("best_fixed_per_cell", "frozen_fixed", "retry", "permuted", "frozen_rule", "head",
                    "random_operator"),
    "frozen_head_fresh_z": ("best_fixed_per_cell", "frozen_fixed", "retry", "permuted"),
    "frozen_rule": ("best_fixed_per_cell", "frozen_fixed", "retry", "permuted", "rule", "random_operator"),
    "frozen_fixed": ("best_fixed_per_cell", "retry"),
}  # fmt: skip
# What a run is judged by, k-fold, pooled, on all failed problems: the first of these that was made.
PRIMARY = (("head", "best_fixed_per_cell"), ("rule", "best_fixed_per_cell"))
# Holm runs over these, pooled, in each protocol and population.
FAMILY = tuple(
    [("head", reference) for reference in REFERENCES["head"][:5]]
    + [("rule", reference) for reference in ("best_fixed_per_cell", "permuted", "retry")]
    + [(name, reference) for name in ("frozen_head", "frozen_rule") for reference in REFERENCES[name][:3]]
)
