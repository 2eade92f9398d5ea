"""The tiny lineage on Countdown: the ancestor in the package, a specialist trained in a minute, every operator."""

from fr.config import default


def get_config():
    """About five minutes on two cores; `--config.ancestor=scratch` trains the ancestor first."""
    c = default()
    c.ancestor = "countdown"
    c.task.name = "countdown"
    c.task.problems = 160
    c.sampling.rollouts = 16
    c.sampling.max_new_tokens = 96
    c.sampling.slots = 128
    c.intervention.attempts = 12
    # Chains of some fifty tokens: the source's constants, made for hundreds, as shares of the median length.
    c.diagnosis.warmup = 0.1
    c.diagnosis.window = 0.05
    c.intervention.local_span = 4
    return c
