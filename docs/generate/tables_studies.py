"""Tables of the studies of failure modes, from study_NAME.json and their words."""

import functools
import tomllib

from cells import Table, estimate, number, shown
from registry import DATA, load, register

_WORDS = tomllib.loads((DATA / "failure_modes.toml").read_text())


def _studied(name: str) -> dict | None:
    return load(f"study_{name}") if (DATA / f"study_{name}.json").exists() else None


@register("failure_modes")
def failure_modes() -> Table:
    """One row per study: the claim, the primary comparison, its cost, the reading."""
    rows = []
    for name, words in _WORDS.items():
        found = _studied(name)
        if found:
            primary = next(row for row in found["differences"] if row["primary"])
            result, cost = _difference(primary), _cost(found)
        else:
            result, cost = "not measured yet", "–"
        title = f"[{words['title']}]({name}.md)" if found else words["title"]
        reading = words["reading"] if found else "–"
        rows.append([title, words["claim"], words["primary"], result, reading, cost])
    columns = ["failure mode", "claim", "primary comparison", "points [95 %]"]
    return Table([*columns, "the claim was", "cost"], rows)


def primaries() -> list[dict]:
    """The measured studies: title, and the primary comparison with its interval."""
    rows = []
    for name, words in _WORDS.items():
        if found := _studied(name):
            gap = next(r for r in found["differences"] if r["primary"])["difference"]
            title = words["title"].partition(" (")[0]
            rows.append({"title": title, "primary": words["primary"], **gap})
    return rows


def _difference(row: dict, bold: bool = False) -> str:
    gap = row["difference"]
    if gap["value"] is None:
        return "not defined"
    if gap["low"] is None:
        return number(gap["value"], 1, True)
    text = estimate(gap["value"], gap["low"], gap["high"], 1, True)
    return f"**{text}**" if bold else text


def _cost(found: dict) -> str:
    totals = [sum(arm["tokens"].values()) for arm in found["arms"].values()]
    tested = [t for arm in found["arms"].values() for t in arm["tested"].values()]
    trained = f"{max(totals) / 1e3:,.0f} k tokens a training" if max(totals) else ""
    asked = f"{max(tested):,.0f} an attempt" if tested else ""
    return ", ".join(filter(None, (trained, asked)))


def declared(name: str) -> Table:
    """The declared comparisons of a study."""
    rows = []
    for row in sorted(
        load(f"study_{name}")["differences"], key=lambda r: not r["primary"]
    ):
        contrast = row["arm"] == "contrast"
        pair = row["reference"] if contrast else f"{row['arm']} − {row['reference']}"
        kind = "primary" if row["primary"] else "declared" if row["declared"] else "–"
        p = row.get("p_holm")
        p_value = "–" if p is None else "< 0.001" if p < 0.001 else number(p, 3)
        rows.append(
            [pair, row["metric"], _difference(row, row["primary"]), p_value, kind]
        )
    return Table(["difference", "metric", "points [95 %]", "Holm p", ""], rows)


def arms(name: str) -> Table:
    """Every arm's accuracies and other named metrics, and the tokens of its making.

    Arms are rows, or columns where there are more metrics than fit beside each other.
    Metrics by group are left to `groups` where it has some.
    """
    found = load(f"study_{name}")
    metrics = dict.fromkeys(k for arm in found["arms"].values() for k in arm["metrics"])
    if _WORDS[name].get("groups"):
        metrics = {metric: None for metric in metrics if "[" not in metric}
    rows = []
    for arm, own in found["arms"].items():
        cells = [shown(own["metrics"].get(metric)) for metric in metrics]
        total = sum(own["tokens"].values())
        rows.append([arm, *cells, f"{total / 1e3:,.0f}" if total else "–"])
    columns = ["arm", *metrics, "tokens of its making (thousands)"]
    if len(columns) > 8:
        columns, *rows = map(list, zip(columns, *rows))
    return Table(columns, rows)


def groups(name: str) -> Table:
    """The metrics of a study that its words list under `groups`, by group."""
    found = by_group(name)
    columns = dict.fromkeys(k for _, _, values in found for k in values)
    rows = [
        [arm, metric, *(shown(values.get(group)) for group in columns)]
        for arm, metric, values in found
    ]
    return Table(["arm", "metric", *columns], rows)


def _natural(item: tuple) -> tuple:
    """Order of a metric by group: by the group's number, if it has one."""
    name, _, value = item[0].removesuffix("]").rpartition("=")
    number = value.removesuffix("+")
    return (name, float(number), value) if number.isdecimal() else (name, 0.0, value)


def by_group(name: str) -> list[tuple[str, str, dict]]:
    """Arm, metric, and the metric's estimates by group, where the arm has them."""
    rows = []
    for arm, own in load(f"study_{name}")["arms"].items():
        for metric in _WORDS[name]["groups"]:
            values = {
                key.removeprefix(metric)[1:-1]: value
                for key, value in sorted(own["metrics"].items(), key=_natural)
                if key.startswith(f"{metric}[") and value["value"] is not None
            }
            if values:
                rows.append((arm, metric, values))
    return rows


def grouped() -> list[str]:
    """Names of the measured studies that have metrics by group."""
    return [name for name, own in _WORDS.items() if "groups" in own and _studied(name)]


for _name in _WORDS:
    register(f"study_{_name}.declared")(functools.partial(declared, _name))
    register(f"study_{_name}.arms")(functools.partial(arms, _name))
    register(f"study_{_name}.groups")(functools.partial(groups, _name))


@register("study_novelty.coefficients")
def novelty_coefficients() -> Table:
    """The regression of right answers on length and distance, per arm."""
    found = load("study_novelty")["analyses"]["novelty"]["test"]["coefficients"]
    names = list(next(iter(found.values())))
    rows = [
        [arm, *(shown(own[name], 2, True) for name in names)]
        for arm, own in found.items()
    ]
    return Table(["arm", *names], rows)


@register("study_novelty.cells")
def novelty_cells() -> Table:
    """The share right by distance and half of the lengths, per arm."""
    found = load("study_novelty")["analyses"]["novelty"]["test"]["cells"]
    rows = []
    for cells in zip(*found.values()):
        one = cells[0]
        where = [number(one["distance"], 0), one["length"], str(one["problems"])]
        rows.append([*where, *(shown(cell["right"]) for cell in cells)])
    return Table(["distance", "searches", "problems", *found], rows)


@register("study_elicit.crossover")
def elicit_crossover() -> Table:
    """pass@k of the ancestor and of the model after RLVR, by k."""
    found = load("study_elicit")["analyses"]["crossover"]["deep:rlvr"]["pass"]
    cells = lambda key: [number(100 * row[key]) for row in found]
    ks = [str(row["k"]) for row in found]
    rows = [["ancestor", *cells("base")], ["RLVR", *cells("trained")]]
    return Table(["pass@k, %, at k =", *ks], rows)


@register("study_elicit.perplexity")
def elicit_perplexity() -> Table:
    """Perplexity of right answers, under the ancestor and under their own model."""
    found = load("study_elicit")["analyses"]["crossover"]["deep:rlvr"]["perplexity"]
    titles = {
        "base": "the ancestor's right answers, under the ancestor",
        "new_to_base": "RLVR's right answers, under the ancestor",
        "own": "RLVR's right answers, under the model after RLVR",
    }
    rows = [[title, shown(found[key], 2)] for key, title in titles.items()]
    return Table(["right answers", "perplexity of a token [95 %]"], rows)


@register("study_exploration.training")
def exploration_training() -> Table:
    """Entropy, its line with held-out accuracy, and what each training ends with."""
    found = load("study_exploration")
    rows = []
    for arm, own in found["analyses"]["exploration"].items():
        metrics, training = found["arms"][arm]["metrics"], own.get("training", {})
        spent = [
            shown(training.get(name), 3)
            for name in ("entropy_first", "entropy_last", "a", "r2")
        ]
        after = ("sampled:accuracy", "sampled:vote@4", "deep:pass@16")
        rows.append([arm, *spent, *(shown(metrics.get(name)) for name in after)])
    columns = ["entropy, first step", "last step", "a", "R²"]
    return Table(["arm", *columns, "accuracy, %", "vote of 4", "pass@16"], rows)


@register("study_exploration.inference")
def exploration_inference() -> Table:
    """Effects of forced continuations, beside a vote that costs as much."""
    study = load("study_exploration")
    found = {
        arm: own["inference"]
        for arm, own in study["analyses"]["exploration"].items()
        if len(own["inference"]) > 1
    }
    titles = {
        "accuracy": ("accuracy, %", 1, False),
        "answer_entropy": ("entropy of answers, nats", 2, False),
        "cost": ("forward tokens", 0, False),
        "vote_ahead": ("vote at that cost − accuracy", 1, True),
    }
    rows = []
    for arm, tests in found.items():
        metrics = study["arms"][arm]["metrics"]
        rows += [
            [arm, title, *(shown(one[name], digits, sign) for one in tests)]
            for name, (title, digits, sign) in titles.items()
        ]
        cut = [shown(metrics[f"{one['test']}:truncated"]) for one in tests]
        rows.append([arm, "cut by the limit, %", *cut])
    times = [str(one["continuations"]) for one in next(iter(found.values()))]
    return Table(["arm", "continuations:", *times], rows)
