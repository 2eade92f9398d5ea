"""The verdict on a table and its routing table, without details and intervals of all
protocols."""

from fr.comparison.cell_summary import describe_cells, describe_interaction
from fr.comparison.evaluate import evaluate
from fr.comparison.summary import UNITS, describe_policies, measure_powers
from fr.comparison.verdict import largest_headrooms, verdict_of
from fr.routing.dataset import RoutingData
from fr.routing.policies import all_policies


def summarise_briefly(data: RoutingData, smallest: float) -> dict:
    """Judge all policies k-fold by problem, and the router in closed form.

    Args:
        data: the failed problems.
        smallest: the smallest lift that matters, in points.

    Returns:
        The part of routing.json that its first sections read.
    """
    policies = list(all_policies(data, learned=False))
    powers, interaction = measure_powers(data), describe_interaction(data)
    found = evaluate(policies, data, ["kfold"])
    headrooms = largest_headrooms(interaction, powers)
    return {
        **UNITS,
        "policies": describe_policies(policies),
        "cells": describe_cells(data, powers),
        "interaction": interaction,
        "rows": [row.as_dict() for row in found.rows],
        "verdict": verdict_of(data, headrooms, smallest),
    }
