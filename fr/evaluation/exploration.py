"""Analysis `exploration`: which loop stops exploring, and what remedy belongs to it.

Training: accuracy is bought with entropy, R = -a exp(H) + b (arXiv 2505.22617).
Inference: forced continuations raise the entropy of answers and then lower accuracy,
where a vote of parallel attempts at the same cost does not (arXiv 2506.04210).
"""

import numpy as np

from fr.config import Config
from fr.evaluation.analyses import register_analysis
from fr.evaluation.decodings import loop_alarm
from fr.evaluation.study import arm_folder, tests_of
from fr.evaluation.tested_sums import TestedSums
from fr.metrics import read_lines
from fr.stats.bootstrap import Estimate, estimate
from fr.stats.entropy_line import fit_entropy_line
from fr.workdir import PathLike

TRAINING = (
    "training loop: entropy has fallen from {first:.3f} to {last:.3f} nats per token "
    "in {count} of {seeds} seeds; remedy: config.policy.covariance = 'kl' or 'clip', "
    "or config.policy.entropy"
)
_HELD_OUT = "held_out/accuracy"


@register_analysis("exploration")
def exploration(config: Config, workdir: PathLike) -> dict:
    """Both loops of every arm: its training's line, its continuations, and alarms.

    Needs tests with `evaluation.decoding` = continued, one with sampled attempts, and
    the measures `votes`, `answer_entropy` and `cost`.
    """
    tested = TestedSums(config, workdir)
    found = {}
    for arm in tested.arms:
        training = _training(tested, arm) if tested.made(arm) else {}
        inference, alarms = _inference(tested, arm)
        alarm = training.pop("alarm", "")
        found[arm] = {
            **({"training": training} if training else {}),
            "inference": inference,
            "alarms": [line for line in (alarm, *alarms) if line],
        }
    return found


def entropy_points(lines: list[dict]) -> tuple[list[float], list[float]]:
    """Pairs of entropy and held-out accuracy of one training.

    The entropy of step n + 1 is of the policy after n updates, whose accuracy line n
    has.

    Args:
        lines: Lines of metrics.jsonl.

    Returns:
        (entropy in nats per token, accuracy) of every look at held-out problems that a
        step follows.
    """
    entropy = {line["step"]: line["entropy"] for line in lines if "entropy" in line}
    points = [
        (entropy[line["step"] + 1], line[_HELD_OUT])
        for line in lines
        if _HELD_OUT in line and line["step"] + 1 in entropy
    ]
    return [h for h, _ in points], [r for _, r in points]


def _training(tested: TestedSums, arm: str) -> dict:
    """Entropy at both ends, and the line of held-out accuracy, over seeds."""
    config, fits, ends = tested.config, [], []
    for seed in config.study.seeds:
        folder = arm_folder(tested.workdir, arm, seed)
        lines = read_lines(folder / "specialist" / "metrics.jsonl")
        spent = [line["entropy"] for line in lines if "entropy" in line]
        if not spent:
            return {}
        ends.append((spent[0], spent[-1]))
        fits.append(fit_entropy_line(*entropy_points(lines)))
    first, last = np.array(ends).T
    collapsed = last < config.policy.alarm_entropy * first
    result = {
        "entropy_first": _over_seeds(tested, first),
        "entropy_last": _over_seeds(tested, last),
        "collapsed": int(collapsed.sum()),
    }
    for name in ("a", "b", "r2") if all(fits) else ():
        result[name] = _over_seeds(tested, np.array([fit[name] for fit in fits]))
    if collapsed.any():
        shown = {"first": first[collapsed].mean(), "last": last[collapsed].mean()}
        count = {"count": int(collapsed.sum()), "seeds": len(ends)}
        result["alarm"] = TRAINING.format(**shown, **count)
    return result


def _over_seeds(tested: TestedSums, values: np.ndarray) -> dict:
    """Mean over seeds with its interval."""
    weights = tested.seeds
    mean = estimate(weights @ values / weights.sum(axis=1), len(values))
    return mean.plain().as_dict()


def _inference(tested: TestedSums, arm: str) -> tuple[list[dict], list[str]]:
    """Accuracy, entropy of answers and cost by continuations, beside votes."""
    config, rows, alarms = tested.config, [], []
    tests = {test: _decoding(config, test) for test in tests_of(config)}
    usable = [
        test
        for test, times in tests.items()
        if times >= 0 and all(tested.has(arm, test, name) for name in _NAMES)
    ]
    plain = next((test for test in usable if tests[test] == 0), None)
    if plain is None:
        return [], []
    base = {name: tested.estimate(arm, plain, name) for name in _NAMES}
    for test in sorted(usable, key=lambda name: tests[name]):
        own = {name: tested.estimate(arm, test, name) for name in _NAMES}
        vote = _vote_at_cost(tested, arm, plain, own["cost"], base["cost"])
        change = {name: own[name] - base[name] for name in _NAMES}
        rows.append(
            {
                "test": test,
                "continuations": tests[test],
                "accuracy": own["accuracy"].percent().as_dict(),
                "answer_entropy": own["answer_entropy"].plain().as_dict(),
                "cost": own["cost"].plain().as_dict(),
                "vote": vote.percent().as_dict(),
                "vote_ahead": (vote - own["accuracy"]).percent().as_dict(),
            }
        )
        if test != plain:
            alarm = loop_alarm(
                change["accuracy"].percent(),
                change["answer_entropy"].plain(),
                tests[test],
            )
            alarms.append(alarm)
    return rows, alarms


_NAMES = ("accuracy", "answer_entropy", "cost")


def _decoding(config: Config, test: str) -> int:
    """Continuations of a test; 0 for sampled attempts, -1 for other decodings."""
    own, c = tests_of(config)[test], config.evaluation
    decoding = own.get("evaluation.decoding", c.decoding)
    if decoding == "sampled":
        return 0
    times = int(own.get("evaluation.continuations", c.continuations))
    return times if decoding == "continued" else -1


def _vote_at_cost(
    tested: TestedSums, arm: str, plain: str, cost: Estimate, unit: Estimate
) -> Estimate:
    """Accuracy of a vote of sampled attempts that costs as much as one attempt.

    Between two numbers of votes it is interpolated; above the largest one that was
    measured it stays there.
    """
    names = [name for name in tested.read(arm, plain)[0].ratios if name[:5] == "vote@"]
    ks = [1, *(int(name[5:]) for name in names)]
    each = [tested.estimate(arm, plain, name) for name in ("accuracy", *names)]
    order = np.argsort(ks)
    at = lambda part: np.stack([part(each[i]) for i in order], axis=-1)
    read = lambda k, curve: np.interp(k, np.array(ks)[order], curve)
    value = float(read(cost.value / unit.value, at(lambda e: e.value)))
    curves = at(lambda e: e.samples)
    ratios = cost.samples / unit.samples
    samples = np.array([read(k, curve) for k, curve in zip(ratios, curves)])
    return Estimate(value, samples, each[0].problems)
