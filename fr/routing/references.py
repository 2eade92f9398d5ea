"""What every policy is held against, in every run alike: no run's outcomes choose among them.

The primary reference is the best fixed operator of each model on each task, chosen on
training folds: a look-up by the model reads no failure.
"""

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
    *(
        "rule",
        "rule_no_fallback",
        "rule_subset",
        "rule_subset_no_fallback",
        "frozen_rule",
    ),
    *(
        "head",
        "head_signals",
        PERMUTED,
        *FROZEN_HEADS,
        "posterior",
        "posterior_permuted",
    ),
)
COUNTED = (
    "head_free",
    "head_nuisances",
    "posterior_nuisances",
)  # these read what comes with the rollouts


def charge(policy: str, known: Mapping[str, Cost]) -> Cost | float:
    """Forward positions that a policy pays for a problem before its first attempt; `known` as of `costs`."""
    if policy in DIAGNOSED:
        return known["diagnosis"]
    return known["failures"] if policy in COUNTED else 0.0


# What each policy is held against; `permuted` is itself with its routes shuffled over the problems of a cell.
_FIXED = ("best_fixed_per_model", "best_fixed_per_cell")
REFERENCES = {
    "posterior": (*_FIXED, "permuted", "posterior_nuisances", "retry", "rule", "head", "random_operator",
                  "best_fixed_per_task", "best_fixed", "posterior_permuted"),
    "posterior_nuisances": (*_FIXED, "permuted"),
    "posterior_permuted": _FIXED,
    "head": (*_FIXED, "permuted", "head_nuisances", "head_question", "head_prompt", "rule", "retry",
             "random_operator", "best_fixed_per_task", "best_fixed", "head_intercept", PERMUTED),
    "head_free": (*_FIXED, "permuted", "head_nuisances", "head_question", "head_prompt", "retry"),
    "head_signals": (*_FIXED, "permuted", "head_prompt", PERMUTED),
    "head_nuisances": (*_FIXED, "permuted", "head_prompt"),
    "head_question": (*_FIXED, "permuted", "head_prompt"),
    "head_prompt": _FIXED,
    "head_intercept": ("best_fixed",),
    PERMUTED: _FIXED,
    "rule": (*_FIXED, "permuted", "retry", "random_operator", "best_fixed_per_task", "best_fixed",
             "always_sparse_steer_random"),
    "rule_no_fallback": (*_FIXED, "permuted", "retry"),
    "rule_subset": (*_FIXED, "permuted", "retry"),
    "rule_subset_no_fallback": (*_FIXED, "permuted", "retry"),
    "best_fixed_per_model": ("retry", "best_fixed_per_cell", "best_fixed_per_task", "best_fixed"),
    "best_fixed_per_cell": ("retry", "best_fixed_per_task", "best_fixed"),
    "frozen_head": (*_FIXED, "frozen_fixed", "retry", "permuted", "frozen_rule", "head", "random_operator"),
    "frozen_head_fresh_z": (*_FIXED, "frozen_fixed", "retry", "permuted"),
    "frozen_rule": (*_FIXED, "frozen_fixed", "retry", "permuted", "rule", "random_operator"),
    "frozen_fixed": (*_FIXED, "retry"),
}  # fmt: skip
# What a run is judged by, k-fold, pooled, on all failed problems: the first of these that was made.
PRIMARY = (("posterior", "best_fixed_per_model"), ("rule", "best_fixed_per_model"))
# Holm runs over these, pooled, in each protocol and population.
FAMILY = (
    *PRIMARY,
    *(("posterior", name) for name in ("permuted", "posterior_nuisances", "retry")),
    ("head", "best_fixed_per_model"),
    *(
        ("head", name)
        for name in (
            "permuted",
            "head_nuisances",
            "head_question",
            "head_prompt",
            "rule",
        )
    ),
    *(("rule", name) for name in ("permuted", "retry")),
    *(
        (name, reference)
        for name in ("frozen_head", "frozen_rule")
        for reference in ("best_fixed_per_model", "frozen_fixed", "retry")
    ),
)
