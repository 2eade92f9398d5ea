"""SmolLM2-135M-Instruct on mixed tasks, with every operator that needs no ancestor."""

from fr.config import default


def get_config():
    """24 problems per part, about 11,000 attempts; 45 minutes on two quiet cores."""
    c = default()
    c.specialist = "smollm2"
    c.task.name = "mixed"
    c.task.parts = ("sums", "word_problems", "letters", "gcd")
    c.task.problems = 96
    c.task.shots = 2
    c.task.terms = 3
    c.sampling.rollouts = 8
    c.sampling.max_new_tokens = 96
    c.sampling.probe_cuts = 6
    c.sampling.slots = 64
    c.sampling.chunk = 8
    c.sampling.shard_rows = 512
    # A share of the median failure, which is hardly longer than the source's 20 tokens.
    c.diagnosis.warmup = 0.1
    c.intervention.operators = (
        "retry",
        "local_temp",
        "hot",
        "hint",
        "tip",
        "wait",
        "prefix_restart",
        "calculator",  # this and the next use truth from outside
        "repair",
    )
    c.intervention.attempts = 12
    c.intervention.local_span = 4
    return c
