"""Decodings: how an evaluation makes its attempts (`evaluation.decoding`)."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from fr.errors import UserError
from fr.interventions.traces import cut_and_push, unanswered_length
from fr.registry import Registry
from fr.runs.planned import Planned
from fr.runs.run import Run
from fr.sampling.cot_decoding import branch_params
from fr.sampling.sources import PauseAction
from fr.stats.bootstrap import Interval
from fr.tasks.formats import Codec, CompletionText, Format, encode_text, format_of

# (run, sampled attempts as planned) -> the attempts that are made in their place
Decoding = Callable[[Run, Sequence[Planned]], list[Planned]]
DECODINGS = Registry("decoding")
_FAILS = (
    "inference loop: with {times} forced continuations accuracy falls and the entropy "
    "of answers rises; remedy: a vote of parallel attempts (measure `votes`)"
)


@DECODINGS.register("sampled")
def sampled(run: Run, plan: Sequence[Planned]) -> list[Planned]:
    """Independent attempts, drawn at the evaluation's temperature."""
    return list(plan)


@DECODINGS.register("branches")
def branches(run: Run, plan: Sequence[Planned]) -> list[Planned]:
    """CoT-decoding (arXiv 2402.10200): a branch for each of the likeliest first tokens.

    Attempt i begins with the token of rank i and is greedy from there, so attempt 0 is
    greedy decoding. `evaluation.samples` is the number of branches. Pushed tokens of an
    operator follow the first one.
    """
    count, vocab = 1 + max(p.attempt for p in plan), run.specialist.config.vocab
    if count > vocab:
        raise UserError(
            f"config.evaluation.samples = {count} with decoding = 'branches': the "
            f"model has {vocab} tokens to begin with; lower it"
        )
    prompts = list(dict.fromkeys(p.row.prompt for p in plan))
    own = dict(zip(prompts, branch_params(run.specialist, prompts, count)))
    found = []
    for p in plan:
        params = own[p.row.prompt][p.attempt]
        forced = (*params["forced"], *p.row.params.get("forced", ()))
        found.append(_with_params(p, **params | {"forced": forced}))
    return found


@DECODINGS.register("continued")
def continued(run: Run, plan: Sequence[Planned]) -> list[Planned]:
    """Budget forcing (arXiv 2501.19393): the answer is cut off and reasoning goes on.

    `evaluation.continuations` times, an attempt that comes to its end loses its answer
    (and the claim before it), the format's `again` is pushed in its place, and decoding
    goes on. Until its first end an attempt is the sampled one, token for token.
    `sampling.max_new_tokens` bounds the tokens that stay; the cost counts those that
    were cut off, too.
    """
    times, codec, found = run.config.evaluation.continuations, run.specialist, []
    for p in plan:
        form = format_of(p.problem.task)
        if p.on_pause is not None:
            raise UserError(
                f"operator {p.operator!r} pauses rows itself, and so does "
                "config.evaluation.decoding = 'continued'; use one of them"
            )
        if encode_text(codec, form.again) is None:
            raise UserError(
                "config.evaluation.decoding = 'continued': the tokenizer of "
                f"{codec.name} cannot write {form.again.strip()!r}"
            )
        paused = _with_params(p, pause=codec.stop_tokens) if times else p
        action = Continuation(form, codec, times)
        found.append(dataclasses.replace(paused, on_pause=action) if times else paused)
    return found


@dataclasses.dataclass
class Continuation:
    """The action on one row that came to its end: go on, a number of times.

    Attributes:
        form: The task's format.
        codec: The tokenizer.
        left: Times that the row is still made to go on.
    """

    form: Format
    codec: Codec
    left: int

    def __call__(self, tokens: np.ndarray) -> PauseAction:
        """Cut the answer off and push `again`; at last let the row end.

        Args:
            tokens: Token ids of the row so far, [T].

        Returns:
            The action.
        """
        if not self.left:
            return PauseAction()
        self.left -= 1
        written = CompletionText(self.form, tokens, self.codec)
        length = unanswered_length(written)
        cut = cut_and_push(written, self.codec, length, self.form.again)
        # `again` alone can be written: checked before anything is sampled.
        assert cut is not None
        return PauseAction(forced=cut[1], cut=cut[0])


def loop_alarm(accuracy: Interval, entropy: Interval, times: int) -> str:
    """Warning that forced continuations explore without gain.

    Args:
        accuracy: Change of accuracy from fewer continuations to these.
        entropy: Change of the entropy of answers.
        times: Continuations.

    Returns:
        A line that names the loop and the remedy; "" unless accuracy falls and entropy
        rises, each beyond its interval.
    """
    falls = accuracy.high is not None and accuracy.high < 0
    rises = entropy.low is not None and entropy.low > 0
    return _FAILS.format(times=times) if falls and rises else ""


def _with_params(planned: Planned, **params) -> Planned:
    row = planned.row
    row = dataclasses.replace(row, params={**row.params, **params})
    return dataclasses.replace(planned, row=row)
