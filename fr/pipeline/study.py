"""Several trainings compared: every arm of a study with every seed, and what is left when both are resampled."""

import json

import numpy as np
from etils import epath
from jaxtyping import Float

from fr.config import Config
from fr.errors import UserError
from fr.pipeline.measures import Measures, read_measures
from fr.routing.bootstrap import Estimate, estimate, holm, resample_weights
from fr.workdir import PathLike

EVALUATED = "evaluated"  # in the folder of a training: what scripts/evaluate.py made of it
ANCESTOR = "ancestor"  # the arm that nothing has trained
_SPENT = ("prompt_tokens", "rollout_tokens", "probe_tokens")


def unit(workdir: PathLike, arm: str, seed: int) -> epath.Path:
    """The folder of one training and its evaluation."""
    return epath.Path(workdir) / arm / f"seed-{seed}"


def summarise(config: Config, workdir: PathLike) -> dict:
    """Figures of every arm, their differences from the reference of the study, and what the trainings spent.

    Intervals are over seeds and problems, both resampled, arms paired by both. The primary comparison was named
    before anything ran; the others are exploratory, and Holm's adjustment is over all that are printed.
    """
    study, settings = config.study, dict(config.study.arms)
    found = {
        name: [read_measures(unit(workdir, name, seed) / EVALUATED) for seed in study.seeds]
        for name in settings
    }
    if study.ancestor:
        found[ANCESTOR] = [read_measures(epath.Path(workdir) / ANCESTOR / EVALUATED)] * len(study.seeds)
    _check(found)
    figures = _figures(found, config)
    reference = study.primary[1] if study.primary else next(iter(found))
    rows = [
        _difference(name, reference, figure, figures)
        | {"primary": (name, reference, figure) == study.primary}
        for name in found
        if name != reference
        for figure in figures[reference]
    ]
    known = [row for row in rows if row["p"] is not None]
    for row, p in zip(known, holm([row["p"] for row in known])):
        row["holm_p"] = p
    return {
        "seeds": list(study.seeds),
        "problems": len(found[reference][0].problems),
        "primary": list(study.primary),
        "arms": {
            name: {
                "settings": dict(settings.get(name, ())),
                "figures": {figure: _value(value) for figure, value in figures[name].items()},
                "by_seed": {figure: _by_seed(found[name], figure) for figure in figures[name]},
                "tokens": _spent(workdir, name, study.seeds)
                if name in settings
                else dict.fromkeys(_SPENT, 0.0),
            }
            for name in found
        },
        "differences": rows,
    }


def _check(found: dict[str, list[Measures]]) -> None:
    first = next(iter(found.values()))[0]
    for name, all_seeds in found.items():
        if any(measures.problems != first.problems for measures in all_seeds):
            raise UserError(f"arm {name!r} was not asked the same problems with every seed")


def _figures(found: dict[str, list[Measures]], config: Config) -> dict[str, dict[str, Estimate]]:
    """Every figure of every arm, under the same resamples of seeds and of problems."""
    first, draw = next(iter(found.values())), np.random.default_rng(config.seed)
    seeds = resample_weights(len(first), config.routing.bootstrap, draw)
    problems = resample_weights(len(first[0].problems), config.routing.bootstrap, draw)

    def figure(each: list[Measures], name: str) -> Estimate:
        sums: Float[np.ndarray, "S N 2"] = np.stack([measures.ratios[name] for measures in each])
        counted, among = np.einsum("rs,rn,snk->kr", seeds, problems, sums, optimize=True)
        with np.errstate(invalid="ignore"):
            # Few seeds carry it: tails are read at their number, not at that of the problems.
            return estimate(counted / among, len(each))

    return {arm: {name: figure(each, name) for name in each[0].ratios} for arm, each in found.items()}


def _difference(arm: str, reference: str, figure: str, figures: dict[str, dict[str, Estimate]]) -> dict:
    difference = figures[arm][figure] - figures[reference][figure]
    value = _value(difference)
    p = None if value["low"] is None else difference.p_value()
    return {"arm": arm, "reference": reference, "figure": figure, **value, "p": p}


def _value(found: Estimate) -> dict:
    numbers = (found.value, *found.interval())
    return {name: None if np.isnan(x) else float(x) for name, x in zip(("mean", "low", "high"), numbers)}


def _by_seed(each: list[Measures], figure: str) -> list[float | None]:
    counted, among = np.sum([measures.ratios[figure] for measures in each], axis=1).T
    return [float(c / a) if a else None for c, a in zip(counted, among)]


def _spent(workdir: PathLike, arm: str, seeds: tuple[int, ...]) -> dict[str, float]:
    """Tokens of one training, by kind, as a mean over seeds."""
    total = dict.fromkeys(_SPENT, 0.0)
    for seed in seeds:
        lines = (unit(workdir, arm, seed) / "specialist" / "metrics.jsonl").read_text().splitlines()
        for line in map(json.loads, lines):
            for name in _SPENT:
                total[name] += line.get(name, 0) / len(seeds)
    return total
