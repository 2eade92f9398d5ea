"""The work of a compiled program in one call: operations, bytes moved, copies.

The compiler's own count takes a loop's body once and an update in place for a whole
buffer. Here a loop counts as often as it runs, and an update counts what it writes. A
kernel counts what it says of itself, if it does: it may read a part of an operand.
"""

import collections
import dataclasses
import functools
import math
import re

from fr.compiling.hlo import Computation, Instruction, parse

_FREE = {
    *("parameter", "tuple", "get-tuple-element", "bitcast", "constant", "after-all"),
    *("partition-id", "replica-id", "opt-barrier", "domain"),
}
_PARTS = {"dynamic-slice", "slice", "gather"}  # they read what they give
_WRITES = {"dynamic-update-slice": 1, "scatter": 2}  # operand that is written
_SAME = {"bitcast", "convert", "copy", "reshape"}


@dataclasses.dataclass
class Work:
    """Work of one call on one device.

    Attributes:
        flops: Operations of matrix products, a multiplication and an addition each.
        bytes: Bytes read from and written to the device's memory.
        copies: Calls and bytes of each kind of copy, by shape and name in the source.
        open_loops: Loops whose length is data. One whose start is data counts from 0,
            one whose end is data is left out: of loops over widths of rows the widest
            runs for all rows.
    """

    flops: float = 0.0
    bytes: float = 0.0
    copies: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    open_loops: int = 0

    def add(self, other: "Work", times: int = 1) -> None:
        """Add the work of something that runs a number of times.

        Args:
            other: Its work.
            times: How often it runs.
        """
        self.flops += times * other.flops
        self.bytes += times * other.bytes
        self.open_loops += other.open_loops
        for key, count in other.copies.items():
            self.copies[key] += times * count

    def largest_copies(self, count: int = 3) -> list[dict]:
        """The copies that move most bytes.

        Args:
            count: How many.

        Returns:
            By shape: one of the sources, calls and bytes written, the largest first.
        """
        rows: dict[str, dict] = {}
        for (shape, source, size), calls in self.copies.items():
            row = rows.setdefault(
                shape, {"shape": shape, "source": source, "calls": 0, "bytes": 0}
            )
            row["calls"] += calls
            row["bytes"] += calls * size
        return sorted(rows.values(), key=lambda row: -row["bytes"])[:count]


def read_work(text: str) -> Work:
    """Work of a compiled program; of branches the cheapest counts.

    Args:
        text: As `Compiled.as_text()` gives it.

    Returns:
        Its work.
    """
    computations, entry = parse(text)
    return _Reader(computations).work(entry, ())


class _Reader:
    def __init__(self, computations: dict[str, Computation]):
        self._all = computations

    def work(self, name: str, callers: tuple) -> Work:
        """Work of a computation; `callers` are loops around it, the nearest last."""
        total, here = Work(), self._all[name]
        for one in here.instructions.values():
            if one.kind == "while":
                times, is_open = self._passes(one, here, callers)
                body = self.work(one.called("body")[0], (*callers, (here, one)))
                total.add(body, times)
                total.open_loops += is_open
            elif one.kind == "conditional":
                names = one.called("branch_computations")
                if names == [""]:
                    names = [
                        one.called(f"{side}_computation")[0]
                        for side in ("true", "false")
                    ]
                least = min((self.work(each, ()) for each in names), key=_size)
                total.add(least)
            elif one.kind in ("call", "async-start"):
                key = "to_apply" if one.kind == "call" else "calls"
                total.add(self.work(one.called(key)[0], ()))
            elif one.kind not in _FREE and not one.kind.endswith("-done"):
                self._count(one, here, total)
        return total

    def _count(self, one: Instruction, here: Computation, total: Work) -> None:
        total.flops += self._flops(one, here)
        total.bytes += self._bytes(one, here)
        if self._is_copy(one, here):
            shape = one.shapes[0]
            source = re.search(r'op_name="([^"]*)"', one.rest)
            name = source[1].split("/", 1)[-1] if source else one.kind
            total.copies[str(shape), name, shape.bytes] += 1

    def _is_copy(self, one: Instruction, here: Computation) -> bool:
        if one.kind == "fusion":
            inner = self._all[one.called("calls")[0]]
            kinds = {each.kind for each in inner.instructions.values()}
            return bool(kinds & {"copy", "transpose"}) and kinds <= {
                *("parameter", "copy", "transpose", "bitcast", "reshape", "convert")
            }
        if one.kind == "copy-start":  # a fetch into the core does not count
            source = here.get(one.operands[0])
            return bool(source and source.bytes and one.shapes[0].bytes)
        return one.kind in ("copy", "transpose") and one.bytes > 0

    def _flops(self, one: Instruction, here: Computation) -> float:
        if one.kind == "fusion":
            inner = self._all[one.called("calls")[0]]
            return sum(self._flops(each, inner) for each in inner.instructions.values())
        if one.kind not in ("dot", "convolution", "custom-call"):
            return 0.0
        if said := _estimate(one, "flops"):
            return said
        given = [found for name in one.operands if (found := here.get(name))]
        if len(given) < 2:
            return 0.0
        left, right = (each.shapes[0].sizes for each in given[:2])
        made = one.shapes[0].sizes
        if one.kind == "convolution":
            return _convolution(one, left, right, made)
        sums = re.search(
            r'lhs_contracting_dim(?:ension)?s"?[=:]\s*[\[{]([^\]}]*)', one.rest
        )
        if not sums:
            return 0.0
        places = (int(n) for n in re.findall(r"\d+", sums[1]))
        return 2.0 * math.prod(made) * math.prod(left[place] for place in places)

    def _bytes(self, one: Instruction, here: Computation) -> int:
        if said := _estimate(one, "bytes_accessed"):
            return said
        given = [here.get(name) for name in one.operands]
        reads = lambda place: (each := given[place]) and each.bytes or 0
        if one.kind in _PARTS:
            return 2 * one.bytes if reads(0) else one.bytes
        if one.kind in _WRITES:
            return 2 * reads(_WRITES[one.kind])
        if one.kind == "fusion":
            name = one.called("calls")[0]
            inputs = sum(min(reads(i), self._read(name, i)) for i in range(len(given)))
            return inputs + min(one.bytes, self._written(name))
        inputs = sum(reads(place) for place in range(len(given)))
        if one.kind.endswith("-start"):  # it gives its operand back, too
            return inputs + max(0, one.bytes - inputs)
        return inputs + one.bytes

    @functools.cache
    def _read(self, name: str, number: int) -> int:
        """Bytes that a fused computation reads of a parameter."""
        here = self._all[name]
        given = here.parameters.get(number)
        return self._read_of(here, given) if given else 0

    def _read_of(self, here: Computation, given: Instruction) -> int:
        if given.name == here.root.name:  # handed on: who reads it is not followed
            return _dense(given)
        total = 0
        for one, place in here.users.get(given.name, []):
            if one.kind in _PARTS and place == 0:
                total += _dense(one)
            elif one.kind in _WRITES and place == 0:
                continue
            elif one.kind in ("bitcast", "reshape", "get-tuple-element"):
                total += self._read_of(here, one)
            elif one.kind == "fusion":
                total += self._read(one.called("calls")[0], place)
            else:
                return _dense(given)
        return min(total, _dense(given))

    @functools.cache
    def _written(self, name: str) -> int:
        """Bytes that a fused computation writes."""
        here = self._all[name]
        root = here.root
        made = [root]
        if root.kind == "tuple":
            made = [each for each in map(here.get, root.operands) if each]
        return sum(self._written_by(here, each) for each in made)

    def _written_by(self, here: Computation, one: Instruction) -> int:
        whole = _dense(one)
        while one.kind in _SAME and (before := here.get(one.operands[0])):
            one = before
        if one.kind in _WRITES:
            update = here.get(one.operands[_WRITES[one.kind]])
            return min(whole, _dense(update)) if update else whole
        if one.kind == "fusion":
            return min(whole, self._written(one.called("calls")[0]))
        return whole

    def _passes(
        self, loop: Instruction, here: Computation, callers: tuple
    ) -> tuple[int, bool]:
        """Passes of a loop, and whether data decide."""
        if known := re.search(r'known_trip_count":\{"n":"(\d+)"', loop.rest):
            return int(known[1]), False
        condition = self._all[loop.called("condition")[0]]
        test, around = condition.root, (*callers, (here, loop))
        if test.kind != "compare" or test.attribute("direction") != "LT":
            return 0, True
        first, last = (self._value(condition, name, around) for name in test.operands)
        return max(0, (last or 0) - (first or 0)), first is None or last is None

    def _value(self, where: Computation, name: str, callers: tuple) -> int | None:
        """A whole number that is known before the program runs."""
        one = where.get(name)
        if one is None:
            return None
        if one.kind == "constant":
            return int(one.operands[0]) if one.operands[0].isdigit() else None
        if one.kind in ("copy", "bitcast", "convert"):
            return self._value(where, one.operands[0], callers)
        if one.kind == "get-tuple-element" and callers:
            outer, loop = callers[-1]
            given = outer.get(loop.operands[0])
            if given is not None and given.kind == "tuple":
                inner = given.operands[int(one.attribute("index"))]
                return self._value(outer, inner, callers[:-1])
        return None


def _estimate(one: Instruction, name: str) -> int:
    """Work that a kernel says it does; 0 if it says nothing."""
    said = one.kind == "custom-call" and re.search(rf'"{name}":"(\d+)"', one.rest)
    return int(said[1]) if said else 0


def _dense(one: Instruction) -> int:
    """Bytes of what an instruction makes; inside a fusion nothing lies on the chip."""
    return sum(dataclasses.replace(s, on_chip=False).bytes for s in one.shapes)


def _size(work: Work) -> tuple[float, float]:
    return work.bytes, work.flops


def _convolution(one: Instruction, left, right, made) -> float:
    """Operations of a convolution, which also stands for products with batch axes."""
    labels = one.attribute("dim_labels")
    inputs, kernel, output = re.split(r"_|->", labels)
    window = one.attribute("window")
    fields = dict(part.split("=") for part in window.split() if "=" in part)
    spatial = [mark for mark in output if mark.isdigit()]
    pairs = 1
    for place, mark in enumerate(sorted(spatial)):
        part = lambda name, default: (
            fields[name].split("x")[place] if name in fields else default
        )
        low = int(str(part("pad", "0_0")).split("_")[0])
        stride, spread = int(part("stride", 1)), int(part("lhs_dilate", 1))
        apart = int(part("rhs_dilate", 1))
        length = left[inputs.index(mark)]
        taps, steps = right[kernel.index(mark)], made[output.index(mark)]
        pairs *= _taps(steps, taps, stride, apart, low, spread, length)
    batch, features = made[output.index("b")], made[output.index("f")]
    return 2.0 * batch * features * right[kernel.index("i")] * pairs


@functools.cache
def _taps(steps, taps, stride, apart, low, spread, length) -> int:
    """Pairs (output, tap) that meet an element of the input."""
    count = 0
    for tap in range(taps):
        for step in range(steps):
            at = step * stride + tap * apart - low
            count += at % spread == 0 and 0 <= at // spread < length
    return count
