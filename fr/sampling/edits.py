"""What the work source wants of paused rows, as one edit of the batch."""

import numpy as np

from fr.sampling import batch, rows
from fr.sampling.slots import Slot
from fr.sampling.work import Resume, WorkSource


def ask(source: WorkSource, slots: list[Slot | None], paused: list[int]) -> batch.Edit:
    """Let the source speak for every paused row; the rows' slots change with their edits.

    Raises ValueError for a cut behind a row's end and for a forced queue that does not fit.
    """
    total = len(slots)
    change = batch.Edit(
        mask=np.zeros(total, bool),
        done=np.zeros(total, bool),
        last=np.zeros(total, np.int32),
        length=np.zeros(total, np.int32),
        generated=np.zeros(total, np.int32),
        fired=np.zeros(total, bool),
        hot=np.zeros(total, np.int32),
        thought=np.zeros(total, np.int32),
        key=np.zeros((total, 2), np.uint32),
        forced=np.full((total, rows.WIDTHS["forced"]), -1, np.int32),
    )
    for i in paused:
        _edit(
            change, i, slots[i], source.resume(slots[i].row, np.array(slots[i].tokens))
        )
    return change


def _edit(change: batch.Edit, i: int, slot: Slot, answer: Resume) -> None:
    row = slot.row
    if answer.cut is not None:
        if not 0 <= answer.cut <= len(slot.tokens):
            raise ValueError(
                f"row {row.id}: cannot keep {answer.cut} of {len(slot.tokens)} tokens"
            )
        slot.rewind(answer.cut)
    slot.forced = (*answer.forced, *slot.forced)
    sequence = [*row.prompt, *slot.tokens]
    slot.length = len(sequence) - 1
    change.mask[i] = True
    change.done[i] = answer.finish
    change.last[i] = sequence[-1]
    change.length[i] = slot.length
    change.generated[i] = len(slot.tokens)
    change.fired[i], change.hot[i], change.thought[i] = slot.memory()
    # After a rewind the same token indices are drawn again, and must not repeat their draws.
    change.key[i] = rows.row_key(slot.rewinds, *row.key) if slot.rewinds else row.key
    change.forced[i] = rows.padded(slot.forced, "forced", row.id)
