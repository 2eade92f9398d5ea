"""Tables of atlases, and of the errors of statistics along a trace, by name."""

import functools

from cells import Table, estimate, number, shown
from registry import load, register

SIZES = (16, 64)  # branches
_NONE = "–"


def _part(*name) -> dict:
    return load("atlas_errors")["parts"][", ".join(map(str, name))]


def _number(value: float | None, digits: int = 1) -> str:
    return _NONE if value is None else number(value, digits)


def _mean(found: dict) -> str:
    return estimate(found["value"], max(found["low"], 0), found["high"])


@register("atlas_false")
def false() -> Table:
    """Share of false claims, with and without a correction."""
    rows = []
    for mixture in ("mixed", "flat", "to the half"):
        for n in SIZES:
            points = _part("claims", mixture, n)
            traces = sum(row["traces"] for row in points["shapes"].values())
            row = [mixture, f"{traces:,}", str(n), _mean(points["false"])]
            row.append(_mean(points["uncorrected"]))
            if mixture == "to the half":  # all of its traces have a drop
                rows.append([*row, _NONE, _NONE])
                continue
            drops = _part("falls", mixture, n)
            rows.append([*row, _mean(drops["false"]), _mean(drops["cliffs"])])
    columns = ["V(t)", "traces", "branches", "points of no return", "uncorrected"]
    return Table([*columns, "drops", "cliffs, uncorrected"], rows)


def _by_shape(part: str, cells) -> list[list[str]]:
    both = [_part(part, "mixed", n)["shapes"] for n in SIZES]
    rows = []
    for shape in sorted(set(both[0]) & set(both[1]), key=lambda s: (s[0] == "V", s)):
        each = [cells(found[shape]) for found in both]
        rows.append([shape, *(cell for pair in zip(*each) for cell in pair)])
    return rows


def _titles(*names: str) -> list[str]:
    return ["V(t)", *(f"{name} ({n})" for name in names for n in SIZES)]


@register("atlas_points")
def points() -> Table:
    """Points of no return by the shape of V."""
    cells = lambda row: [
        f"{row['claims']:,} of {row['traces']:,}",
        str(row["false"]),
        _number(row["found"]),
        _number(row["cannot_tell"]),
    ]
    rows = _by_shape("claims", cells)
    return Table(_titles("claims", "false", "found, %", "cannot tell, %"), rows)


@register("atlas_later")
def later() -> Table:
    """True points that are found, and their distance from the claim."""
    rows = []
    for n in SIZES:
        found = _part("claims", "mixed", n)
        shapes = found["shapes"].values()
        right = sum(row["claims"] - row["false"] for row in shapes)
        low, middle, high = (number(q, 0) for q in found["later"])
        deep = [number(found["found"][key]) for key in ("deep", "shallow")]
        rows.append([str(n), *deep, f"{right:,}", middle, f"{low} to {high}"])
    columns = ["branches", "found, less than 0.2 of V(0) left, %", "more left, %"]
    return Table([*columns, "right claims", "cuts later: median", "half of them"], rows)


@register("atlas_drops")
def drops() -> Table:
    """Largest drops by the shape of V."""
    cells = lambda row: [
        number(100 * row["claims"] / row["traces"]),
        number(100 * row["cliffs"] / row["traces"]),
        _number(row["exact"]),
        _number(row["within_1"]),
    ]
    titles = ("claimed, %", "cliff, %", "exact, %", "within 1 cut, %")
    return Table(_titles(*titles), _by_shape("falls", cells))


@register("atlas_coverage")
def coverage() -> Table:
    """Coverage of 95 % intervals."""
    rows = []
    for name, key in (("mean V at a cut", "mean"), ("paired difference", "difference")):
        row = [f"{name}, over problems"]
        for n in SIZES:
            found = _part("coverage", n)[key]
            ends = f"{number(found['lowest'])} to {number(found['highest'])}"
            row.append(f"{number(found['all'])} ({ends} over the cuts)")
        rows.append(row)
    own = [number(_part("coverage", n)["trace"]) for n in SIZES]
    rows.append(["V of one trace at one cut (Wilson)", *own])
    titles = {"levels": "all cuts of a side", "neighbours": "one cut of each side"}
    for key, title in titles.items():
        own = [number(_part("falls", "mixed", n)["covered"][key]) for n in SIZES]
        rows.append([f"size of a claimed drop, {title}", *own])
    return Table(["interval", *(f"{n} branches" for n in SIZES)], rows)


@register("atlas_cliffs")
def cliffs() -> Table:
    """Flat traces in which the uncorrected test sees a cliff."""
    both = [_part("tokens", n) for n in SIZES]
    rows = [[v, *(number(found[v]) for found in both)] for v in both[0]]
    return Table(["V", *(f"{n} branches" for n in SIZES)], rows)


@register("atlas_shares")
def shares() -> Table:
    """Estimated parts of the variance against the planted ones."""
    rows = []
    for n in SIZES:
        for planted, case in _part("shares", n).items():
            part = case["parts"]["operator x position"]
            mean = f"{number(part['mean'], 2)} ± {number(part['error'], 2)}"
            others = [row for k, row in case["parts"].items() if part is not row]
            worst = max(
                abs(row["mean"] - row["planted"]) / row["error"] for row in others
            )
            least = [number(min(row["covered"] for row in others)), number(worst)]
            told = [
                number(case["verdicts"][k]) for k in ("at least", "less", "undecided")
            ]
            rows.append([str(n), planted, mean, number(part["covered"]), *least, *told])
    columns = ["branches", "planted, %", "mean estimate ± se", "covered, %"]
    columns += ["other parts: least covered, %", "largest bias, se"]
    return Table([*columns, "at least 2 %", "less", "undecided"], rows)


@register("atlas_keys")
def keys() -> Table:
    """Ratio of noise variances with shared keys."""
    both = [_part("keys", n) for n in SIZES]
    rows = []
    for gap, row in both[0].items():
        each = [(found[gap]["median"], found[gap]["covered"]) for found in both]
        cells = [cell for m, c in each for cell in (number(m, 2), number(c))]
        rows.append([gap, number(row["truth"], 2), *cells])
    columns = [f"{name} ({n})" for n in SIZES for name in ("median", "covered, %")]
    return Table(["difference of V", "true ratio", *columns], rows)


# ---------------------------------------------------------------- measured atlases
ATLASES = {"lineage": "SFT lineage", "planted": "several defects"}
_SHOWN = (0.0, 0.27, 0.55, 0.82)  # shares of the reasoning that are kept


def values(name: str) -> Table:
    """V of retry, and A of the other operators, by place."""
    found = load(f"atlas_{name}")
    places = sorted({row["place"] for row in found["values"]})
    kept = [places[round(share * (len(places) - 1))] for share in _SHOWN]
    rows = []
    for operator in found["operators"]:
        own = {r["place"]: r for r in found["values"] if r["operator"] == operator}
        plain = operator == found["operators"][0]
        cells = [
            shown(own[p]["rate"])
            if plain
            else shown(own[p]["advantage"]["interval"], sign=True)
            for p in kept
        ]
        rows.append(["V of `retry`, %" if plain else f"A of `{operator}`", *cells])
    return Table(["", *(f"{100 * p:.0f} % kept" for p in kept)], rows)


@register("atlas_variance")
def variance() -> Table:
    """Shares of the variance of V, of each atlas."""
    each = [load(f"atlas_{name}")["variance"]["shares"] for name in ATLASES]
    rows = [[part, *(shown(own[part]) for own in each)] for part in each[0]]
    return Table(["part, % of the variance of V", *ATLASES.values()], rows)


@register("atlas_referee")
def judged() -> Table:
    """Localisers by both scores, in each atlas."""
    each = [{r["localiser"]: r for r in load(f"atlas_{n}")["referee"]} for n in ATLASES]
    rows = []
    for name, first in each[0].items():
        cells = []
        for row in (own[name] for own in each):
            gaps = (row["over_position"], row["gain"], row["gain_over_position"])
            cells += [shown(gap["interval"], sign=True) for gap in gaps]
        rows.append([f"`{name}`" + " (outside truth)" * first["outside"], *cells])
    scores = ("precision − position", "gain", "gain − position")
    columns = [f"{title}: {score}" for title in ATLASES.values() for score in scores]
    return Table(["localiser", *columns], rows)


@register("atlas_claims")
def claims() -> Table:
    """Points of no return of retry beside the first defects of the traces."""
    rows = []
    for name, title in ATLASES.items():
        found = load(f"atlas_{name}")
        own = next(r for r in found["no_return"] if r["operator"] == "retry")
        beside = found["defects"]
        counts = [f"{own['claimed']} of {found['drops']['traces']}"]
        counts += [f"{beside['both']} of {beside['traces']}"]
        shares = [shown(beside[key]) for key in ("before", "at", "after")]
        rows.append([title, *counts, *shares, shown(beside["tokens"], sign=True)])
    columns = ["claimed", "with a known defect", "before it, %", "at it, %"]
    return Table(["", *columns, "later, %", "median, tokens"], rows)


@register("atlas_planner")
def planner() -> Table:
    """Rates of policies that choose an operator and a place, out of fold."""
    titles = {
        "retry": "a fresh retry",
        "best_fixed_per_model": "best fixed action",
        "posterior": "router in closed form",
        "learned": "learned router",
        "random_operator": "a random action",
    }
    each = [load(f"atlas_{name}")["planner"] for name in ATLASES]
    rows = [
        [title, *(shown(own["rates"][policy]) for own in each)]
        for policy, title in titles.items()
    ]
    first = [own["certified"][0]["interval"] for own in each]
    rows.append(["router − best fixed", *(shown(own, sign=True) for own in first)])
    most = [own["headroom"][0] for own in each]
    rows.append(["a perfect router − best fixed", *(shown(own) for own in most)])
    return Table(["rescued, %", *ATLASES.values()], rows)


for _name in ATLASES:
    register(f"atlas_{_name}_values")(functools.partial(values, _name))
