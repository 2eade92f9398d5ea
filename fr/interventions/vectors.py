"""Operators that add a vector to the residual stream, and the table of their vectors.

h <- h + s u after each layer, at every token of the row, its prompt included (arXiv
2506.18167). Vectors are data: rows with and without one, and with different ones, run
side by side in one compiled loop.
"""

import numpy as np
from jaxtyping import Float

from fr.config import Config
from fr.errors import UserError
from fr.interventions.intervention import OperatorContext
from fr.interventions.operator_registry import register
from fr.models.config import ModelConfig
from fr.models.vector_files import read_vectors
from fr.sampling.sampling_params import row_key

_OWN, _RANDOM, _KINDS = 1, 2, 8  # places in the table, and random entries of it


@register("steer_vector", uses_vectors=True)
def steer_vector(context: OperatorContext) -> dict:
    """Add the vectors of `intervention.vector` after each layer: h ← h + s u.

    At every token, in units of the residual stream; s is `vector_strength`, below 0
    away from the behaviour (2506.18167). It reads no failure.
    """
    return vector_params(context.config, "steer_vector", context.attempt)


@register("steer_random", uses_vectors=True)
def steer_random(context: OperatorContext) -> dict:
    """Control: random vectors with the norms of the vectors of `steer_vector`.

    Attempts take turns through eight draws, which are the same for all problems.
    """
    return vector_params(context.config, "steer_random", context.attempt)


def vector_params(config: Config, operator: str, attempt: int) -> dict:
    """The part of an attempt's sampling parameters that names steering vectors.

    Args:
        config: `intervention.vector` and `vector_strength` are read.
        operator: Name of the operator.
        attempt: Number of the attempt, from 0.

    Returns:
        `vector` and `vector_strength`; {} for operators that do not steer by vectors.

    Raises:
        UserError: The config names no file of vectors.
    """
    c = config.intervention
    if operator not in ("steer_vector", "steer_random"):
        return {}
    if not c.vector:
        raise UserError(
            f"operator {operator!r} needs config.intervention.vector, a file of "
            "steering vectors; set it, or leave the operator out"
        )
    place = _OWN if operator == "steer_vector" else _RANDOM + attempt % _KINDS
    return {"vector": place, "vector_strength": c.vector_strength}


def vector_table(config: Config, model: ModelConfig) -> Float[np.ndarray, "L K D"]:
    """The vectors that operators of a run name: none, the file's, random ones.

    A random vector is v ||u|| / ||v|| with v normal, so that in every layer its norm is
    the norm of the file's vector u.

    Args:
        config: `intervention.vector`, `vector_layers` and the seed are read.
        model: The decoder that is steered.

    Returns:
        Table for `Engine`, float32.

    Raises:
        UserError: The file does not fit the model, or a layer does not exist.
    """
    c = config.intervention
    own = read_vectors(c.vector, model)
    if c.vector_layers:
        if (wrong := max(c.vector_layers)) >= model.layers:
            raise UserError(
                f"config.intervention.vector_layers: there is no layer {wrong}; the "
                f"model has {model.layers}, from 0 on"
            )
        own = own * np.isin(np.arange(model.layers), c.vector_layers)[:, None]
    draw = np.random.default_rng(row_key(config.seed, "steer_random"))
    each = [np.zeros_like(own), own]
    each += [random_like(own, draw) for _ in range(_KINDS)]
    return np.stack(each, axis=1)


def random_like(
    vectors: Float[np.ndarray, "L D"], draw: np.random.Generator
) -> Float[np.ndarray, "L D"]:
    """Random directions with the norms of given vectors, v ||u|| / ||v||.

    Args:
        vectors: The vectors u of L layers.
        draw: Gives normal numbers v.

    Returns:
        Vectors of the same norms, float32.
    """
    other = draw.standard_normal(vectors.shape)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    other *= norms / np.linalg.norm(other, axis=1, keepdims=True)
    return other.astype(np.float32)
