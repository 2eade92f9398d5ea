"""Batches of packed traces: a pure function of (seed, step), so that a resumed run reads the same."""

import random
from collections.abc import Callable, Sequence

import numpy as np
from flax import struct
from jaxtyping import Float, Int

from fr.config import TrainingConfig
from fr.errors import UserError
from fr.tasks.base import Task
from fr.tasks.countdown_traces import TRACES

IGNORED = -1  # position of a pad: neither seen nor scored
FILL = 0.97  # share of a batch's places that examples are drawn for; packing them tighter leaves some out


@struct.dataclass
class Batch:
    """Packed rows. Two segments of three and two tokens in a row of seven, prompts of one token:

    positions  0 1 2 0 1 -1 -1
    segments   1 1 1 2 2  0  0
    weights    0 1 1 0 1  0  0
    """

    tokens: Int[np.ndarray, "B T"]
    positions: Int[np.ndarray, "B T"]
    segments: Int[np.ndarray, "B T"]
    weights: Float[np.ndarray, "B T"]  # 1: the token is learnt (completion and stop token)


Example = tuple[list[int], int]  # token ids, and how many of them are the prompt


def pack(examples: list[Example], rows: int, width: int, pad: int) -> Batch:
    """Put each example, longest first, into the first row with room for it; what finds no room is left out.

    Raises UserError for an example longer than a row.
    """
    tokens = np.full((rows, width), pad, np.int32)
    positions = np.full((rows, width), IGNORED, np.int32)
    segments = np.zeros((rows, width), np.int32)
    weights = np.zeros((rows, width), np.float32)
    used, count = [0] * rows, [0] * rows
    for ids, prompt in sorted(examples, key=lambda example: -len(example[0])):
        if len(ids) > width:
            raise UserError(
                f"a trace of {len(ids)} tokens does not fit config.training.sequence = {width}; raise it"
            )
        row = next((row for row in range(rows) if used[row] + len(ids) <= width), None)
        if row is None:
            continue
        here = slice(used[row], used[row] + len(ids))
        count[row] += 1
        tokens[row, here], positions[row, here], segments[row, here] = ids, np.arange(len(ids)), count[row]
        weights[row, here.start + prompt : here.stop] = 1.0
        used[row] = here.stop
    return Batch(tokens=tokens, positions=positions, segments=segments, weights=weights)


class TraceData:
    """The training split of a task as batches; `batch(step)` depends on the seed and the step alone.

    `encode` maps texts to token ids, `stop` is the id that ends a completion.
    """

    def __init__(
        self,
        task: Task,
        encode: Callable[[Sequence[str]], list[list[int]]],
        stop: int,
        pad: int,
        config: TrainingConfig,
        seed: str,
    ):
        self.problems = task.problems("train")
        self.prompts = encode([task.prompt(problem) for problem in self.problems])
        self.encode, self.stop, self.pad, self.config, self.seed = encode, stop, pad, config, seed
        self.kinds = [TRACES[kind] for kind, _ in config.traces]
        self.shares = [share for _, share in config.traces]

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        # A string seeds Python's generator through SHA-512: no two (seed, step) share a stream.
        rng = random.Random(f"{self.seed}/{step}")
        room = int(FILL * self.config.batch * self.config.sequence)
        examples = []
        while room > 0:
            examples.append(self._example(rng))
            room -= len(examples[-1][0])
        return pack(examples, self.config.batch, self.config.sequence, self.pad)

    def _example(self, rng: random.Random) -> Example:
        which = rng.randrange(len(self.problems))
        kind = rng.choices(self.kinds, self.shares)[0]
        trace = self.encode([kind(rng, self.problems[which])])[0]
        prompt = self.prompts[which]
        return [*prompt, *trace, self.stop], len(prompt)
