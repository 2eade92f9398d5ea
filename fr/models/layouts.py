"""The order of caches and layers in the token loop, by platform."""

import dataclasses

import jax

from fr.models.config import PLATFORM


@dataclasses.dataclass(frozen=True)
class Layout:
    """Order of caches and layers in the token loop of a platform; decided here only.

    Attributes:
        entries_last: Keys are [B, K, H, S], not [B, K, S, H] as values are.
        scanned: Layers and caches are stacked and read in a loop over layers; a chunk
            keeps its own entries beside the cache and writes them at its end. Else
            each layer has arrays of its own, and a step writes where it reads.
        few_sizes: A cache doubles when it grows. Else it grows by a third or a half:
            more programs, and shorter steps between.
    """

    entries_last: bool
    scanned: bool
    few_sizes: bool


# CPU: products read memory in order if the entries of keys are innermost, which takes a
# quarter of the time; a slice of a stack would be a copy.
# TPU: a write at an entry per row wants another order than the products, so that a
# chunk would lay out the whole cache twice, or it is a loop over rows. Slices of a
# stack are read in place, and one layer is compiled for all.
# GPU: a write is one kernel and takes any order; products with slices of a stack copy
# the slices at every step.
LAYOUTS = {
    "cpu": Layout(entries_last=True, scanned=False, few_sizes=False),
    "tpu": Layout(entries_last=False, scanned=True, few_sizes=True),
    "gpu": Layout(entries_last=False, scanned=False, few_sizes=True),
}


def layout_of(platform: str = "") -> Layout:
    """The layout of a platform.

    Args:
        platform: cpu, tpu or gpu (or cuda, rocm); "": the one that programs are
            compiled for, see `config.PLATFORM`, or this machine's.

    Returns:
        The layout.
    """
    platform = platform or PLATFORM.get() or jax.default_backend()
    return LAYOUTS.get(platform, LAYOUTS["gpu"])
