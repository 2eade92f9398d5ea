"""Settings that cannot work together, of a whole config: refused in one line, with what would do."""

from fr.config.algorithms import ALGORITHMS as ROWS
from fr.config.algorithms import with_settings
from fr.config.learning import OF_A_RUN, PREFERENCES, SOURCES
from fr.errors import UserError

_COLD = 0.01  # least temperature of a ratio: 1e-5 nats, what two float32 programs differ by, become 1e-3


def check_rollouts(c) -> None:
    """Raise UserError if a whole config trains on rollouts by settings that cannot work together.

    What it says of a config that trains otherwise: nothing.
    """
    if c.algorithm not in ROWS:
        return
    p, row = c.policy, with_settings(ROWS[c.algorithm], c.policy)
    alone = row.centre != "batch" or row.scale == "std"
    if alone and p.rollouts < 2 or p.prompts * p.rollouts < 2:
        raise UserError(
            f"config.policy.rollouts = {p.rollouts}: {c.algorithm} compares the rollouts of a problem, and the "
            "advantage of a single one is 0 whatever it earns; set 2 or more, or config.algorithm = reinforce"
        )
    restricts = [
        n for n, off in (("top_p", 1.0), ("top_k", 0)) if getattr(c.sampling, n) != off
    ]
    if p.ratio_logp == "sample" and restricts:
        raise UserError(
            f"config.policy.ratio_logp = 'sample' with config.sampling.{restricts[0]} = "
            f"{getattr(c.sampling, restricts[0])}: the sampler's log-probs are of the tokens that are left, the "
            "update's of the whole vocabulary, so their ratio is not 1 at equal parameters; set "
            f"{restricts[0]} = {1.0 if restricts[0] == 'top_p' else 0}, or ratio_logp = 'raw'"
        )
    if p.ratio_logp == "sample" and p.temperature < _COLD:
        raise UserError(
            f"config.policy.ratio_logp = 'sample' with temperature = {p.temperature}: divided by it, log-probs "
            f"differ by rounding as much as a ratio is clipped at; set {_COLD} or more, or ratio_logp = 'raw'"
        )
    if p.covariance == "kl" and p.updates * p.minibatches == 1:
        raise UserError(
            "config.policy.covariance = 'kl' with one update a step: a KL to the old policy has no gradient where "
            "both are the same; raise config.policy.updates or minibatches, or set covariance = 'clip'"
        )
    if p.lag and p.ratio_from == "trainer" and p.importance == "none":
        raise UserError(
            "config.policy.lag = 1 with ratio_from = 'trainer': nothing tells of the older parameters that drew the "
            "rollouts; set config.policy.importance = 'token', or ratio_from = 'sampler'"
        )
    if p.importance != "none" and p.ratio_from == "sampler":
        raise UserError(
            f"config.policy.importance = {p.importance!r} with ratio_from = 'sampler': the weights of trainer over "
            "sampler are then 1; set config.policy.ratio_from = 'trainer'"
        )
    if (p.reference_every or p.reference_mix < 1) and not (p.kl and p.reference_every):
        raise UserError(
            "config.policy.reference_every and reference_mix say what config.policy.kl is measured from; set "
            f"kl (it is {p.kl}) and reference_every (it is {p.reference_every}), or none of them"
        )


def check_source(c) -> None:
    """Raise UserError if a whole config learns from what its algorithm cannot read, or from a run without a name."""
    t, kind = c.training, "pairs" if c.algorithm in PREFERENCES else c.algorithm
    if t.source and t.source not in SOURCES.get(kind, ()):
        able = [name for name, sources in SOURCES.items() if t.source in sources]
        raise UserError(
            f"config.training.source = {t.source!r} is not for config.algorithm = {c.algorithm!r}; set "
            f"config.algorithm = {'sft' if able == ['sft'] else 'dpo'!r}, or another source"
        )
    if (t.source in OF_A_RUN) != bool(t.run):
        raise UserError(
            f"config.training.source = {t.source!r} and run = {t.run!r}: {', '.join(OF_A_RUN)} are taken from a run; "
            "set config.training.run to its workdir, or none of them"
        )
    by_pairs = c.algorithm in PREFERENCES and c.preference.eval_every
    if by_pairs and not t.run:
        raise UserError(
            "config.preference.eval_every looks at pairs of a run's held-out problems; set config.training.source "
            "and run, or eval_every = 0"
        )
