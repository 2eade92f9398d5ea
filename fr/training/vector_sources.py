"""Steering vectors from states: difference of means, random directions, SAE features.

A state h_tl is the residual stream after layer l at token t of a completion.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from fr import distributed
from fr.config import SteeringConfig
from fr.errors import UserError
from fr.interventions.vectors import random_like
from fr.sampling.hidden_states import StateReader
from fr.sampling.sampling_params import row_key
from fr.tasks.behaviours import windows, words_of
from fr.tasks.formats import CompletionText
from fr.training.sae import reason_scores, train_sae

_SPAN = 4  # tokens of a word's window for an SAE, [-1, +2] (arXiv 2503.18878)


@dataclasses.dataclass(frozen=True)
class Written:
    """A completion whose states are read.

    Attributes:
        prompt: Token ids of its prompt.
        text: Its text and tokens.
    """

    prompt: tuple[int, ...]
    text: CompletionText

    @property
    def ids(self) -> list[int]:
        """Token ids of prompt and completion."""
        return [*self.prompt, *self.text.tokens]

    def places(self, some: range) -> slice:
        """Find a window of the completion in `ids`.

        Args:
            some: Places in the completion.

        Returns:
            Places in prompt and completion together.
        """
        return slice(len(self.prompt) + some.start, len(self.prompt) + some.stop)


@dataclasses.dataclass(frozen=True)
class Found:
    """Vectors, and what is worth recording of how they were found.

    Attributes:
        vectors: Vector u_l of each layer; 0: none.
        record: Numbers by name.
    """

    vectors: Float[np.ndarray, "L D"]
    record: dict


def find_vectors(
    config: SteeringConfig, seed: int, reader: StateReader, written: Sequence[Written]
) -> Found:
    """The vectors of `steering.source`.

    Args:
        config: Settings of steering.
        seed: Seed of the run.
        reader: Reads states of the model.
        written: Completions of the model.

    Returns:
        The vectors.

    Raises:
        UserError: The behaviour occurs in no completion.
    """
    if config.source in ("sae", "sae_random"):
        return _feature(config, seed, reader, written)
    found = difference_of_means(config, reader, written)
    if config.source == "means":
        return found
    draw = np.random.default_rng(row_key(seed, "steering", "random"))
    return Found(random_like(found.vectors, draw), found.record)


def difference_of_means(
    config: SteeringConfig, reader: StateReader, written: Sequence[Written]
) -> Found:
    """u = (b - m) ||m|| / ||b - m|| in every layer (arXiv 2506.18167).

    b is the mean over occurrences of the behaviour of the mean state of its window: the
    token before it and its own tokens, at most `steering.window` in all. m is the mean
    state of all tokens of completions.

    Args:
        config: `behaviour` and `window` are read.
        reader: Reads states of the model.
        written: Completions of the model.

    Returns:
        Vectors with the norms of the mean states, and numbers of windows and tokens.

    Raises:
        UserError: The behaviour occurs in no completion.
    """
    weights, count = [], 0
    for one in written:
        table = np.zeros((2, len(one.ids)), np.float32)
        table[1, len(one.prompt) :] = 1.0
        for _, pattern in words_of(config.behaviour, one.text.form):
            for some in windows(one.text, pattern, 1, config.window):
                table[0, one.places(some)] += 1.0 / len(some)
                count += 1
        weights.append(table)
    if not count:
        raise UserError(
            f"config.steering.behaviour = {config.behaviour!r} occurs in none of "
            f"{len(written)} completions; choose another, or ask more problems "
            "(config.steering.problems)"
        )
    mine = distributed.local_slice(list(range(len(written))))
    own = reader.sums([written[i].ids for i in mine], [weights[i] for i in mine])
    sums = sum(distributed.gather(own.astype(np.float64).sum(axis=0)))
    tokens = sum(len(one.text.tokens) for one in written)
    behaviour, mean = sums[0] / count, sums[1] / tokens
    away, norm = behaviour - mean, lambda x: np.linalg.norm(x, axis=1, keepdims=True)
    vectors = away * (norm(mean) / np.maximum(norm(away), 1e-30))
    cosine = (behaviour * mean).sum(axis=1) / (norm(behaviour) * norm(mean))[:, 0]
    record = {"occurrences": count, "tokens": tokens}
    record |= {"norms": norm(mean)[:, 0].tolist(), "cosine": cosine.tolist()}
    return Found(vectors.astype(np.float32), record)


def _feature(
    config: SteeringConfig, seed: int, reader: StateReader, written: Sequence[Written]
) -> Found:
    """One feature of an SAE: its largest activation times its decoder column.

    The feature with the largest ReasonScore, or as a control (`sae_random`) a random
    one of those that are ever active.
    """
    layers = reader.layers
    layer = config.layer if config.layer >= 0 else layers // 2
    if layer >= layers:
        raise UserError(
            f"config.steering.layer = {layer}: the model has layers 0 to {layers - 1}"
        )
    states = reader.states([one.ids for one in written], layer)
    own = [h[len(one.prompt) :] for h, one in zip(states, written)]
    every = np.concatenate(own)
    sae = train_sae(every, config, seed)
    z, words = sae.encode(every), words_of("reasoning", written[0].text.form)
    near = np.zeros((len(words), len(every)), bool)
    start = 0
    for one, part in zip(written, own):
        for kind, (_, pattern) in enumerate(words):
            for some in windows(one.text, pattern, 1, _SPAN, after=_SPAN - 2):
                near[kind, start + max(some.start, 0) : start + some.stop] = True
        start += len(part)
    scores = reason_scores(z, near, config.entropy_power)
    largest = z.max(axis=0)
    feature = int(np.argmax(np.where(largest > 0, scores, -np.inf)))
    if config.source == "sae_random":
        draw = np.random.default_rng(row_key(seed, "steering", "feature"))
        alive = np.flatnonzero(largest > 0)
        feature = int(draw.choice(alive[alive != feature]))
    vectors = np.zeros((layers, every.shape[1]), np.float32)
    vectors[layer] = largest[feature] * sae.decoder[feature]
    record = {
        "layer": layer,
        "feature": feature,
        "reason_score": float(scores[feature]),
        "largest_activation": float(largest[feature]),
        "active_features": int((largest > 0).sum()),
        "explained_variance": sae.explained,
        "tokens": len(every),
    }
    return Found(vectors, record)
