"""The last layer's mean state of every rollout, and a probe of it: `states.npz`.

The states are too wide for `profiles.csv`. The file stands beside it, for analyses of
one's own; the probe's output is the signal `probe_correct`.
"""

import io

import numpy as np
from etils import epath

from fr import distributed, store
from fr.diagnosis.linear_probe import probe_out_of_fold
from fr.models.transformer import Transformer
from fr.runs.run import Run
from fr.sampling.hidden_states import StateReader
from fr.types import GRADER_ERROR, RIGHT
from fr.workdir import write_whole

FILE = "states.npz"


def write_states(run: Run) -> None:
    """Read the states of graded rollouts and write `states.npz`, unless it is there.

    One forward pass of every rollout. The state of a rollout is the mean over the
    tokens that it drew itself of the residual stream after the last layer. Process 0
    does the work; the others wait.

    Args:
        run: The run, with finished `rollouts/`. `diagnosis.states` is read, and
            `routing.folds` for the probe.
    """
    if run.config.diagnosis.states and distributed.is_first():
        names = store.read_table(run.workdir / "rollouts", ["row", "grade"]).to_pylist()
        wanted = [row["row"] for row in names if row["grade"] != GRADER_ERROR]
        if read_states(run.workdir).get("row", np.array([])).tolist() != wanted:
            _write(run)
    distributed.wait("states")


def read_states(workdir: epath.Path) -> dict[str, np.ndarray]:
    """Read `states.npz`.

    Args:
        workdir: Folder of the run.

    Returns:
        `row`, `problem`, `right`, `states` [N, D] and `probe` [N] of N rollouts, the
        last being the probability of being right; {} without the file.
    """
    path = workdir / FILE
    if not path.exists():
        return {}
    with np.load(io.BytesIO(path.read_bytes())) as found:
        return dict(found)


def _write(run: Run) -> None:
    model, folder = run.specialist, run.workdir / "rollouts"
    reader = StateReader(
        Transformer(model.config, model.dtype), model.params, devices=run.devices
    )
    rows, states = [], []
    for index in sorted(store.finished(folder)):
        some = [a for a in store.read(folder, [index]) if a.grade != GRADER_ERROR]
        weights = [
            np.zeros((1, len(a.prompt) + len(a.tokens)), np.float32) for a in some
        ]
        for weight, a in zip(weights, some):
            weight[0, len(a.prompt) :] = ~a.forced / max(1, int((~a.forced).sum()))
        found = reader.sums([[*a.prompt, *a.tokens] for a in some], weights)
        states.append(found[:, 0, -1])
        rows += some
    every = np.concatenate(states)
    right = np.array([a.grade == RIGHT for a in rows])
    problems = [a.problem for a in rows]
    folds = run.config.routing.folds
    into = io.BytesIO()
    np.savez(
        into,
        row=np.array([a.row for a in rows]),
        problem=np.array(problems),
        right=right,
        states=every,
        probe=probe_out_of_fold(every, right, problems, folds, run.config.seed),
    )
    write_whole(run.workdir / FILE, into.getvalue())
