"""Studies: every arm with every seed, compared with seeds and problems resampled."""

import dataclasses
import json

import numpy as np
from etils import epath
from jaxtyping import Float

from fr import store
from fr.config import FROM, Config, as_dict
from fr.errors import UserError
from fr.evaluation.eval_metrics import EvalMetrics, interval_of, read_metrics
from fr.metrics import read_lines
from fr.stats.bootstrap import HEADER, Estimate, estimate, holm, resample_weights
from fr.stats.calibration import error_of
from fr.training.rlsf import CANDIDATES
from fr.workdir import PathLike, claim_workdir, to_json

EVALUATED = "evaluated"  # folder of a training's evaluation, in the training's folder
ANCESTOR = "ancestor"  # the arm without training
_SPENT = {
    "prompt_tokens": "prefill",
    "rollout_tokens": "generated",
    "probe_tokens": "probe",
}


def training_folder(workdir: PathLike, arm: str, seed: int) -> epath.Path:
    """Folder of one training and its evaluation.

    Args:
        workdir: Folder of the study.
        arm: Name of the arm.
        seed: Seed of the training.

    Returns:
        `WORKDIR/ARM/seed-N`.
    """
    return epath.Path(workdir) / arm / f"seed-{seed}"


def claim_study(config: Config, workdir: PathLike) -> None:
    """Bind a study's folder to its settings and each arm's folder to its changes.

    Arms and seeds may be added later.

    Args:
        config: Settings of the study.
        workdir: Folder of the study. A UserError names the setting in which the folder
            differs.
    """
    # Intervals are made again every time: what they read is no other study.
    claim_workdir(
        workdir, as_dict(config), as_dict(Config()), unread=("routing", "clusters")
    )
    for arm, settings in config.study.arms:
        claim_workdir(epath.Path(workdir) / arm, {"settings": dict(settings)})


def declared_of(config: Config) -> dict:
    """The comparisons of a study, as plain values that need no outcome.

    Args:
        config: Settings of the study; an added arm or seed changes the declaration.

    Returns:
        Content of the declaration.
    """
    study = json.loads(to_json(dataclasses.asdict(config.study)))
    return {
        "what": "trainings of a study, by their evaluations",
        "primary": study["primary"],
        "arms": study["arms"],
        "seeds": study["seeds"],
        "ancestor": study["ancestor"],
        "family": "every metric of every arm against the reference, by Holm",
        "task": json.loads(to_json(dataclasses.asdict(config.task))),
        "evaluation": json.loads(to_json(dataclasses.asdict(config.evaluation))),
        "resamples": config.routing.bootstrap,
    }


def evaluation_files(config: Config, workdir: PathLike) -> list[epath.Path]:
    """Paths of the evaluations of a study, whether made or not.

    Args:
        config: Settings of the study.
        workdir: Folder of the study.

    Returns:
        Paths of evaluation.json, of all trainings and of the ancestor.
    """
    folders = [training_folder(workdir, arm, seed) for arm, seed in trainings(config)]
    return [
        folder / EVALUATED / "evaluation.json"
        for folder in (*folders, epath.Path(workdir) / ANCESTOR)
    ]


def trainings(config: Config) -> list[tuple[str, int]]:
    """All trainings of a study.

    Args:
        config: Settings of the study.

    Returns:
        (arm, seed), each after the training that it starts from.
    """
    pairs = [(arm, seed) for seed in config.study.seeds for arm, _ in config.study.arms]
    return sorted(pairs, key=lambda pair: start_arm(config, pair[0]) is not None)


def start_arm(config: Config, arm: str) -> str | None:
    """The arm whose model an arm starts from.

    Args:
        config: Settings of the study.
        arm: Name of the arm.

    Returns:
        Name of the arm, whose model of the same seed is taken; None: the config's
        ancestor.
    """
    return dict(dict(config.study.arms)[arm]).get(FROM)


def config_changes(
    config: Config, workdir: PathLike, arm: str, seed: int
) -> dict[str, str]:
    """Settings of one training that differ from the study's config.

    Args:
        config: Settings of the study.
        workdir: Folder of the study.
        arm: Name of the arm.
        seed: Seed of the training.

    Returns:
        Values by name of the setting.
    """
    given, start = dict(dict(config.study.arms)[arm]), start_arm(config, arm)
    if start is not None:
        given["ancestor"] = str(training_folder(workdir, start, seed) / "specialist")
    return {name: value for name, value in given.items() if name != FROM} | {
        "seed": str(seed)
    }


def summarise(config: Config, workdir: PathLike) -> dict:
    """Compare the arms of a study.

    Intervals are over seeds and problems, both resampled, arms paired by both. The
    primary comparison is declared before anything runs. The others are exploratory;
    Holm's adjustment is over all that are printed.

    Args:
        config: Settings of the study.
        workdir: Folder of the study, all of whose trainings are evaluated.

    Returns:
        The content of study.json: metrics and tokens by arm, and differences from the
        reference arm.
    """
    study, settings = config.study, dict(config.study.arms)
    found = {
        name: [
            read_metrics(training_folder(workdir, name, seed) / EVALUATED)
            for seed in study.seeds
        ]
        for name in settings
    }
    if study.ancestor:
        found[ANCESTOR] = [
            read_metrics(epath.Path(workdir) / ANCESTOR / EVALUATED)
        ] * len(study.seeds)
    _check(found)
    metrics = _estimates(found, config)
    reference = study.primary[1] if study.primary else next(iter(found))
    rows = [
        _difference(name, reference, metric, metrics)
        | {"primary": (name, reference, metric) == study.primary}
        for name in found
        if name != reference
        for metric in metrics[reference]
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
                "metrics": {
                    metric: interval_of(metric, value).as_dict()
                    for metric, value in metrics[name].items()
                },
                "by_seed": {
                    metric: _by_seed(found[name], metric) for metric in metrics[name]
                },
                "tokens": _spent(config, workdir, name)
                if name in settings
                else dict.fromkeys(_SPENT, 0.0),
            }
            for name in found
        },
        "differences": rows,
    }


def _check(found: dict[str, list[EvalMetrics]]) -> None:
    first = next(iter(found.values()))[0]
    for name, all_seeds in found.items():
        if any(measures.problems != first.problems for measures in all_seeds):
            raise UserError(
                f"arm {name!r} was not asked the same problems with every seed"
            )


def _estimates(
    found: dict[str, list[EvalMetrics]], config: Config
) -> dict[str, dict[str, Estimate]]:
    """Every metric of every arm, under the same resamples of seeds and problems."""
    first, draw = next(iter(found.values())), np.random.default_rng(config.seed)
    seeds = resample_weights(len(first), config.routing.bootstrap, draw)
    problems = resample_weights(len(first[0].problems), config.routing.bootstrap, draw)

    # Few seeds carry the tails, which are read at the number of seeds, not of problems.
    def share(each: list[EvalMetrics], name: str) -> Estimate:
        sums: Float[np.ndarray, "S N 2"] = np.stack(
            [measures.ratios[name] for measures in each]
        )
        counted, among = np.einsum(
            "rs,rn,snk->kr", seeds, problems, sums, optimize=True
        )
        with np.errstate(invalid="ignore"):
            return estimate(counted / among, len(each))

    def error(each: list[EvalMetrics], name: str) -> Estimate:
        # Per model: two that err on opposite sides would seem calibrated together.
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
    arm: str, reference: str, metric: str, metrics: dict[str, dict[str, Estimate]]
) -> dict:
    gap = metrics[arm][metric] - metrics[reference][metric]
    interval = interval_of(metric, gap)
    return {
        "arm": arm,
        "reference": reference,
        "metric": metric,
        "difference": interval.as_dict(),
        "p": None if interval.low is None else gap.p_value(),
    }


def _by_seed(each: list[EvalMetrics], metric: str) -> list[float | None]:
    values = (measures.values()[metric] for measures in each)
    return [interval_of(metric, Estimate(x, np.array([]), 1)).value for x in values]


def _spent(config: Config, workdir: PathLike, arm: str) -> dict[str, float]:
    """Tokens of one training and of the trainings that it started from, by kind.

    They are means over seeds.
    """
    start, seeds = start_arm(config, arm), config.study.seeds
    total = (
        _spent(config, workdir, start)
        if start is not None
        else dict.fromkeys(_SPENT, 0.0)
    )
    for folder in (training_folder(workdir, arm, seed) for seed in seeds):
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
