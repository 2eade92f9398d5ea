"""Analysis `crossover`: from which k on the base solves more than the trained model.

And whether the trained model's right answers are new to the base (arXiv 2504.13837).
"""

import numpy as np
from etils import epath
from jaxtyping import Float

from fr import store
from fr.config import Config
from fr.config.studies import ANCESTOR
from fr.evaluation.analyses import register_analysis
from fr.evaluation.study import tests_of
from fr.evaluation.tested_sums import TestedSums
from fr.models import load
from fr.models.transformer import Transformer
from fr.sampling.devices import Devices
from fr.sampling.scoring import Scorer
from fr.stats.bootstrap import Estimate, estimate
from fr.stats.crossover import crossover_interval, crossovers, pass_curves
from fr.types import RIGHT
from fr.workdir import PathLike

_FOLDER = "evaluation"  # of the attempts, in the folder of a test


@register_analysis("crossover")
def crossover(config: Config, workdir: PathLike) -> dict:
    """k* of every trained arm against the ancestor, and perplexities of right answers.

    One entry per test of sampled attempts and arm. k* = min {k: pass@k of the ancestor
    > pass@k of the arm}, with an interval over seeds and problems. Perplexity is exp of
    the mean negative log-prob per token of one right attempt per problem and seed, at
    temperature 1: `new_to_base` of the arm's attempts under the ancestor, `own` under
    the arm, and `base` of the ancestor's attempts under itself.
    """
    tested, found, scorer = TestedSums(config, workdir), {}, _Base(config)
    arms = [arm for arm in tested.arms if tested.made(arm)]
    decoding = config.evaluation.decoding
    for test, changes in tests_of(config).items():
        if changes.get("evaluation.decoding", decoding) != "sampled":
            continue
        if not (ANCESTOR in tested.arms and tested.taken(ANCESTOR, test)):
            continue
        for arm in (arm for arm in arms if tested.taken(arm, test)):
            name = f"{test}:{arm}" if test else arm
            found[name] = _crossing(tested, arm, test) | {
                "perplexity": _perplexities(tested, arm, test, scorer)
            }
    return found


def _crossing(tested: TestedSums, arm: str, test: str) -> dict:
    base, own = _curves(tested, ANCESTOR, test), _curves(tested, arm, test)
    ks = [2**i for i in range(base.shape[1].bit_length()) if 2**i <= base.shape[1]]
    shown = [
        {"k": k, "base": float(base[0, k - 1]), "trained": float(own[0, k - 1])}
        for k in ks
    ]
    return {"k_star": crossover_interval(crossovers(base, own)), "pass": shown}


def _curves(tested: TestedSums, arm: str, test: str) -> Float[np.ndarray, "R K"]:
    """pass@k of every resample, K attempts at each problem."""
    sums, at = tested.sums(arm, test, "accuracy"), tested.problems(arm, test)
    n = int(sums[0, 0, 1])
    total = sum(
        weight[:, None] * (at @ pass_curves(each[:, 0].astype(int), n))
        for weight, each in zip(tested.seeds.T, sums)
    )
    return total / (tested.seeds.sum(axis=1) * at.sum(axis=1))[:, None]


class _Base:
    """The ancestor as a scorer, loaded when it is first asked."""

    def __init__(self, config: Config):
        self._config = config
        self._scorer: Scorer | None = None

    def nats(self, attempts: list[store.Attempt]) -> list[float]:
        """Negative log-prob of each attempt's tokens, summed."""
        if self._scorer is None:
            c = self._config.sampling
            devices = Devices(c.devices, model=c.model_axis)
            model = load(
                self._config.ancestor, mesh=devices.mesh, stacked=devices.layout.scanned
            )
            module = Transformer(model.config, model.dtype)
            self._scorer = Scorer(module, model.params, devices=devices)
        rows = [[*a.prompt.tolist(), *a.tokens.tolist()] for a in attempts]
        scored = self._scorer.score(rows, [len(a.prompt) for a in attempts])
        return [-float(row["logp"].sum()) for row in scored]


def _perplexities(tested: TestedSums, arm: str, test: str, scorer: _Base) -> dict:
    trained = [_right(folder) for folder in tested.folders(arm, test)]
    base = [_right(folder) for folder in tested.folders(ANCESTOR, test)]
    own = lambda attempts: [-float(a.stats["logp"].sum()) for a in attempts]
    found = {
        "new_to_base": (trained, scorer.nats),
        "own": (trained, own),
        "base": (base, own),
    }
    return {
        name: _perplexity(tested, arm, test, each, nats)
        for name, (each, nats) in found.items()
    }


def _right(folder: epath.Path) -> list[store.Attempt]:
    """The first right attempt at each problem, which ended."""
    first: dict[str, store.Attempt] = {}
    for shard in sorted(store.finished(folder / _FOLDER)):
        for a in store.read(folder / _FOLDER, [shard], ("logp",)):
            if a.grade == RIGHT and not a.truncated:
                first.setdefault(a.problem, a)
    return list(first.values())


def _perplexity(tested: TestedSums, arm: str, test: str, seeds, nats) -> dict:
    """exp(sum of nats / sum of tokens) with its interval over seeds and problems."""
    ids = {name: i for i, name in enumerate(tested.read(arm, test)[0].problems)}
    sums = np.zeros((len(tested.config.study.seeds), len(ids), 2))
    for seed, attempts in enumerate(seeds):
        for a, value in zip(attempts, nats(attempts) if attempts else []):
            sums[seed, ids[a.problem]] = value, len(a.tokens)
    if len(seeds) == 1:
        sums[:] = sums[0]
    at = tested.problems(arm, test)
    counted, among = np.einsum("rs,rn,snk->kr", tested.seeds, at, sums, optimize=True)
    with np.errstate(invalid="ignore"):
        carried = len(seeds) if len(seeds) > 1 else len(ids)
        found: Estimate = estimate(np.exp(counted / among), carried)
    return found.plain().as_dict()
