"""torch's part of the roofline: memory reads and the matrix products of one step.

Takes the model's shape as JSON in its one argument and prints
`{"read": [...], "products": {rows: [...]}}`, in seconds.
"""

import json
import pathlib
import sys
import time

import torch

# The products themselves are shared: that file imports nothing, so this interpreter can
# read it too.
sys.path.append(str(pathlib.Path(__file__).parents[1]))
from matmuls import products, projections  # noqa: E402


def seconds(job, repeats):
    """Time a job.

    Args:
        job: function without arguments.
        repeats: number of timed runs, after one that is not counted.

    Returns:
        Seconds of each run.
    """
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
    """Measure and print, on the GPU in bfloat16 if there is one.

    Args:
        wanted: shape of the model, `rows`, `repeats`, `read_bytes` and `threads`.
    """
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
