"""The tiny lineage on Countdown: the bundled ancestor, a specialist, every operator."""

from fr.config import default


def get_config():
    """Minutes on two cores; `--config.ancestor=scratch` trains the ancestor too."""
    c = default()
    c.ancestor = "countdown"
    c.task.name = "countdown"
    c.task.problems = 160
    c.sampling.rollouts = 16
    c.sampling.max_new_tokens = 96
    c.sampling.slots = 128
    c.intervention.attempts = 12
    c.training.order = "drawn"  # as the published figures were measured
    # The source's constants are for chains of hundreds of tokens. In these, of some
    # fifty, lengths are shares of the median failure, and the detector may fire on one
    # token in twenty: one in a hundred is not one a chain.
    c.diagnosis.warmup = 0.1
    c.diagnosis.window = 0.05
    c.diagnosis.quantile = 0.95
    c.intervention.local_span = 4
    return c
