"""Arrays that the compiled programs of sampling take and return.

Axis letters: B rows, T tokens. Lists of a row: W switch or penalised tokens, A avoided,
Q forced, P pause, E stop tokens.
"""

from flax import struct
from jaxtyping import Array, Bool, Float, Int


@struct.dataclass
class SamplingParams:
    """Sampling parameters of each row, traced, so that no value compiles a program.

    `operator`, `geodesic` and `detector` hold the codes of `fr.sampling.steering`. -1
    pads lists of tokens.

    Attributes:
        temperature: Temperature; 0: greedy.
        top_p: Probability mass to keep.
        top_k: Number of tokens to keep; 0: all.
        min_p: Smallest share of the largest probability; 0: off.
        operator: Code of the steering operator.
        alpha: Weight of the specialist in the mixture; above 1: contrast.
        plausible: Smallest share of the specialist's largest probability for tokens of
            the second draw; 0: off.
        geodesic: Code of the mixture.
        detector: Code of the score.
        detector_width: Number of tokens whose scores are summed.
        drift: 0 or more: Page-Hinkley with this allowance per token; below 0: the sum.
        threshold: Score above which the detector fires.
        warmup: Number of first tokens in which it cannot fire.
        fire_position: Index of the token at which it fires regardless of the score;
            below 0: off.
        cov_mean: Background mean of g_cov, for Z_cov.
        cov_sd: Background standard deviation of g_cov.
        local_temperature: Temperature after the detector fires.
        local_span: Number of tokens with that temperature.
        switch_penalty: Subtracted from logits of a young thought (arXiv 2501.18585).
        switch_window: Number of first tokens of a thought with that penalty.
        switch_tokens: Ids of the switch words, which begin a thought.
        penalised: Ids whose logits have the penalty; of TIP, the switch tokens.
        floor: Running confidence below which the row ends; -inf: off.
        floor_window: Time constant of that mean in tokens, and the first token that can
            end the row.
        avoid: Ids that the row may not draw first.
        forced: Ids that are emitted in order instead of drawn ones.
        pause: Ids that suspend the row until the work source answers.
        stop: Ids that end the row; one that is in `pause`, too, suspends it first.
        budget: Largest number of tokens that the row may emit.
        vector: Index of the vectors that are added to the row's residual stream in the
            engine's table; 0: none. None in an engine without a table.
        vector_strength: Factor on these vectors.
    """

    temperature: Float[Array, "B"]
    top_p: Float[Array, "B"]
    top_k: Int[Array, "B"]
    min_p: Float[Array, "B"]
    operator: Int[Array, "B"]
    alpha: Float[Array, "B"]
    plausible: Float[Array, "B"]
    geodesic: Int[Array, "B"]
    detector: Int[Array, "B"]
    detector_width: Int[Array, "B"]
    drift: Float[Array, "B"]
    threshold: Float[Array, "B"]
    warmup: Int[Array, "B"]
    fire_position: Int[Array, "B"]
    cov_mean: Float[Array, "B"]
    cov_sd: Float[Array, "B"]
    local_temperature: Float[Array, "B"]
    local_span: Int[Array, "B"]
    switch_penalty: Float[Array, "B"]
    switch_window: Int[Array, "B"]
    switch_tokens: Int[Array, "B W"]
    penalised: Int[Array, "B W"]
    floor: Float[Array, "B"]
    floor_window: Int[Array, "B"]
    avoid: Int[Array, "B A"]
    forced: Int[Array, "B Q"]
    pause: Int[Array, "B P"]
    stop: Int[Array, "B E"]
    budget: Int[Array, "B"]
    vector: Int[Array, "B"] | None = None
    vector_strength: Float[Array, "B"] | None = None


@struct.dataclass
class TokenStats:
    """Statistics of emitted tokens, float32, at temperature 1 unless noted.

    Attributes:
        logp: Log-prob of the token over the full vocabulary, nats.
        entropy: -sum p log p, nats.
        varentropy: Variance of -log p under p, nats squared.
        margin: The largest probability minus the second.
        top20_confidence: Minus the mean of the 20 largest log-probs (arXiv 2508.15260).
        self_certainty: KL(uniform || p) + log V, nats (arXiv 2505.19590).
        logit_var: V_t at the diagnosis temperature, top 100 logits (arXiv 2606.05145).
        entropy_tau: Entropy at the diagnosis temperature, nats.
    """

    logp: Float[Array, "..."]
    entropy: Float[Array, "..."]
    varentropy: Float[Array, "..."]
    margin: Float[Array, "..."]
    top20_confidence: Float[Array, "..."]
    self_certainty: Float[Array, "..."]
    logit_var: Float[Array, "..."]
    entropy_tau: Float[Array, "..."]


@struct.dataclass
class LineageStats:
    """Specialist S against ancestor A on each token (arXiv 2606.05145), float32.

    All are at the diagnosis temperature.

    Attributes:
        delta_path: log p_S(x) - log p_A(x), nats.
        g_cov: Log of ancestor mass over specialist mass on the ancestor's 20 most
            probable tokens.
        demotion: J = max(0, delta_path) + max(0, g_cov).
        kl: KL(p_S || p_A) on the specialist's 100 most probable tokens, nats.
        z_path: max(0, (delta_path - path_mean) / (path_sd + 1e-6)).
        path_mean: Mean of the log-ratio under p_S, on the same 100 tokens.
        path_sd: Its standard deviation.
    """

    delta_path: Float[Array, "..."]
    g_cov: Float[Array, "..."]
    demotion: Float[Array, "..."]
    kl: Float[Array, "..."]
    z_path: Float[Array, "..."]
    path_mean: Float[Array, "..."]
    path_sd: Float[Array, "..."]


@struct.dataclass
class StepOutput:
    """The output of one decode step for each row; stacked to [steps, B] over a chunk.

    Attributes:
        token: The emitted id.
        valid: The row was live; other values of a dead row are meaningless.
        forced: The token came from the forced queue.
        fired: The detector fired on this token.
        sample_logp: Log-prob under the distribution that was drawn from, nats.
        stats: Statistics of the token; None if the engine keeps none.
        lineage: Statistics against the ancestor; None without one.
        top_tokens: The K most probable ids, K arrays; empty if the engine keeps none.
        top_logp: Their log-probs at temperature 1, nats.
    """

    token: Int[Array, "..."]
    valid: Bool[Array, "..."]
    forced: Bool[Array, "..."]
    fired: Bool[Array, "..."]
    sample_logp: Float[Array, "..."]
    stats: TokenStats | None
    lineage: LineageStats | None
    top_tokens: tuple[Int[Array, "..."], ...] = ()
    top_logp: tuple[Float[Array, "..."], ...] = ()


@struct.dataclass
class TokenScores:
    """Scores of given tokens, from each row's first scored token on.

    Attributes:
        mask: False at pads, where all values are 0.
        stats: Statistics of each token, [B, T].
        lineage: Statistics against the ancestor, [B, T]; None without one.
    """

    mask: Bool[Array, "B T"]
    stats: TokenStats
    lineage: LineageStats | None
