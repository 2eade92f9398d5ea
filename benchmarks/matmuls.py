"""Matrix products of one decode step, for any array library.

Imports nothing, so that torch's interpreter can read it too.
"""


def projections(width, heads, kv_heads, head_dim, ff):
    """List the seven matrices of a decoder layer.

    Args:
        width: of the residual stream.
        heads: query heads.
        kv_heads: key-value heads.
        head_dim: numbers per head.
        ff: hidden units of the feed-forward part.

    Returns:
        name -> (inputs, outputs).
    """
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
    """Multiply rows through all layers and the head.

    Every product depends on the one before, as in a model, with almost no arithmetic in
    between; halves keep the numbers away from infinities and denormals.

    Args:
        layers: a dict of matrices [inputs, outputs] per layer.
        head: matrix [D, V].
        x: inputs, [B, D].
        concatenate: the array library's function (arrays, axis).

    Returns:
        The head's outputs, [B, V].
    """
    for w in layers:
        keys = x @ w["k"] + x @ w["v"]
        queries = x @ w["q"]
        groups = queries.shape[1] // keys.shape[1]
        x = (0.5 * (queries + concatenate([keys] * groups, 1))) @ w["o"]
        x = (0.5 * (x @ w["gate"] + x @ w["up"])) @ w["down"]
    return x @ head
