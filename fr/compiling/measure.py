"""Compiling programs for a slice, and what the compiler says about each."""

import dataclasses
import hashlib
import time
from collections.abc import Callable, Hashable, Iterable

import jax

from fr.compiling.abstract import Program, Stage
from fr.compiling.slices import Chip, Slice
from fr.compiling.traffic import read_work
from fr.errors import first_line


@dataclasses.dataclass(frozen=True)
class Measured:
    """One compiled program; bytes, operations and times are of one device and call.

    Attributes:
        program: What it does.
        shape: Its size in words.
        key: Hash of what was compiled, and for what.
        trace_seconds: Time to trace it.
        seconds: Time to compile it.
        argument: Bytes of its arguments.
        output: Bytes of its results that take no argument's place.
        temporary: Bytes that it needs while it runs.
        used_by: Stages that use it.
        beside: Bytes of what lies beside it in the largest of its stages.
        flops: Operations of matrix products; loops count as often as they run.
        moved: Bytes read from and written to memory, counted in the same way.
        counted: The compiler's own counts, in which a loop's body counts once.
        roofline: Seconds that operations or bytes take at least; 0: not known.
        bound: What the roofline is: compute or memory.
        open_loops: Loops whose length is data, see `traffic.Work`.
        copies: The largest copies.
        fault: Why it cannot run; "": it can.
    """

    program: str
    shape: str
    key: str
    trace_seconds: float = 0.0
    seconds: float = 0.0
    argument: int = 0
    output: int = 0
    temporary: int = 0
    used_by: tuple[str, ...] = ()
    beside: int = 0
    flops: float = 0.0
    moved: float = 0.0
    counted: dict = dataclasses.field(default_factory=dict)
    roofline: float = 0.0
    bound: str = ""
    open_loops: int = 0
    copies: tuple[dict, ...] = ()
    fault: str = ""

    @property
    def held(self) -> int:
        """Bytes a device while it runs, with what lies beside it."""
        return self.argument + self.output + self.temporary + self.beside

    def problem(self, chip: Chip) -> str:
        """The reason why a program cannot run on a chip.

        Args:
            chip: The chip.

        Returns:
            A sentence; "" if it can.
        """
        if self.fault or self.held <= chip.memory:
            return self.fault
        return (
            f"needs {self.held / 1e9:.1f} GB a device with what lies beside it, and "
            f"there are {chip.memory / 1e9:.1f}"
        )


def compile_all(
    stages: Iterable[tuple[str, Stage]],
    place: Slice,
    effort: float,
    known: Callable[[str], dict | None],
    keep: Callable[[Measured], None],
) -> list[Measured]:
    """Compile every different program of some stages once.

    Args:
        stages: Whose each is, and the stage.
        place: The slice.
        effort: Effort of the compiler, from -1 to 1; 0 is what a run takes.
        known: Gives the record of a program that was compiled before, by its key.
        keep: Receives each one that is new, at once.

    Returns:
        What was measured, with the stages that use it, in their order.
    """
    found: dict[str, Measured] = {}
    keys: dict[Hashable, str] = {}
    for owner, stage in stages:
        for program in stage.programs:
            key = keys.get(program.made_of, "")
            if not key:
                begun = time.perf_counter()
                lowered = program.lower()
                traced = time.perf_counter() - begun
                key = _key(lowered, place, effort)
                if program.made_of is not None:
                    keys[program.made_of] = key
            if key not in found:
                if record := known(key):
                    one = Measured(**record)
                else:
                    one = Measured(program.name, program.shape, key, traced)
                    one = _compiled(one, program, lowered, place.chip, effort)
                    keep(one)
                found[key] = one
            one, user = found[key], f"{owner}: {stage.name}"
            users = (*one.used_by, *[user] * (user not in one.used_by))
            beside = max(stage.beside(program), one.beside)
            found[key] = dataclasses.replace(one, used_by=users, beside=beside)
    return list(found.values())


def _key(lowered, place: Slice, effort: float) -> str:
    what = f"{jax.__version__} {place.name} {effort}\n{lowered.as_text()}"
    return hashlib.sha256(what.encode()).hexdigest()[:16]


def _compiled(
    one: Measured, program: Program, lowered, chip: Chip, effort: float
) -> Measured:
    begun = time.perf_counter()
    options = {"exec_time_optimization_effort": effort} if effort else None
    try:
        compiled = lowered.compile(options)
    except jax.errors.JaxRuntimeError as error:
        seconds = time.perf_counter() - begun
        return dataclasses.replace(one, seconds=seconds, fault=first_line(error))
    seconds, text = time.perf_counter() - begun, compiled.as_text()
    memory, work = compiled.memory_analysis(), read_work(text)
    counted = compiled.cost_analysis() or {}
    times = {
        "compute": work.flops / chip.peak[program.dtype],
        "memory": work.bytes / chip.bandwidth,
    }
    bound = max(times, key=lambda name: times[name])
    return dataclasses.replace(
        one,
        seconds=seconds,
        argument=memory.argument_size_in_bytes,
        output=memory.output_size_in_bytes - memory.alias_size_in_bytes,
        temporary=memory.temp_size_in_bytes,
        flops=work.flops,
        moved=work.bytes,
        counted={
            "flops": counted.get("flops", 0.0),
            "bytes": counted.get("bytes accessed", 0.0),
        },
        roofline=times[bound],
        bound=bound if times[bound] else "",
        open_loops=work.open_loops,
        copies=tuple(work.largest_copies()),
    )
