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
    return np.where(counted, (x - mean) / np.maximum(deviation, STD_FLOOR), 0.0).reshape(values.shape)


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
