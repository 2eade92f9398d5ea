"""A whole benchmark: systems first, then parts at the best number of rows."""

import dataclasses
import sys
import tempfile
from collections.abc import Callable

from benchmarks import (
    fork,  # noqa: F401 (they register their parts)
    occupancy,  # noqa: F401 (they register their parts)
    probes,  # noqa: F401 (they register their parts)
    scoring,  # noqa: F401 (they register their parts)
    update,  # noqa: F401 (they register their parts)
)
from benchmarks.machine import cores, machine
from benchmarks.parts import PARTS, Bench, Part
from benchmarks.report import OURS, rows_of_verdict, verdict
from benchmarks.side_by_side import Field, Result
from benchmarks.sizes import SHORT as SHORT_SIZES
from benchmarks.sizes import STATED
from benchmarks.systems import DRIVERS, LEARNERS, Command, peer_command
from benchmarks.workload import DEFAULT, FULL, SEEK, SHORT, Workload
from fr.config import PolicyConfig
from fr.errors import UserError, first_line
from fr.models import Model, load, save
from fr.models.smollm2 import smollm2
from fr.registry import suggest

PEERS_PART = "peers"
ROWS = (1, 8, 32, 64, 128)
WORKLOADS = {"default": DEFAULT, "full": FULL, "short": SHORT}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of the command line; empty `parts` and `rows` select all."""

    model: str  # name or folder
    form: str  # default, full or short
    peers: tuple[str, ...] = ()  # name:/path/to/python
    parts: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()
    repeats: int = 3  # timed runs of each job
    # chunk, prefill and tau of our engines
    engine: dict = dataclasses.field(default_factory=dict)
    policy: PolicyConfig | None = None  # of the update; None: as large as the form says


@dataclasses.dataclass
class Found:
    """Results of a benchmark."""

    settings: Settings  # of the command line
    workload: dict  # as `Workload.record` describes it
    systems: dict[str, Result]  # by name
    parts: dict[str, Part]  # by name
    failed: dict[str, str]  # reasons, by name of the part that was not measured
    verdict: dict  # as `report.verdict` returns it

    def record(self) -> dict:
        """Content of benchmark.json."""
        parts = {name: part.record for name, part in self.parts.items()}
        return {
            "machine": machine(),
            "settings": dataclasses.asdict(self.settings),
            "workload": self.workload,
            "systems": {name: result.record() for name, result in self.systems.items()},
            "roofline": parts.pop("roofline", {}),
            "parts": parts,
            "failed": self.failed,
            "verdict": self.verdict,
        }


def benchmark(settings: Settings, say: Callable[[str], object]) -> Found:
    """Measure systems and parts.

    A peer or part that fails is recorded, and the rest continues.

    Args:
        settings: of the command line.
        say: function that gets one line of progress at a time.

    Returns:
        The results.

    Raises:
        UserError: for an unknown part or peer.
    """
    known = (PEERS_PART, *PARTS)
    wanted = settings.parts or known
    for name in wanted:
        if name not in known:
            raise UserError(f"--parts: {name!r} is not known{suggest(name, known)}")
    peers = [peer_command(flag) for flag in settings.peers]
    workload, sizes = (
        WORKLOADS[settings.form],
        SHORT_SIZES if settings.form == "short" else STATED,
    )
    rows = settings.rows or ((8,) if settings.form == "short" else ROWS)
    model = load(settings.model)
    prompts = workload.prompts(model)
    samplers = [peer for peer in peers if peer.name not in LEARNERS]
    systems = (
        _systems(settings, model, workload, rows, samplers, say)
        if PEERS_PART in wanted
        else {}
    )
    pythons = {peer.name: peer.python for peer in peers}
    bench = Bench(
        model=model,
        prompts=prompts,
        rows=rows_of_verdict(systems, max(rows)),
        repeats=settings.repeats,
        sizes=sizes,
        torch=pythons.get("transformers"),
        options=settings.engine,
        policy=settings.policy or sizes.update,
        trl=pythons.get("trl"),
    )
    parts, failed = {}, {}
    for name in PARTS:
        if name in wanted:
            say(f"{name} ...")
            try:
                parts[name] = PARTS[name](bench)
            # Any error: the hours that the other parts took must not be lost.
            except Exception as error:
                failed[name] = f"{type(error).__name__}: {first_line(error)}"
                say(f"{name} failed: {failed[name]}")
    record = workload.record(prompts)
    return Found(settings, record, systems, parts, failed, verdict(systems, parts))


def _systems(
    settings: Settings,
    model: Model,
    workload: Workload,
    rows: tuple[int, ...],
    peers: list[Command],
    say,
) -> dict[str, Result]:
    """`fr` and the peers, each in its own process, on the same weights."""
    commands = [Command(OURS, sys.executable, DRIVERS / "fr_peer.py"), *peers]
    sizes = {command.name: rows for command in commands}
    with tempfile.TemporaryDirectory() as folder:
        save(folder, model.config, model.params, model.tokenizer, model.stop_tokens)
        gguf = str(smollm2()) if settings.model == "smollm2" else settings.model
        given = {
            "folder": folder,
            "gguf": gguf,
            "threads": cores(),
            "engine": settings.engine,
        }
        with Field(commands, given, say) as field:
            if len(rows) > 1:
                sizes = field.seek(SEEK, SEEK.prompts(model), sizes)
            field.measure(workload, workload.prompts(model), sizes, settings.repeats)
            return field.results
