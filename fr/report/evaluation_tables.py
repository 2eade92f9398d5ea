"""An evaluation as a person reads it in a terminal."""

import functools

from fr.report.tables import number, span, table

_NAMES = {
    "accuracy": "right",
    "premature": "premature confidence",
    "flat": "flat confidence",
    "flawed": "right after a wrong step",
    "step_errors": "wrong steps",
    "answered": "came to an answer",
    "truncated": "truncated",
    "length": "tokens",
    "ece_own": "calibration error, own answer",
    "ece_span": "calibration error, answer span",
}
_PERCENT = 100.0
_SCALES = {"length": 1.0}  # the others are shares


def label(figure: str) -> str:
    """What a table calls a figure."""
    return _NAMES.get(figure, figure)


def scaled(figure: str, value: float | None) -> float | None:
    """A figure as a table shows it: shares in percent."""
    return None if value is None else value * _SCALES.get(figure, _PERCENT)


def render_evaluation(result: dict) -> str:
    """Figures with intervals, beside another model's where there is one; reliability; the two signals; tokens."""
    counts = (f"{count} {grade.replace('_', ' ')}" for grade, count in result["grades"].items() if count)
    head = f"  {result['model']} on {result['task']}, {result['samples']} attempts at each of {result['problems']}"
    parts = [f"{head} problems: {', '.join(counts)}", _figures(result), _reliability(result["reliability"])]
    if "signals" in result:
        parts.append(_signals(result["signals"]))
    spent = ", ".join(f"{count:,} {name}" for name, count in result["tokens"].items())
    return "\n\n".join([*parts, f"  tokens spent: {spent}"])


def _figures(result: dict) -> str:
    header = ["% (tokens: their number)", "value", "95 %"]
    other = result.get("against", {"figures": {}})
    if other["figures"]:
        header += [other["workdir"], "difference", "95 %", "p"]
    rows = []
    for name, figure in result["figures"].items():
        show = functools.partial(scaled, name)
        row = [label(name), number(show(figure["mean"]))]
        row.append(span(show(figure["low"]), show(figure["high"])))
        if there := other["figures"].get(name):
            row += [number(show(there["there"])), number(show(there["difference"]), sign=True)]
            row += [span(show(there["low"]), show(there["high"]), sign=True), number(there["p"], 3)]
        rows.append(row + [""] * (len(header) - len(row)))
    return table(header, rows)


def _reliability(tables: dict[str, list[dict]]) -> str:
    """How often attempts of each bin of confidence are right; well calibrated: as often as they say."""
    header, columns = ["confidence"], list(tables.values())
    for name in tables:
        header += [f"{name}: attempts", "says", "is right"]
    rows = []
    for line in zip(*columns):
        row = [f"{number(_PERCENT * line[0]['from'], 0)}–{number(_PERCENT * line[0]['to'], 0)} %"]
        for each in line:
            says, right = (each.get(key) for key in ("confidence", "right"))
            share = lambda value: "" if value is None else number(_PERCENT * value)
            row += [str(each["attempts"]), share(says), share(right)]
        rows.append(row)
    return table(header, rows)


def _signals(found: dict) -> str:
    """Scored against sampled confidence."""
    rows = [
        [
            name,
            str(one["cuts"]),
            number(one["correlation"], 3),
            span(one["low"], one["high"], 3),
            number(one["largest_possible"], 3),
            number(one["scored"], 3),
            number(one["sampled"], 3),
        ]
        for name, one in found.items()
        if name in ("own", "gold")
    ]
    header = ["scored and sampled", "cuts", "r", "95 %", "r at most", "mean scored", "mean sampled"]
    spent, attempts = found["tokens"], max(found["attempts"], 1)
    each = ", ".join(f"{name} {number(count / attempts)}" for name, count in spent.items())
    return f"{table(header, rows)}\n  tokens an attempt: {each}"
