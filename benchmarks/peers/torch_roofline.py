"""torch's share of the roofline: seconds of reading memory, and of one step's matrix products.

Takes the model's shape as JSON in its one argument; prints `{"read": [...], "products": {rows: [...]}}`.
"""

import json
import pathlib
import sys
import time

import torch

# The products themselves are shared: that file imports nothing, so this interpreter can read it too.
sys.path.append(str(pathlib.Path(__file__).parents[1]))
from matmuls import products, projections  # noqa: E402


def seconds(job, repeats):
    """Seconds of each of `repeats` runs, after one that is not counted."""
    found = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        job()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        found.append(time.perf_counter() - start)
    return found[1:]


@torch.inference_mode()
def main(wanted):
    """Measure what is asked for, on the GPU in bfloat16 if there is one."""
    torch.set_num_threads(wanted["threads"])
    gpu = torch.cuda.is_available()
    place = {
        "device": "cuda" if gpu else "cpu",
        "dtype": torch.bfloat16 if gpu else torch.float32,
    }
    shapes = projections(
        *(wanted[name] for name in ("width", "heads", "kv_heads", "head_dim", "ff"))
    )
    # As torch.nn.Linear keeps its weights: outputs first.
    matrix = lambda i, o: (torch.randn(o, i) / i**0.5).to(**place).T
    layers = [
        {name: matrix(*shape) for name, shape in shapes.items()}
        for _ in range(wanted["layers"])
    ]
    head = matrix(wanted["width"], wanted["vocab"])
    found = {}
    for rows in wanted["rows"]:
        x = torch.randn(rows, wanted["width"]).to(**place)
        found[rows] = seconds(
            lambda: products(layers, head, x, torch.cat), wanted["repeats"]
        )
    memory = torch.ones(wanted["read_bytes"] // 4, device=place["device"])
    print(
        json.dumps({"read": seconds(memory.sum, wanted["repeats"]), "products": found})
    )


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
