"""The text of a compiled program as computations and instructions."""

import dataclasses
import functools
import math
import re

_BITS = {"pred": 8, "token": 0, "s4": 4, "u4": 4, "bf16": 16}
_SHAPE = re.compile(r"([a-z]\w*)\[([\d,]*)\](?:\{([^}]*)\})?")
_HEAD = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{$")
_NAME = re.compile(r"  (ROOT )?%?([\w.\-]+) = ")


@dataclasses.dataclass(frozen=True)
class Shape:
    """An array of a program.

    Attributes:
        kind: Type of an element, as the compiler writes it.
        sizes: Length of each dimension.
        order: Dimensions from the innermost outwards.
        tile: Lengths that the innermost dimensions are rounded up to, the outer first.
        on_chip: It lies in a memory of the core, not in the device's memory.
    """

    kind: str
    sizes: tuple[int, ...]
    order: tuple[int, ...] = ()
    tile: tuple[int, ...] = ()
    on_chip: bool = False

    @functools.cached_property
    def bytes(self) -> int:
        """Bytes in the device's memory with the padding of tiles; 0 on the chip."""
        if self.on_chip:
            return 0
        sizes = list(self.sizes)
        for place, unit in zip(self.order, reversed(self.tile)):
            sizes[place] = -(-sizes[place] // unit) * unit
        return math.prod(sizes) * _bits(self.kind) // 8

    def __str__(self) -> str:
        return f"{self.kind}[{','.join(map(str, self.sizes))}]"


def _bits(kind: str) -> int:
    found = re.search(r"\d+", kind)
    return _BITS.get(
        kind, 8 if kind.startswith("f8") else int(found[0]) if found else 0
    )


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
        name: Its name, unique in its computation.
        shapes: The arrays that it makes; several if it makes a tuple.
        kind: Its operation.
        operands: Names of what it reads; of a parameter its number, of a constant its
            value.
        rest: All that is written after the operands.
    """

    name: str
    shapes: tuple[Shape, ...]
    kind: str
    operands: tuple[str, ...]
    rest: str

    @property
    def bytes(self) -> int:
        """Bytes of all that it makes."""
        return sum(shape.bytes for shape in self.shapes)

    def attribute(self, name: str) -> str:
        """The value of an attribute; "" if it has none.

        Args:
            name: Name of the attribute.

        Returns:
            The text after `name=`, without braces.
        """
        found = re.search(rf"\b{name}=(?:\{{([^}}]*)\}}|([^,\s]+))", self.rest)
        return (found[1] or found[2] or "") if found else ""

    def called(self, name: str) -> list[str]:
        """Computations that an attribute names.

        Args:
            name: Name of the attribute.

        Returns:
            Names of computations.
        """
        return [part.strip().lstrip("%") for part in self.attribute(name).split(",")]


@dataclasses.dataclass
class Computation:
    """A list of instructions, each after those that it reads.

    Attributes:
        instructions: Instructions by name.
        root: The one whose value is the result.
    """

    instructions: dict[str, Instruction]
    root: Instruction

    @functools.cached_property
    def parameters(self) -> dict[int, Instruction]:
        """Parameters by number."""
        found = (one for one in self.instructions.values() if one.kind == "parameter")
        return {int(one.operands[0]): one for one in found}

    @functools.cached_property
    def users(self) -> dict[str, list[tuple[Instruction, int]]]:
        """By name: the instructions that read it, and as which operand."""
        found: dict[str, list[tuple[Instruction, int]]] = {}
        for one in self.instructions.values():
            for place, name in enumerate(one.operands):
                found.setdefault(name, []).append((one, place))
        return found

    def get(self, name: str) -> Instruction | None:
        """The instruction of a name; None for a literal.

        Args:
            name: An operand.

        Returns:
            The instruction.
        """
        return self.instructions.get(name)


def parse(text: str) -> tuple[dict[str, Computation], str]:
    """Read the text of a compiled program.

    Args:
        text: As `Compiled.as_text()` gives it.

    Returns:
        Computations by name, and the name of the first one that runs.
    """
    found: dict[str, Computation] = {}
    lines: dict[str, Instruction] = {}
    entry = name = ""
    root: Instruction | None = None
    for line in text.splitlines():
        if head := _HEAD.match(line):
            name, lines, root = head[2], {}, None
            entry = name if head[1] else entry
        elif line.startswith("}") and root is not None:
            found[name] = Computation(lines, root)
        elif begun := _NAME.match(line):
            one = _instruction(begun[2], line[begun.end() :])
            lines[one.name] = one
            root = one if begun[1] or root is None else root
    return found, entry


def _instruction(name: str, text: str) -> Instruction:
    made, rest = _until_space(text)
    kind, rest = rest.split("(", 1)
    inside, rest = _until_closed(rest)
    operands = tuple(part.strip().split(" ")[-1].lstrip("%") for part in _parts(inside))
    shapes = tuple(_shape(*each) for each in _SHAPE.findall(made))
    return Instruction(name, shapes, kind.strip(), operands, rest)


def _shape(kind: str, sizes: str, layout: str) -> Shape:
    numbers = lambda text: tuple(int(n) for n in text.split(",") if n)
    order, _, rest = layout.partition(":")
    tile = re.search(r"T\(([\d,]+)\)", rest)
    order = order if re.fullmatch(r"[\d,]*", order) else ""
    return Shape(
        kind,
        numbers(sizes),
        numbers(order),
        numbers(tile[1]) if tile else (),
        bool(re.search(r"S\([1-9]", rest)),
    )


def _until_space(text: str) -> tuple[str, str]:
    """The type at the start of a text, and what follows."""
    depth = 0
    for place, mark in enumerate(text):
        depth += (mark in "({[") - (mark in ")}]")
        if mark == " " and not depth:
            return text[:place], text[place + 1 :]
    return text, "("


def _until_closed(text: str) -> tuple[str, str]:
    depth = 1
    for place, mark in enumerate(text):
        depth += (mark in "({[") - (mark in ")}]")
        if not depth:
            return text[:place], text[place + 1 :]
    return text, ""


def _parts(text: str) -> list[str]:
    """A text cut at its commas outside brackets."""
    depth, parts, begin = 0, [], 0
    for place, mark in enumerate(text):
        depth += (mark in "({[") - (mark in ")}]")
        if mark == "," and not depth:
            parts.append(text[begin:place])
            begin = place + 1
    return [part for part in (*parts, text[begin:]) if part.strip()]
