"""Several trainings compared: every arm of a study with every seed, and what is left when both are resampled."""

import dataclasses
import json

import numpy as np
from etils import epath
from jaxtyping import Float

from fr import store
from fr.config import FROM, Config, as_dict
from fr.errors import UserError
from fr.evaluation.eval_metrics import Measures, interval_of, read_measures
from fr.metrics import read_lines
from fr.stats.bootstrap import HEADER, Estimate, estimate, holm, resample_weights
from fr.stats.calibration import error_of
from fr.training.rlsf import CANDIDATES
from fr.workdir import PathLike, claim_workdir, to_json

EVALUATED = (
    "evaluated"  # in the folder of a training: what scripts/evaluate.py made of it
)
ANCESTOR = "ancestor"  # the arm that nothing has trained
_SPENT = {
    "prompt_tokens": "prefill",
    "rollout_tokens": "generated",
    "probe_tokens": "probe",
}


def unit(workdir: PathLike, arm: str, seed: int) -> epath.Path:
    """The folder of one training and its evaluation."""
    return epath.Path(workdir) / arm / f"seed-{seed}"


def claim(config: Config, workdir: PathLike) -> None:
    """Make a study's folder its settings' own, and every arm's its changes'; arms and seeds may still be added.

    Raises UserError that names the setting if something there was made with another value of it.
    """
    # Intervals are made again every time: what they read is no other study.
    claim_workdir(
        workdir, as_dict(config), as_dict(Config()), unread=("routing", "clusters")
    )
    for arm, settings in config.study.arms:
        claim_workdir(epath.Path(workdir) / arm, {"settings": dict(settings)})


def declared_of(config: Config) -> dict:
    """What a study compares, as plain values that need no outcome; arms and seeds that are added change it."""
    study = json.loads(to_json(dataclasses.asdict(config.study)))
    return {
        "what": "trainings of a study, by their evaluations",
        "primary": study["primary"],
        "arms": study["arms"],
        "seeds": study["seeds"],
        "ancestor": study["ancestor"],
        "family": "every figure of every arm against the reference, by Holm",
        "task": json.loads(to_json(dataclasses.asdict(config.task))),
        "evaluation": json.loads(to_json(dataclasses.asdict(config.evaluation))),
        "resamples": config.routing.bootstrap,
    }


def outcomes_of(config: Config, workdir: PathLike) -> list[epath.Path]:
    """Where the evaluations of a study lie, made or not."""
    folders = [unit(workdir, arm, seed) for arm, seed in trainings(config)]
    return [
        folder / EVALUATED / "evaluation.json"
        for folder in (*folders, epath.Path(workdir) / ANCESTOR)
    ]


def trainings(config: Config) -> list[tuple[str, int]]:
    """Every arm with every seed, in an order in which each comes behind the one that it starts from."""
    pairs = [(arm, seed) for seed in config.study.seeds for arm, _ in config.study.arms]
    return sorted(pairs, key=lambda pair: base(config, pair[0]) is not None)


def base(config: Config, arm: str) -> str | None:
    """The arm whose model of the same seed an arm starts from; None: it starts from the config's ancestor."""
    return dict(dict(config.study.arms)[arm]).get(FROM)


def changes(config: Config, workdir: PathLike, arm: str, seed: int) -> dict[str, str]:
    """What a training of the study changes in the config: setting and value."""
    given, start = dict(dict(config.study.arms)[arm]), base(config, arm)
    if start is not None:
        given["ancestor"] = str(unit(workdir, start, seed) / "specialist")
    return {name: value for name, value in given.items() if name != FROM} | {
        "seed": str(seed)
    }


def summarise(config: Config, workdir: PathLike) -> dict:
    """Figures of every arm, their differences from the reference of the study, and what the trainings spent.

    Intervals are over seeds and problems, both resampled, arms paired by both. The primary comparison was named
    before anything ran; the others are exploratory, and Holm's adjustment is over all that are printed.
    """
    study, settings = config.study, dict(config.study.arms)
    found = {
        name: [
            read_measures(unit(workdir, name, seed) / EVALUATED) for seed in study.seeds
        ]
        for name in settings
    }
    if study.ancestor:
        found[ANCESTOR] = [
            read_measures(epath.Path(workdir) / ANCESTOR / EVALUATED)
        ] * len(study.seeds)
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
        row["p_holm"] = p
    return {
        **HEADER,
        "seeds": list(study.seeds),
        "problems": len(found[reference][0].problems),
        "primary": list(study.primary),
        "arms": {
            name: {
                "settings": dict(settings.get(name, ())),
                "figures": {
                    figure: interval_of(figure, value).as_dict()
                    for figure, value in figures[name].items()
                },
                "by_seed": {
                    figure: _by_seed(found[name], figure) for figure in figures[name]
                },
                "tokens": _spent(config, workdir, name)
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
            raise UserError(
                f"arm {name!r} was not asked the same problems with every seed"
            )


def _figures(
    found: dict[str, list[Measures]], config: Config
) -> dict[str, dict[str, Estimate]]:
    """Every figure of every arm, under the same resamples of seeds and of problems."""
    first, draw = next(iter(found.values())), np.random.default_rng(config.seed)
    seeds = resample_weights(len(first), config.routing.bootstrap, draw)
    problems = resample_weights(len(first[0].problems), config.routing.bootstrap, draw)

    # Few seeds carry them: tails are read at their number, not at that of the problems.
    def share(each: list[Measures], name: str) -> Estimate:
        sums: Float[np.ndarray, "S N 2"] = np.stack(
            [measures.ratios[name] for measures in each]
        )
        counted, among = np.einsum(
            "rs,rn,snk->kr", seeds, problems, sums, optimize=True
        )
        with np.errstate(invalid="ignore"):
            return estimate(counted / among, len(each))

    def error(each: list[Measures], name: str) -> Estimate:
        # Of each model alone: those that err on opposite sides would seem well calibrated together.
        sums: Float[np.ndarray, "S N K 3"] = np.stack(
            [measures.bins[name] for measures in each]
        )
        errors = error_of(np.einsum("rn,snkc->rskc", problems, sums, optimize=True))
        return estimate((seeds * errors).sum(axis=1) / seeds.sum(axis=1), len(each))

    return {
        arm: {name: share(each, name) for name in each[0].ratios}
        | {f"ece_{name}": error(each, name) for name in each[0].bins}
        for arm, each in found.items()
    }


def _difference(
    arm: str, reference: str, figure: str, figures: dict[str, dict[str, Estimate]]
) -> dict:
    gap = figures[arm][figure] - figures[reference][figure]
    interval = interval_of(figure, gap)
    row = {"arm": arm, "reference": reference, "figure": figure}
    row["difference"] = interval.as_dict()
    return row | {"p": None if interval.low is None else gap.p_value()}


def _by_seed(each: list[Measures], figure: str) -> list[float | None]:
    values = (measures.values()[figure] for measures in each)
    return [interval_of(figure, Estimate(x, np.array([]), 1)).value for x in values]


def _spent(config: Config, workdir: PathLike, arm: str) -> dict[str, float]:
    """Tokens of one training and of those that it started from, by kind, as a mean over seeds."""
    start, seeds = base(config, arm), config.study.seeds
    total = (
        _spent(config, workdir, start)
        if start is not None
        else dict.fromkeys(_SPENT, 0.0)
    )
    for folder in (unit(workdir, arm, seed) for seed in seeds):
        for line in read_lines(folder / "specialist" / "metrics.jsonl"):
            for name in _SPENT:
                total[name] += line.get(name, 0) / len(seeds)
        if (folder / CANDIDATES).exists():
            table = store.read_table(
                folder / CANDIDATES, [f"cost_{cost}" for cost in _SPENT.values()]
            )
            for name, cost in _SPENT.items():
                total[name] += sum(table[f"cost_{cost}"].to_pylist()) / len(seeds)
    return total
