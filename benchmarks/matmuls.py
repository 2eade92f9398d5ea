"""The matrix products of one decode step, for any array library; imports nothing: torch's side reads it too."""


def projections(width, heads, kv_heads, head_dim, ff):
    """(inputs, outputs) of the seven matrices of a layer."""
    return {
        "q": (width, heads * head_dim),
        "k": (width, kv_heads * head_dim),
        "v": (width, kv_heads * head_dim),
        "o": (heads * head_dim, width),
        "gate": (width, ff),
        "up": (width, ff),
        "down": (ff, width),
    }


def products(layers, head, x, concatenate):
    """The head's outputs [B, V] for inputs [B, D]; `layers` has a dict of matrices [inputs, outputs] for each layer.

    Every product depends on the one before, as in a model, with next to nothing in between; halves keep the numbers
    away from infinities and denormals.
    """
    for w in layers:
        keys = x @ w["k"] + x @ w["v"]
        queries = x @ w["q"]
        groups = queries.shape[1] // keys.shape[1]
        x = (0.5 * (queries + concatenate([keys] * groups, 1))) @ w["o"]
        x = (0.5 * (x @ w["gate"] + x @ w["up"])) @ w["down"]
    return x @ head
