"""Algorithms of policy optimisation as rows of a table; settings of `policy` override single entries."""

import dataclasses

from fr.registry import Registry

ALGORITHMS = Registry("algorithm")


@dataclasses.dataclass(frozen=True)
class Algorithm:
    """One row of the table; the defaults are those of GRPO.

    docs/rewards.md has the equations.
    """

    centre: str = (
        "group"  # mean taken off a reward: of the group, of its others, or of the batch
    )
    scale: str = "std"  # divisor: std of the group, batch (std of all rewards), or none
    ddof: int = (
        1  # of that standard deviation: 1 as in TRL and verl, 0 for the population's
    )
    ratio: str = "token"  # token; sequence: exp of the mean log ratio; none: plain policy gradient
    gain: str = "clip"  # clip: min of ratio and clipped ratio; weight: clipped ratio x log-prob (CISPO)
    clip_low: float = 0.2
    clip_high: float = 0.2
    mean: str = "sequence"  # sequence: of a row's tokens, then of rows; token; sum; fixed (see MEANS)
    resample: bool = False  # groups whose rewards are all alike are drawn again


# A row's tokens are averaged, then rows; all tokens are averaged; a row's tokens are summed, then rows
# averaged; the same over a fixed length.
MEANS = ("sequence", "token", "sum", "fixed")
SCALES = ("std", "batch", "none")


def _file(name: str, algorithm: Algorithm) -> Algorithm:
    return ALGORITHMS.register(name)(algorithm)


# Papers write "std" without a ddof. The code that trains by them (TRL; verl, which is DAPO's own) takes 1.
GRPO = _file("grpo", Algorithm())  # arXiv 2402.03300
DR_GRPO = _file("dr_grpo", Algorithm(scale="none", mean="fixed"))  # arXiv 2503.20783
DAPO = _file(
    "dapo", Algorithm(clip_high=0.28, mean="token", resample=True)
)  # arXiv 2503.14476
GSPO = _file(
    "gspo", Algorithm(ratio="sequence", clip_low=3e-4, clip_high=4e-4)
)  # arXiv 2507.18071
# arXiv 2506.13585: no lower bound; the upper one, 5, is that of arXiv 2510.13786.
CISPO = _file(
    "cispo", Algorithm(gain="weight", clip_low=1.0, clip_high=4.0, mean="token")
)
# arXiv 2402.14740, over a fixed length so that its gradient has the size of the others'.
RLOO = _file(
    "rloo", Algorithm(centre="others", scale="none", ratio="none", mean="fixed")
)
REINFORCE = _file(
    "reinforce", Algorithm(centre="batch", scale="none", ratio="none", mean="fixed")
)


def with_settings(algorithm: Algorithm, config) -> Algorithm:
    """The row with what a PolicyConfig sets over it; one that has been through here stays the same."""
    given = {
        name: getattr(config, name)
        for name in ("mean", "scale", "clip_low", "clip_high")
    }
    given = {name: value for name, value in given.items() if value}
    if config.ddof >= 0:
        given["ddof"] = config.ddof
    return dataclasses.replace(algorithm, **given)
