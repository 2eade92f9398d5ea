"""Algorithms of policy optimisation as rows of a table; settings of `policy` override
single entries."""

import dataclasses

from fr.registry import Registry

ALGORITHMS = Registry("algorithm")


@dataclasses.dataclass(frozen=True)
class Algorithm:
    """One row of the table, with the defaults of GRPO (docs/rewards.md: equations).

    Attributes:
      centre: mean subtracted from a reward: of its group, of the group's others, or of
        the batch.
      scale: divisor of an advantage: std (of the group), batch (std of all rewards) or
        none.
      ddof: of that standard deviation: 1 as in TRL and verl, 0 for the population.
      ratio: token, sequence (exp of the mean log ratio), or none (plain policy
        gradient). gain: clip (the smaller of ratio and clipped ratio, times the
        advantage), or weight
        (clipped ratio as a constant weight of the log-prob, CISPO).
      clip_low: the ratio is clipped below 1 - clip_low.
      clip_high: the ratio is clipped above 1 + clip_high.
      mean: how token losses become one number (see MEANS).
      resample: groups whose rewards are all equal are drawn again.
    """

    centre: str = "group"
    scale: str = "std"
    ddof: int = 1
    ratio: str = "token"
    gain: str = "clip"
    clip_low: float = 0.2
    clip_high: float = 0.2
    mean: str = "sequence"
    resample: bool = False


# sequence: mean of a row's tokens, then of rows. token: mean of all tokens. sum: sum of
# a row's tokens, mean of rows. fixed: the same, over a fixed length.
MEANS = ("sequence", "token", "sum", "fixed")
SCALES = ("std", "batch", "none")


def _file(name: str, algorithm: Algorithm) -> Algorithm:
    return ALGORITHMS.register(name)(algorithm)


# Papers write "std" without a ddof. The code that trains by them (TRL; verl, which is
# DAPO's own) takes 1.
GRPO = _file("grpo", Algorithm())  # arXiv 2402.03300
DR_GRPO = _file("dr_grpo", Algorithm(scale="none", mean="fixed"))  # arXiv 2503.20783
DAPO = _file(
    "dapo", Algorithm(clip_high=0.28, mean="token", resample=True)
)  # arXiv 2503.14476
GSPO = _file(
    "gspo", Algorithm(ratio="sequence", clip_low=3e-4, clip_high=4e-4)
)  # arXiv 2507.18071
# arXiv 2506.13585: no lower bound; the upper bound of 5 is from arXiv 2510.13786.
CISPO = _file(
    "cispo", Algorithm(gain="weight", clip_low=1.0, clip_high=4.0, mean="token")
)
# arXiv 2402.14740, over a fixed length so that its gradient has the size of the
# others'.
RLOO = _file(
    "rloo", Algorithm(centre="others", scale="none", ratio="none", mean="fixed")
)
REINFORCE = _file(
    "reinforce", Algorithm(centre="batch", scale="none", ratio="none", mean="fixed")
)


def with_settings(algorithm: Algorithm, config) -> Algorithm:
    """An algorithm with the entries that the settings override.

    Args:
      algorithm: a row of the table.
      config: a PolicyConfig; an empty `mean` or `scale`, a `clip_low` or `clip_high` of
        0
        and a negative `ddof` leave the algorithm's own value.

    Returns:
      The changed row; applied twice, the result is the same.
    """
    given = {
        name: getattr(config, name)
        for name in ("mean", "scale", "clip_low", "clip_high")
    }
    given = {name: value for name, value in given.items() if value}
    if config.ddof >= 0:
        given["ddof"] = config.ddof
    return dataclasses.replace(algorithm, **given)
