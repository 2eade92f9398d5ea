"""The engine's log-prob less ours: the first thing to know of imported rollouts."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from fr import distributed, store
from fr.exchange import notes
from fr.models.transformer import Transformer
from fr.runs.imported import RAW, imported
from fr.runs.run import Run
from fr.sampling.scoring import token_logps

WIDE = 0.1  # nats
_score = jax.jit(token_logps, static_argnums=(0, 4, 5))
_CHECKED = 64  # rollouts that are scored again at their temperature
_ROUND = 32  # tokens of a row are a multiple of it


def print_gap(run: Run) -> dict[str, Any] | None:
    """Print and return the difference over the failed rollouts that were scored.

    Raw log-probs are compared with the scores. Log-probs as drawn are compared at the
    temperature of the row, over the first 64 failed rollouts. After top-p or top-k they
    are not comparable.

    Args:
        run: A run with finished `scores/`.

    Returns:
        `mean`, `size` (mean of the absolute value), `p99` (of the absolute value),
        `wide` (percent above 0.1 nats), `tokens`, `rollouts`, `retokenised`, `filtered`
        (rollouts after top-p or top-k); None: the rollouts were sampled here.
    """
    made = imported(run.workdir)
    if made is None or not distributed.is_first():
        return None
    raw = made["logprobs"] == RAW
    gaps: list[np.ndarray] = []
    counts = {"rollouts": 0, "retokenised": 0, "filtered": 0}
    for attempt, engine, retokenised in _failed(run, raw):
        counts["rollouts"] += 1
        counts["retokenised"] += retokenised
        ours = attempt.stats["logp"]
        if not raw:
            t, p, k = (attempt.params.get(n) for n in ("temperature", "top_p", "top_k"))
            if (p or 1.0) < 1.0 or k:
                counts["filtered"] += 1
                continue
            if t != 1.0:
                if len(gaps) == _CHECKED or jax.process_count() > 1:
                    continue
                ours = _at(run, attempt, float(t or 1.0))
        gaps.append(engine - ours)
    found = {"format": made["format"], **counts, **gap_of(gaps)}
    distributed.print0(notes.shown("engine", found))
    return found


def gap_of(gaps: list[Float[np.ndarray, "_"]]) -> dict[str, Any]:
    """Mean, size, 99 % point and share above 0.1 nats of differences.

    Args:
        gaps: The engine's log-prob less ours, nats; NaN where it is not known.

    Returns:
        Values by name; None where no token has a log-prob of the engine.
    """
    every = np.concatenate([*gaps, np.zeros(0, np.float32)]).astype(np.float64)
    every = every[np.isfinite(every)]
    if not len(every):
        return {"tokens": 0, "mean": None, "size": None, "p99": None, "wide": None}
    size = np.abs(every)
    return {
        "tokens": len(every),
        "mean": float(every.mean()),
        "size": float(size.mean()),
        "p99": float(np.quantile(size, 0.99)),
        "wide": 100.0 * float(np.mean(size > WIDE)),
    }


def _failed(run: Run, raw: bool) -> Iterator[tuple[store.Attempt, np.ndarray, bool]]:
    """(scored attempt, the engine's log-probs, tokenised again) of each failure."""
    column = "logp" if raw else "sample_logp"
    for index in sorted(store.finished(run.workdir / "scores")):
        columns = ["row", column]
        table = store.read_table(run.workdir / "rollouts", columns, [index])
        engine = dict(zip(table["row"].to_pylist(), table[column]))
        again = notes.retokenised(run.workdir / "rollouts", index)
        for attempt in store.read(run.workdir / "scores", [index], ("logp",)):
            drawn = np.array(engine[attempt.row].values, np.float32)
            yield attempt, drawn, attempt.row in again


def _at(run: Run, attempt: store.Attempt, temperature: float) -> np.ndarray:
    """Log-probs of an attempt at another temperature."""
    begin, ids = len(attempt.prompt), [*attempt.prompt, *attempt.tokens]
    round_up = lambda n: -(-n // _ROUND) * _ROUND
    tokens = np.full((1, round_up(len(ids))), -1, np.int32)
    tokens[0, : len(ids)] = ids
    model = run.specialist
    module = Transformer(model.config, model.dtype)
    width, start = round_up(len(ids) - begin), np.array([begin], np.int32)
    found = _score(module, {"params": model.params}, tokens, start, width, temperature)
    return np.asarray(found[0])[0, : len(ids) - begin]
