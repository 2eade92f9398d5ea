"""The last layer's mean state of every rollout, and a probe of it: `states.npz`.

The states are too wide for `profiles.csv`. The file stands beside it, for analyses of
one's own; the probe's output is the signal `probe_correct`. Along each failure it reads
the mean state of the tokens so far, for the localiser `state_probe`.
"""

import io
from collections.abc import Sequence

import numpy as np
from etils import epath
from jaxtyping import Float

from fr import distributed, store
from fr.diagnosis.linear_probe import probe_out_of_fold
from fr.models.transformer import Transformer
from fr.runs.run import Run
from fr.sampling.hidden_states import StateReader
from fr.types import GRADER_ERROR, RIGHT
from fr.workdir import write_whole

FILE = "states.npz"
_AT_ONCE = 64  # failures whose states of all tokens are held at one time


def write_states(run: Run) -> None:
    """Read the states of graded rollouts and write `states.npz`, unless it fits them.

    One forward pass of every rollout. The state of a rollout is the mean over the
    tokens that it drew itself of the residual stream after the last layer. Failures are
    read once more, token by token. Process 0 does the work; the others wait.

    Args:
        run: The run, with finished `rollouts/`. `diagnosis.states` is read, and
            `routing.folds` for the probe.
    """
    if run.config.diagnosis.states and distributed.is_first():
        names = store.read_table(run.workdir / "rollouts", ["row", "grade"]).to_pylist()
        graded = [row for row in names if row["grade"] != GRADER_ERROR]
        wanted = [(row["row"], row["grade"] == RIGHT) for row in graded]
        found = read_states(run.workdir)
        fields = [found.get(name, np.array([])).tolist() for name in ("row", "right")]
        if list(zip(*fields)) != wanted or "along" not in found:
            _write(run)
    distributed.wait("states")


def read_states(workdir: epath.Path) -> dict[str, np.ndarray]:
    """Read `states.npz`.

    Args:
        workdir: Folder of the run.

    Returns:
        `row`, `problem`, `right`, `states` [N, D] and `probe` [N] of N rollouts, the
        last being the probability of being right, and `along`, the same from the
        tokens up to each of a failure, all failures in a row; {} without the file.
    """
    path = workdir / FILE
    if not path.exists():
        return {}
    with np.load(io.BytesIO(path.read_bytes())) as found:
        return dict(found)


def probe_along(
    workdir: epath.Path, attempts: Sequence[store.Attempt]
) -> dict[str, Float[np.ndarray, "_"]]:
    """Probability of being right after each token, by the probe of `states.npz`.

    Args:
        workdir: Folder of the run.
        attempts: Its rollouts, for their lengths.

    Returns:
        Values by row, of the failures among the attempts; {} without the file.
    """
    found = read_states(workdir)
    if "along" not in found:
        return {}
    sizes = found["tokens"] * ~found["right"]
    ends = np.cumsum(sizes)
    place = {row: i for i, row in enumerate(found["row"].tolist())}
    return {
        a.row: found["along"][ends[i] - sizes[i] : ends[i]]
        for a in attempts
        if (i := place.get(a.row)) is not None and sizes[i] == len(a.tokens)
    }


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
    failed = np.flatnonzero(~right).tolist()
    folds, seed = run.config.routing.folds, run.config.seed
    probe, read = probe_out_of_fold(every, right, problems, folds, seed)
    along = [np.zeros(0)]
    for begin in range(0, len(failed), _AT_ONCE):
        few = failed[begin : begin + _AT_ONCE]
        sequences = [[*rows[i].prompt, *rows[i].tokens] for i in few]
        held = reader.states(sequences, reader.layers - 1)
        along += [read(i, _means_so_far(rows[i], h)) for i, h in zip(few, held)]
    into = io.BytesIO()
    np.savez(
        into,
        row=np.array([a.row for a in rows]),
        problem=np.array(problems),
        right=right,
        states=every,
        probe=probe,
        tokens=np.array([len(a.tokens) for a in rows]),
        along=np.concatenate(along),
    )
    write_whole(run.workdir / FILE, into.getvalue())


def _means_so_far(
    attempt: store.Attempt, states: Float[np.ndarray, "S D"]
) -> Float[np.ndarray, "T D"]:
    """Mean state of the tokens that were drawn so far; 0 before the first."""
    drawn = ~attempt.forced[:, None]
    own = states[len(attempt.prompt) :].astype(np.float64) * drawn
    return np.cumsum(own, axis=0) / np.maximum(1, np.cumsum(drawn, axis=0))
