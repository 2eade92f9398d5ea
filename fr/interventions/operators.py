"""The operators of arXiv 2606.05145, and other rows of numbers. Every attempt starts from the prompt."""

import numpy as np

from fr.diagnosis.junction import tokens_of
from fr.interventions.intervention import Setting, register
from fr.sampling import steering
from fr.sampling.rows import WIDTHS


@register("retry")
def retry(setting: Setting) -> dict:
    """Sample the specialist again."""
    return {}


def _detector(setting: Setting) -> dict:
    """The online junction: threshold, warm-up and background from the problem's failures."""
    c, known = setting.config.diagnosis, setting.calibration
    code = steering.LOGIT_VAR
    if setting.has_ancestor:
        code = steering.DEMOTION if c.score == "demotion" else steering.Z_SCORE
    return {
        "detector": code,
        "detector_width": c.width,
        "threshold": known.threshold,
        "warmup": known.warmup,
        "cov_mean": known.cov_mean,
        "cov_sd": known.cov_sd,
        **({"drift": c.drift} if c.detector == "page_hinkley" else {}),
    }


def steer(setting: Setting, geodesic: int) -> dict:
    """Row parameters of one token of steering where the detector fires, by a mixture of `fr.sampling.steering`."""
    return {
        "operator": steering.STEER_ONCE,
        "alpha": setting.config.intervention.alpha,
        "geodesic": geodesic,
        **_detector(setting),
    }


@register("sparse_steer", needs_ancestor=True)
def sparse_steer(setting: Setting) -> dict:
    """One token of steering at the detected junction, by the mixture with the larger Z."""
    return steer(setting, steering.CHOSEN)


@register("wrong_geodesic", needs_ancestor=True)
def wrong_geodesic(setting: Setting) -> dict:
    """Control: the same place, the other mixture."""
    return steer(setting, steering.OTHER)


@register("sparse_steer_random", needs_ancestor=True)
def sparse_steer_random(setting: Setting) -> dict:
    """Control: the same steering at a position uniform over the length of a failure on which the detector fires.

    It steers in as many attempts as `sparse_steer` does, as far as the failures tell [ours]: with the share of
    them on which the detector fires, over the chance that one of them is long enough to reach the position.
    """
    generator, known = setting.generator(), setting.calibration
    lengths = np.array(known.lengths)
    fired = lengths[np.array(known.fires) >= 0]
    own = steer(setting, steering.CHOSEN)
    if not len(fired):
        return {**own, "threshold": np.inf}
    position = int(generator.integers(generator.choice(fired)))
    # Positions are uniform over [0, L): a failure of length l reaches min(l, L) of them.
    reached = np.mean(np.minimum(lengths[:, None], fired) / fired)
    if generator.random() < len(fired) / len(lengths) / reached:
        return {**own, "fire_position": position}
    return {**own, "threshold": np.inf}


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
        "local_temperature": c.local_temperatures[
            setting.attempt % len(c.local_temperatures)
        ],
        "local_span": c.local_span,
        **_detector(setting),
    }


@register("contrastive", needs_ancestor=True)
def contrastive(setting: Setting) -> dict:
    """Contrastive decoding (arXiv 2210.15097): log p_S + (α − 1)(log p_S − log p_A), α > 1, on plausible tokens.

    Plausible are tokens with p_S ≥ `plausible` max p_S, in place of top_p and top_k: those of the contrast would
    keep what the specialist finds absurd. Drawn at the row's temperature; the source searches.
    """
    c = setting.config.intervention
    return {
        **dense_sampled(setting),
        "alpha": c.contrast,
        "plausible": c.plausible,
        "top_p": 1.0,
        "top_k": 0,
    }


@register("ancestor_alone", needs_ancestor=True)
def ancestor_alone(setting: Setting) -> dict:
    """Every token drawn from the ancestor (α = 0): the second model of a cascade, which reads no failure.

    The specialist is computed beside it and charged for, since the loop does both.
    """
    return {**dense_sampled(setting), "alpha": 0.0}


@register("greedy", deterministic=True)
def greedy(setting: Setting) -> dict:
    """The specialist's likeliest token at every position: one deterministic attempt."""
    return {"temperature": 0.0}


@register("nucleus")
def nucleus(setting: Setting) -> dict:
    """Sample from the smallest set of tokens with mass `nucleus` (arXiv 1904.09751)."""
    return {"top_p": setting.config.intervention.nucleus}


@register("min_p")
def min_p(setting: Setting) -> dict:
    """Sample hotter, as `hot`, from tokens with p ≥ `min_p` max p (arXiv 2407.01082)."""
    c = setting.config.intervention
    hot = c.hot_temperatures
    return {"temperature": hot[setting.attempt % len(hot)], "min_p": c.min_p}


@register("other_first")
def other_first(setting: Setting) -> dict:
    """Begin with another token than the failures began with (after the branches of CoT-decoding, arXiv 2402.10200).

    Drawn from what is left of the first distribution, where the source takes the likeliest tokens in turn.
    """
    begun = (failure.written.tokens[:1] for failure in setting.failures)
    return {
        "avoid": tuple(dict.fromkeys(token for first in begun for token in first))[
            : WIDTHS["avoid"]
        ]
    }


@register("early_stop")
def early_stop(setting: Setting) -> dict:
    """Sample again, and end the row once its confidence falls below that of the failures (arXiv 2508.15260).

    Confidence is DeepConf's, as a running mean over `stop_window` tokens; the floor is the `stop_quantile` of the
    failures' least values [ours: the source calibrates on attempts of any outcome]. What it saves are tokens.
    """
    c = setting.config.intervention
    window = max(1, tokens_of(c.stop_window, setting.calibration.lengths))
    least = [failure.least_sure(window) for failure in setting.failures]
    return {"floor": float(np.quantile(least, c.stop_quantile)), "floor_window": window}
