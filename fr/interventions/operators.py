"""Operators made of sampling parameters; the first six are from arXiv 2606.05145."""

import numpy as np

from fr.diagnosis.junction import tokens_of
from fr.interventions.intervention import OperatorContext
from fr.interventions.operator_registry import register
from fr.sampling import steering
from fr.sampling.sampling_params import WIDTHS
from fr.tasks.formats import encode_text


@register("retry")
def retry(context: OperatorContext) -> dict:
    """Sample the specialist again."""
    return {}


def _detector(context: OperatorContext) -> dict:
    """The online junction, with threshold and background of the problem's failures."""
    c, known = context.config.diagnosis, context.calibration
    code = steering.LOGIT_VAR
    if context.has_ancestor:
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


def steer(context: OperatorContext, geodesic: int) -> dict:
    """Sampling parameters of one token of steering where the detector fires.

    Args:
        context: The problem, its failures and the attempt's number.
        geodesic: Code of the mixture, of `fr.sampling.steering`.

    Returns:
        Fields of `SamplingParams`.
    """
    return {
        "operator": steering.STEER_ONCE,
        "alpha": context.config.intervention.alpha,
        "geodesic": geodesic,
        **_detector(context),
    }


@register("sparse_steer", reads_failures=True, needs_ancestor=True)
def sparse_steer(context: OperatorContext) -> dict:
    """One token of steering at the junction, by the mixture with the larger Z."""
    return steer(context, steering.CHOSEN)


@register("wrong_geodesic", reads_failures=True, needs_ancestor=True)
def wrong_geodesic(context: OperatorContext) -> dict:
    """Control: the same place, the other mixture."""
    return steer(context, steering.OTHER)


@register("sparse_steer_random", reads_failures=True, needs_ancestor=True)
def sparse_steer_random(context: OperatorContext) -> dict:
    """Control: the same steering at a random position of a failure on which it fires.

    The position is uniform over that failure's length. It steers in as many attempts as
    `sparse_steer` does, as far as the failures tell [ours]: with the share of failures
    on which the detector fires, over the chance that a failure is long enough to reach
    the position.
    """
    generator, known = context.generator(), context.calibration
    lengths = np.array(known.lengths)
    fired = lengths[np.array(known.fires) >= 0]
    own = steer(context, steering.CHOSEN)
    if not len(fired):
        return {**own, "threshold": np.inf}
    position = int(generator.integers(generator.choice(fired)))
    # Positions are uniform on [0, L): a failure of length l reaches min(l, L) of them.
    reached = np.mean(np.minimum(lengths[:, None], fired) / fired)
    if generator.random() < len(fired) / len(lengths) / reached:
        return {**own, "fire_position": position}
    return {**own, "threshold": np.inf}


@register("dense_steer", needs_ancestor=True, deterministic=True)
def dense_steer(context: OperatorContext) -> dict:
    """The argmax of the path mixture at every position: one deterministic attempt."""
    return {
        "operator": steering.STEER_DENSE,
        "alpha": context.config.intervention.alpha,
        "geodesic": steering.PATH,
    }


@register("dense_sampled", needs_ancestor=True)
def dense_sampled(context: OperatorContext) -> dict:
    """Every token drawn from the path mixture at the row's temperature [ours]."""
    return {**dense_steer(context), "operator": steering.STEER_SAMPLED}


@register("local_temp", reads_failures=True, uses_ancestor=True)
def local_temp(context: OperatorContext) -> dict:
    """Heat the firing token and the next few; attempts rotate the temperatures."""
    return {**_heat(context), **_detector(context)}


def _heat(context: OperatorContext) -> dict:
    c = context.config.intervention
    hot = c.local_temperatures
    return {
        "operator": steering.HEAT,
        "local_temperature": hot[context.attempt % len(hot)],
        "local_span": c.local_span,
    }


@register("contrastive", needs_ancestor=True)
def contrastive(context: OperatorContext) -> dict:
    """Contrastive decoding, log p_S + (α − 1)(log p_S − log p_A), α > 1 (2210.15097).

    Only on plausible tokens, p_S ≥ `plausible` max p_S; top_p and top_k of the contrast
    would keep tokens that the specialist finds absurd. Drawn at the row's temperature;
    the source searches.
    """
    c = context.config.intervention
    return {
        **dense_sampled(context),
        "alpha": c.contrast,
        "plausible": c.plausible,
        "top_p": 1.0,
        "top_k": 0,
    }


@register("ancestor_alone", needs_ancestor=True)
def ancestor_alone(context: OperatorContext) -> dict:
    """Every token drawn from the ancestor (α = 0), as the second model of a cascade.

    It reads no failure. The loop computes the specialist too, and it is charged.
    """
    return {**dense_sampled(context), "alpha": 0.0}


@register("greedy", deterministic=True)
def greedy(context: OperatorContext) -> dict:
    """The specialist's most likely token everywhere: one deterministic attempt."""
    return {"temperature": 0.0}


@register("nucleus")
def nucleus(context: OperatorContext) -> dict:
    """Sample from the smallest set of tokens with mass `nucleus` (arXiv 1904.09751)."""
    return {"top_p": context.config.intervention.nucleus}


@register("min_p")
def min_p(context: OperatorContext) -> dict:
    """Sample hotter, as `hot`, from tokens with p ≥ `min_p` max p (2407.01082)."""
    c = context.config.intervention
    hot = c.hot_temperatures
    return {"temperature": hot[context.attempt % len(hot)], "min_p": c.min_p}


@register("other_first", reads_failures=True)
def other_first(context: OperatorContext) -> dict:
    """Begin with another token than the failures (see CoT-decoding, 2402.10200).

    Drawn from the rest of the first distribution; the source takes the most likely
    tokens in turn. From a cut: another token than the trace's own there.
    """
    cut = context.cut
    begun = (failure.written.tokens[cut : cut + 1] for failure in context.failures)
    return {
        "avoid": tuple(dict.fromkeys(token for first in begun for token in first))[
            : WIDTHS["avoid"]
        ]
    }


@register("steer_here", reads_failures=True, needs_ancestor=True)
def steer_here(context: OperatorContext) -> dict:
    """One token of steering at the place where the attempt begins [ours]."""
    return {**steer(context, steering.CHOSEN), "fire_position": context.cut}


@register("heat_here")
def heat_here(context: OperatorContext) -> dict:
    """Heat the first tokens of the attempt, as `local_temp` after its fire [ours]."""
    return {**_heat(context), "fire_position": context.cut}


@register("wait_here", words=lambda form: (form.again,))
def wait_here(context: OperatorContext) -> dict:
    """Begin with the word that goes on reasoning, as `wait` after a trace [ours]."""
    assert context.codec is not None
    return {"forced": encode_text(context.codec, context.format.again) or ()}


@register("early_stop", reads_failures=True)
def early_stop(context: OperatorContext) -> dict:
    """End a row when its confidence falls below the failures' (arXiv 2508.15260).

    Confidence is DeepConf's, a running mean over `stop_window` tokens; the floor is the
    `stop_quantile` of the failures' lowest values [ours: the source calibrates on
    attempts of any outcome]. It saves tokens.
    """
    c = context.config.intervention
    window = max(1, tokens_of(c.stop_window, context.calibration.lengths))
    least = [failure.lowest_confidence(window) for failure in context.failures]
    return {"floor": float(np.quantile(least, c.stop_quantile)), "floor_window": window}
