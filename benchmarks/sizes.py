"""Sizes of the parts of a benchmark: full, or small enough for every commit."""

import dataclasses

from fr.config import PolicyConfig
from fr.models import ModelConfig


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Sizes of all parts; the defaults are the sizes of the goals."""

    # Tokens per row of the two runs whose difference is a decode step.
    steps: tuple[int, int] = (16, 48)
    read_bytes: int = 1 << 30  # far above any cache
    contexts: tuple[int, ...] = (256, 512, 1024, 2048)  # live cache entries
    context_rows: int = 16  # of float32 keys and values, 16 rows at 2,048 are 1.5 GB
    slots: int = 64  # of the occupancy run
    queue: int = 4096  # its rows
    median: int = 64  # of its lengths, in tokens
    spread: float = 4.0  # the 90th percentile of its lengths over their median
    longest: int = 1024  # where its lengths are cut
    # Settings of the timed update.
    update: PolicyConfig = PolicyConfig(
        prompts=2, rollouts=8, max_new_tokens=64, microbatch=4
    )
    prefixes: tuple[int, ...] = (128, 512, 1024)  # tokens before a branch
    branch: int = 64  # tokens of a branch
    scored: tuple[int, int] = (64, 1024)  # rollouts and tokens of the scoring run
    # A vocabulary and width of Qwen 2.5 0.5B; two layers, because only the head's share
    # of memory is in question.
    scored_model: ModelConfig = ModelConfig(
        vocab=151_936,
        width=896,
        layers=2,
        heads=14,
        kv_heads=2,
        head_dim=64,
        ff=4864,
        qkv_bias=True,
    )


STATED = Sizes()
SHORT = Sizes(
    steps=(8, 24),
    read_bytes=1 << 26,
    contexts=(16, 48, 80),
    context_rows=4,
    slots=8,
    queue=64,
    median=12,
    longest=64,
    update=PolicyConfig(
        prompts=2, rollouts=4, max_new_tokens=16, microbatch=4, length_buckets=2
    ),
    prefixes=(40,),
    branch=8,
    scored=(4, 64),
    scored_model=ModelConfig(
        vocab=4096, width=64, layers=2, heads=2, kv_heads=2, head_dim=32, ff=128
    ),
)
