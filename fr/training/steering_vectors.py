"""The algorithm `vector`: sample, find vectors, choose layer and factor, export.

No parameter of the model is trained. The choice is made on validation problems, all
candidates in one compiled loop: a vector is data of a row.
"""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from etils import epath
from jaxtyping import Float

from fr import compile_cache, distributed, tasks
from fr.config import Config
from fr.errors import UserError
from fr.models import Model, load, save
from fr.models.transformer import Transformer
from fr.models.vector_files import write_vectors
from fr.runs.compatibility import with_template
from fr.runs.inputs import begin_training
from fr.sampling.devices import Devices
from fr.sampling.hidden_states import StateReader
from fr.tasks.behaviours import words_of
from fr.tasks.formats import CompletionText, format_of
from fr.training.asking import Asker
from fr.training.checks import vector_problems
from fr.training.vector_sources import Found, Written, find_vectors
from fr.types import Problem
from fr.workdir import PathLike, write_json

VECTORS, RECORD = "vectors.safetensors", "steering.json"


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A layer, or all, with a factor.

    Attributes:
        layer: Index of the layer; -1: all layers get their vectors.
        strength: Factor on the vectors.
    """

    layer: int
    strength: float

    def of(self, vectors: Float[np.ndarray, "L D"]) -> Float[np.ndarray, "L D"]:
        """The vectors that it adds.

        Args:
            vectors: Vector of each layer.

        Returns:
            strength * vectors, 0 in other layers.
        """
        kept = np.arange(len(vectors)) == self.layer if self.layer >= 0 else True
        return self.strength * vectors * np.reshape(kept, (-1, 1))


def train_vector(
    config: Config, workdir: PathLike, ancestor: str, folder: epath.Path
) -> None:
    """Find a steering vector of a model and export the model that is steered by it.

    `folder` receives the model with the chosen vector as a bias of its layers, the
    vectors of all layers before the choice (`vectors.safetensors`, for the operator
    `steer_vector`), and `steering.json`: the choice, accuracies of all candidates and
    forward tokens spent.

    Args:
        config: The whole configuration; `steering`, `task` and `sampling` are read.
        workdir: Folder of the models.
        ancestor: Name of the model that is steered.
        folder: Receives the files.

    Raises:
        UserError: There is no such behaviour, too few problems, or no tokenizer.
    """
    compile_cache.keep()
    c, task = config.steering, tasks.make(config.task)
    words_of(c.behaviour, format_of(config.task.name))  # before anything is sampled
    devices = Devices(config.sampling.devices, model=config.sampling.model_axis)
    start = with_template(load(ancestor, mesh=devices.mesh), config)
    if start.tokenizer is None or not start.stop_tokens:
        raise UserError(
            f"{ancestor} has no tokenizer or no stop token, so it cannot be asked "
            "problems"
        )
    asked = vector_problems(config, task)
    if distributed.is_first():
        begin_training(workdir, folder.name, config, ancestor, start)
        compile_cache.compile_log().write_to(folder / "compilations.jsonl")
    distributed.wait("vector")
    module = Transformer(start.config, start.dtype)
    asker = Asker(config, task, start, module, devices)
    rows, owners = asker.rows(asked["train"], c.rollouts, "states", {})
    rollouts = asker.sample(asker.engine(None), rows, "states")
    form = [format_of(problem.task) for problem in owners]
    written = [
        Written(r.row.prompt, CompletionText(f, r.tokens, start))
        for f, r in zip(form, rollouts)
    ]
    reader = StateReader(module, start.params, devices=devices)
    found = find_vectors(c, config.seed, reader, written)
    chosen, record = _choose(config, asker, found, asked["validation"])
    record |= {"source": c.source, "found": found.record}
    record["tokens"] = {"read": sum(len(one.ids) for one in written)} | asker.spent
    offset = chosen.of(found.vectors)
    record["parameters"] = int(np.count_nonzero(offset.any(axis=1)) * offset.shape[1])
    if distributed.is_first():
        made = {"source": c.source, "behaviour": c.behaviour, "model": start.name}
        write_vectors(folder / VECTORS, found.vectors, made)
        write_json(folder / RECORD, record)
    _export(folder, start, offset)


def _export(folder: epath.Path, start: Model, offset: Float[np.ndarray, "L D"]) -> None:
    """Save the model with vectors as a bias of its layers, added to one that it has."""
    shape = dataclasses.replace(start.config, residual_bias=True)
    layers = start.params["layers"]
    total = layers.get("offset", 0.0) + jnp.asarray(offset, start.dtype)
    params = {**start.params, "layers": {**layers, "offset": total}}
    save(folder, shape, params, start.tokenizer, start.stop_tokens)


def _choose(
    config: Config, asker: Asker, found: Found, problems: Sequence[Problem]
) -> tuple[Candidate, dict]:
    """The candidate with the most right answers, and accuracies; the first of equals,
    which are ordered by size of the factor.
    """
    c, vectors = config.steering, found.vectors
    some = [i for i in range(len(vectors)) if vectors[i].any()]
    places = ([-1] if len(some) > 1 else []) + (some if c.places == "each" else [])
    places = places or some
    table = [np.zeros_like(vectors)]
    table += [Candidate(place, 1.0).of(vectors) for place in places]
    tried: list[tuple[Candidate | None, dict]] = [(None, {})]
    for strength in sorted(c.strengths, key=lambda value: (abs(value), -value)):
        tried += [
            (Candidate(place, strength), {"vector": i, "vector_strength": strength})
            for i, place in enumerate(places, 1)
        ]
    rows, owners = [], []
    for _, params in tried:
        # The same keys for all candidates: they differ by the vector alone.
        more, own = asker.rows(problems, c.samples, "choice", params)
        rows += more
        owners += own
    rollouts = asker.sample(asker.engine(np.stack(table, axis=1)), rows, "choice")
    right = np.reshape(asker.right(owners, rollouts), (len(tried), -1)).mean(axis=1)
    best = 1 + int(np.argmax(right[1:]))
    candidate = tried[best][0]
    assert candidate is not None
    record = {
        "chosen": dataclasses.asdict(candidate) | {"accuracy": float(right[best])},
        "without": float(right[0]),
        "candidates": [
            dataclasses.asdict(one) | {"accuracy": float(share)}
            for (one, _), share in zip(tried, right)
            if one is not None
        ],
    }
    return candidate, record
