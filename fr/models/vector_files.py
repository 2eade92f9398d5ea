"""Files of steering vectors: one vector per layer, and how they were made."""

import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import Float

from fr.errors import UserError, first_line
from fr.local_copies import local_copy
from fr.models.config import ModelConfig
from fr.models.safetensors_header import read_header
from fr.workdir import PathLike, write_whole

_NAME = "vectors"


def write_vectors(
    path: PathLike, vectors: Float[np.ndarray, "L D"], record: dict[str, str]
) -> None:
    """Write steering vectors as safetensors, whole or not at all.

    Args:
        path: Path of the file, also of a bucket.
        vectors: Vector of each layer, in units of the residual stream; 0: none.
        record: How they were made, texts by name.
    """
    data = {_NAME: np.ascontiguousarray(vectors, np.float32)}
    write_whole(path, safetensors.numpy.save(data, metadata=record))


def read_vectors(path: PathLike, model: ModelConfig) -> Float[np.ndarray, "L D"]:
    """Read steering vectors that fit a decoder.

    Args:
        path: A file that `write_vectors` wrote.
        model: The decoder, L layers of width D.

    Returns:
        Vector of each layer, float32.

    Raises:
        UserError: The file is missing or broken, holds no vectors, or is of another
            shape.
    """
    path, shape = local_copy(path), (model.layers, model.width)
    if not path.is_file():
        raise UserError(
            f"{path} is not a file of steering vectors; scripts/train.py with "
            "config.algorithm = vector makes one"
        )
    found = read_header(path)
    if found.keys() != {_NAME} or found[_NAME][0] != "F32":
        raise UserError(f"{path}: must hold one float32 tensor {_NAME!r}")
    if found[_NAME][1] != shape:
        raise UserError(
            f"{path}: its vectors have shape {found[_NAME][1]}, and the model has "
            f"{shape[0]} layers of width {shape[1]}"
        )
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            vectors = file.get_tensor(_NAME)
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"{path} is damaged ({first_line(error)})") from error
    if not np.isfinite(vectors).all():
        raise UserError(f"{path}: holds values that are infinite or NaN")
    return vectors
