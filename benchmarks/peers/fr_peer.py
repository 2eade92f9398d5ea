"""`fr`'s engine under the same protocol as its peers.

It has as many slots as rows, and reads each prompt once for all its rollouts.
"""

import functools

import jax
import numpy as np
from serve import batches, serve

from benchmarks.timing import spread
from fr.models import load as load_model
from fr.models.transformer import Transformer
from fr.sampling.engine import Engine
from fr.sampling.sampling_params import row_key
from fr.types import Request


def load(settings):
    """Load the model of a folder; engines are made on demand.

    Args:
        settings: `folder` of the model and the options `engine`.

    Returns:
        (job, description), as `serve` takes them.
    """
    model = load_model(settings["folder"])
    module = Transformer(model.config, model.dtype)

    @functools.cache
    def engine(rows, statistics):
        options = {**settings["engine"], **spread(rows), "statistics": statistics}
        return Engine(module, model.params, **options)

    def job(request):
        rows = [prompt for batch in batches(request) for prompt in batch]
        params = {"temperature": 1.0, "budget": request["new_tokens"]}
        todo = [
            Request(str(i), tuple(p), row_key(request["seed"], i), params)
            for i, p in enumerate(rows)
        ]
        found = engine(request["rows"], request["statistics"]).sample(todo)
        tokens = [rollout.tokens.tolist() for rollout in found]
        if not request["statistics"]:
            return tokens, None, None
        return tokens, *(
            np.concatenate([r.stats[name] for r in found])
            for name in ("logp", "entropy")
        )

    devices = f"{jax.local_device_count()} {jax.default_backend()} devices"
    about = f"fr, jax {jax.__version__}, {model.dtype.name}, {devices}"
    return job, f"{about}, all statistics of a token"


if __name__ == "__main__":
    serve(
        load,
        lambda: (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use"),
    )
