"""One failed trace for a page: its tokens by entropy, and what operators did."""

from collections.abc import Mapping, Sequence

import numpy as np
from etils import epath

from fr import store
from fr.buckets import is_local
from fr.layout.tables import Block, Passage, Section
from fr.types import RIGHT
from fr.viewer.pieces import Pieces

_RETRY = "retry"
Tried = Mapping[str, tuple[int, int]]  # right attempts and all, by operator


def failure_section(workdir: epath.Path) -> Section | None:
    """Show a failure of the problem at which an operator gains most over retry.

    Args:
        workdir: Folder of a run.

    Returns:
        The section; None without scored failures and attempts, and without the
        tokenizer of the model.
    """
    if not is_local(workdir) or not (workdir / "scores").exists():
        return None
    columns = ["problem", "operator", "grade"]
    tried: dict[str, dict[str, list[bool]]] = {}
    for row in store.read_table(workdir / "attempts", columns).to_pylist():
        own = tried.setdefault(row["problem"], {}).setdefault(row["operator"], [])
        own.append(row["grade"] == RIGHT)
    if not tried:
        return None
    counts = {
        problem: {name: (sum(right), len(right)) for name, right in own.items()}
        for problem, own in tried.items()
    }
    problem = clearest(counts)
    failed = _first_failure(workdir / "scores", problem)
    if failed is None:
        return None
    pieces, _ = Pieces(workdir).split("rollouts", failed.tokens.tolist())
    if not pieces:
        return None
    return Section("One failure", failure_blocks(failed, pieces, counts[problem]))


def clearest(counts: Mapping[str, Tried]) -> str:
    """Choose the problem at which the best operator gains most over retry.

    Operators with less than half of the problem's most attempts do not count: one that
    was tried once, as deterministic ones are, is right always or never.

    Args:
        counts: By problem.

    Returns:
        Name of the problem; of equal gains the one with most attempts.
    """

    def gain(problem: str) -> tuple[float, int]:
        tried = counts[problem]
        enough = max(n for _, n in tried.values()) / 2
        best, n = max((k / n, n) for k, n in tried.values() if n >= enough)
        right, retries = tried.get(_RETRY, (0, 1))
        return best - right / retries, n

    return max(counts, key=gain)


def _first_failure(scores: epath.Path, problem: str) -> store.Attempt | None:
    for index in sorted(store.finished(scores)):
        names = store.read_table(scores, ["problem"], [index])["problem"].to_pylist()
        if problem in names:
            return store.read(scores, [index])[names.index(problem)]
    return None


def failure_blocks(
    failed: store.Attempt,
    pieces: Sequence[str],
    tried: Tried,
    said: str = "",
) -> list[Block]:
    """Describe a scored failure and its problem.

    Args:
        failed: The failure, with the statistics of its tokens, [T].
        pieces: Text of each token, [T].
        tried: Right attempts at the problem and all, by operator.
        said: Words about its junction.

    Returns:
        What was asked and answered, its tokens, and the counts.
    """
    drawn = ~np.asarray(failed.forced, bool)
    entropy = np.where(drawn, failed.stats["entropy"], 0.0)
    largest = max(float(entropy.max(initial=0.0)), 1e-9)
    meaning = f"ground: entropy before the token, of at most {largest:.2f} nats"
    marks = [""] * len(pieces)
    if "demotion" in failed.stats and drawn.any():
        j = np.where(drawn, failed.stats["demotion"], -np.inf)
        marks[int(j.argmax())] = "junction"
        meaning += (
            ". The junction is where the model departs most from its ancestor "
            f"(J = {j.max():.1f} nats)"
        )
    meaning += f": {said}" if said else ""
    told = ", ".join(f"{name} {k} of {n}" for name, (k, n) in tried.items())
    asked = failed.question.strip(" :")
    return [
        f"asked {asked}, answered {failed.answer}: {failed.grade}",
        Passage(list(zip(pieces, (entropy / largest).tolist(), marks)), meaning),
        f"right attempts at this problem: {told}",
    ]
