"""The operators of arXiv 2606.05145, each a row of numbers. Every attempt starts from the prompt."""

from fr.interventions.base import Setting, register
from fr.sampling import steering


@register("retry")
def retry(setting: Setting) -> dict:
    """Sample the specialist again."""
    return {}


def _detector(setting: Setting) -> dict:
    """The online junction: threshold, warm-up and background from the problem's failures."""
    c, known = setting.config.diagnosis, setting.calibration
    code = steering.LOGIT_VAR
    if setting.has_ancestor:
        code = steering.DEMOTION if c.detector == "demotion" else steering.Z_SCORE
    return {
        "detector": code,
        "detector_width": c.width,
        "threshold": known.threshold,
        "warmup": known.warmup,
        "cov_mean": known.cov_mean,
        "cov_sd": known.cov_sd,
    }


def _steer(setting: Setting, geodesic: int) -> dict:
    return {
        "operator": steering.STEER_ONCE,
        "alpha": setting.config.intervention.alpha,
        "geodesic": geodesic,
        **_detector(setting),
    }


@register("sparse_steer", needs_ancestor=True)
def sparse_steer(setting: Setting) -> dict:
    """One token of steering at the detected junction, by the mixture with the larger Z."""
    return _steer(setting, steering.CHOSEN)


@register("wrong_geodesic", needs_ancestor=True)
def wrong_geodesic(setting: Setting) -> dict:
    """Control: the same place, the other mixture."""
    return _steer(setting, steering.OTHER)


@register("sparse_steer_random", needs_ancestor=True)
def sparse_steer_random(setting: Setting) -> dict:
    """Control: the same steering at a position uniform over the failed rollouts' lengths."""
    generator = setting.generator()
    length = generator.choice(setting.calibration.lengths)
    return {**_steer(setting, steering.CHOSEN), "fire_position": int(generator.integers(length))}


@register("dense_steer", needs_ancestor=True, deterministic=True)
def dense_steer(setting: Setting) -> dict:
    """The argmax of the path mixture at every position: one deterministic attempt."""
    return {
        "operator": steering.STEER_DENSE,
        "alpha": setting.config.intervention.alpha,
        "geodesic": steering.PATH,
    }


@register("dense_sampled", needs_ancestor=True)
def dense_sampled(setting: Setting) -> dict:
    """Every token drawn from the path mixture at the row's temperature (not in the source)."""
    return {**dense_steer(setting), "operator": steering.STEER_SAMPLED}


@register("local_temp", uses_ancestor=True)
def local_temp(setting: Setting) -> dict:
    """Heat the firing token and the next few; attempts take turns through the local temperatures."""
    c = setting.config.intervention
    return {
        "operator": steering.HEAT,
        "local_temperature": c.local_temperatures[setting.attempt % len(c.local_temperatures)],
        "local_span": c.local_span,
        **_detector(setting),
    }
