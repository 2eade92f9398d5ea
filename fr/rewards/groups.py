"""Numbers of rows in relation to the rows beside them."""

import numpy as np
from jaxtyping import Bool, Float

STD_FLOOR = 1e-3  # a smaller deviation is noise of continuous values and must not be blown up to one


def standardised(
    values: Float[np.ndarray, "B ..."], where: Bool[np.ndarray, "B ..."], rows: int
) -> Float[np.ndarray, "B ..."]:
    """Values less their mean over their standard deviation (floored), among each `rows` rows; 0 outside `where`."""
    x, counted = (a.reshape(len(values) // rows, -1) for a in (values, where))
    mean, deviation = _moments(x, counted)
    return np.where(
        counted, (x - mean) / np.maximum(deviation, STD_FLOOR), 0.0
    ).reshape(values.shape)


def centred_by_group(
    values: Float[np.ndarray, "B T"], mask: Bool[np.ndarray, "B T"], group: int
) -> Float[np.ndarray, "B T"]:
    """Values less their group's mean of row means, on masked tokens; 0 elsewhere.

    A constant b that is added to all advantages has, under a mean over each row's tokens, the gradient
    b E[sum_t grad log p_t / |o|] = b grad E[1 / |o|]: a reward for short rows (b > 0) or long ones.
    """
    count = mask.sum(axis=1)
    means = np.where(mask, values, 0.0).sum(axis=1, dtype=np.float64) / np.maximum(
        count, 1
    )
    some = (count > 0).reshape(-1, group)
    of_group = (means.reshape(-1, group) * some).sum(axis=1) / np.maximum(
        some.sum(axis=1), 1
    )
    return np.where(mask, values - np.repeat(of_group, group)[:, None], 0.0).astype(
        np.float32
    )


def filled(
    values: Float[np.ndarray, "B ..."], mask: Bool[np.ndarray, "B T"], group: int
):
    """Values with rows of NaN replaced by the mean of their group's other rows (0 if there is none).

    Of values for each token it is the mean over the tokens of these rows, on the row's own masked tokens.
    """
    known = ~np.isnan(values.reshape(len(values), -1)).any(axis=1)
    if known.all():
        return values
    wide = values.ndim == 2
    counted = mask & known[:, None] if wide else known[:, None]
    x = np.where(counted, values if wide else values[:, None], 0.0).reshape(
        len(values) // group, -1
    )
    mean = x.sum(axis=1) / np.maximum(counted.reshape(x.shape).sum(axis=1), 1)
    of_row = np.repeat(mean, group)
    return (
        np.where(counted, values, mask * of_row[:, None])
        if wide
        else np.where(known, values, of_row)
    )


def varying(values: Float[np.ndarray, "B"], group: int) -> Bool[np.ndarray, "N"]:
    """Which groups have a standard deviation above the floor."""
    x = values.reshape(-1, group)
    return _moments(x, np.ones_like(x, bool))[1][:, 0] > STD_FLOOR


def _moments(x: Float[np.ndarray, "N K"], counted: Bool[np.ndarray, "N K"]):
    """Mean and population standard deviation of what counts, [N, 1] each, in two passes."""
    count = np.maximum(counted.sum(axis=1, keepdims=True), 1)
    mean = np.where(counted, x, 0.0).sum(axis=1, keepdims=True) / count
    square = np.where(counted, np.square(x - mean), 0.0).sum(axis=1, keepdims=True)
    return mean, np.sqrt(square / count)
