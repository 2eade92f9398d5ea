"""Read completions of another engine into `rollouts/`, as scripts/sample.py would.

Files are read twice, as a stream. The first pass checks every record and fixes the
plan, so that bad input leaves no file; the second grades and writes shard by shard, and
a killed import goes on where it was.
"""

import hashlib
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import pyarrow as pa
from etils import epath

from fr import distributed, store
from fr.config import as_dict
from fr.errors import UserError, printable
from fr.exchange.accepting import Asked, Pass, Placed
from fr.exchange.record_files import MAX_FILE
from fr.exchange.token_ids import Reader
from fr.files import open_regular
from fr.interrupts import check
from fr.models.model import check_context
from fr.progress import Bar
from fr.runs.attempts import graded
from fr.runs.imported import FILES, IMPORTED, RAW, imported
from fr.runs.planned import Planned, plan_attempt
from fr.runs.plans import PlannedRow, extend_plan
from fr.runs.run import Run, claim_run
from fr.runs.stages import begin, read_stages, remade
from fr.runs.stages import check as check_folder
from fr.types import ROLLOUT, Rollout
from fr.workdir import to_json, write_json

_FOLDER = "rollouts"
_GROWS = "changed while it was read; import it when it is whole"


def import_rollouts(
    run: Run, asked: Asked, redo: Collection[str] = ()
) -> dict[str, Any]:
    """Read files of an engine into `rollouts/` of a run, and claim its folder.

    Process 0 does the work; the others wait.

    Args:
        run: The run, whose task has the problems and whose specialist was sampled;
            its folder is claimed here, once the files are read.
        asked: What is imported; more files may be added later.
        redo: Stages that are made again, with all stages that follow them.

    Returns:
        What was read, as written to `import.json`; {} in other processes.

    Raises:
        UserError: A file or a record cannot be read, nothing fits the run, or
            `rollouts/` was made otherwise. Nothing is written or removed then.
    """
    read = _read(run, asked, redo) if distributed.is_first() else None
    claim_run(run, redo)
    if read:
        _take(run, asked, read)
    distributed.wait("imported")
    return read.summary if read else {}


class _Found(NamedTuple):
    """Findings of the first pass over the files."""

    hashes: dict[str, dict[str, Any]]
    rows: list[PlannedRow]
    summary: dict[str, Any]


def _read(run: Run, asked: Asked, redo: Collection[str]) -> _Found:
    hashes = _hashes(asked.files)
    check_folder(run.workdir, as_dict(run.config), run.inputs, redo)
    if _FOLDER not in remade(redo):
        _check_stage(run.workdir, hashes, asked)
    first, rows, longest, tokens = Pass(run, asked), [], 0, 0
    with Bar(desc=distributed.label("read"), unit="row") as bar:
        for placed in first:
            check()
            row = _planned(run, placed).row
            rows.append(PlannedRow(row.id, np.array(placed.prompt, np.int32), row.key))
            read = first.read(placed)
            longest = max(longest, len(placed.prompt) + len(read.tokens))
            tokens += len(read.tokens)
            bar.update()
    _check_pass(run, first, asked, len(rows))
    models = [run.specialist, *([run.ancestor] if run.ancestor else [])]
    check_context(models, longest, "the longest rollout", "its new tokens")
    if _hashes(asked.files) != hashes:
        raise UserError(f"{', '.join(asked.files)}: {_GROWS}")
    summary = _summary(first, asked, len(rows), tokens)
    to_json(summary).encode()
    return _Found(hashes, rows, summary)


def _take(run: Run, asked: Asked, read: _Found) -> None:
    more = {
        IMPORTED: {"format": asked.format, "logprobs": asked.logprobs},
        FILES: read.hashes,
    }
    begin(run.workdir, _FOLDER, as_dict(run.config), run.inputs, **more)
    folder, size = run.workdir / _FOLDER, run.config.sampling.shard_rows
    _write(run, asked, extend_plan(folder, read.rows, size))
    write_json(run.workdir / "import.json", read.summary)


def _check_pass(run: Run, first: Pass, asked: Asked, count: int) -> None:
    """Refuse files without a rollout of the run, of several models or other ids."""
    if not count:
        reasons = "; ".join(f"{r} ({', '.join(n)})" for r, n in first.left_out.items())
        files = ", ".join(asked.files)
        raise UserError(f"{files}: no rollout of this run: {reasons or 'none at all'}")
    if len(first.models - {""}) > 1:
        names = ", ".join(sorted(first.models - {""}))
        raise UserError(
            f"the files have rollouts of several models ({names}); choose one "
            "by --engine_model=NAME"
        )
    if 2 * first.differ > first.looked:
        raise UserError(
            f"{run.specialist.name} reads the ids of {first.differ} of {first.looked} "
            f"rollouts as other texts than the files have, as {first.example}; they "
            "were sampled with another tokenizer: name their model by --model"
        )


def _hashes(files: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Place and name of every file by the hash of its content."""
    found: dict[str, dict[str, Any]] = {}
    for place, file in enumerate(files):
        with open_regular(file, MAX_FILE) as opened:
            digest = hashlib.file_digest(cast(Any, opened), "sha256")
            content = digest.hexdigest()[:32]
        if content in found:
            twin = found[content]["name"]
            raise UserError(f"{file}: is the same as {twin}; give it once")
        found[content] = {"place": place, "name": _name(file)}
    return found


def _name(file: str) -> str:
    return printable(epath.Path(file).name)


def _check_stage(workdir: epath.Path, hashes: dict[str, dict], asked: Asked) -> None:
    """Refuse a folder that holds other rollouts than these files give."""
    remedy = "use another --workdir, or --redo=rollouts"
    if _FOLDER not in read_stages(workdir):
        return
    made = imported(workdir)
    if made is None:
        raise UserError(f"{workdir}: rollouts/ was sampled here; {remedy}")
    if (made["format"], made["logprobs"]) != (asked.format, asked.logprobs):
        raise UserError(
            f"{workdir}: rollouts/ was imported with --format={made['format']} "
            f"--logprobs={made['logprobs']}; {remedy}"
        )
    # The attempts of a problem are numbered in the order of the files.
    for key, file in made["files"].items():
        if hashes.get(key, {}).get("place") != file["place"]:
            raise UserError(
                f"{workdir}: rollouts/ was made with {file['name']} as file "
                f"{file['place'] + 1}, which has changed or is not given there; give "
                f"the same files first and new ones after them, or {remedy}"
            )


def _planned(run: Run, placed: Placed) -> Planned:
    known = placed.sampled.settings
    own = {name: value for name, value in known.items() if name in store.PARAMS}
    return plan_attempt(
        run, placed.prompt, placed.problem, ROLLOUT, placed.attempt, own, False
    )


def _write(run: Run, asked: Asked, shards: list[list[int]]) -> None:
    """Grade and write the shards that are not there, in the order of the files."""
    folder = run.workdir / _FOLDER
    have = store.finished(folder)
    place = {row: i for i, shard in enumerate(shards) for row in shard}
    waiting: dict[int, list[tuple[int, Placed]]] = {}
    again = Pass(run, asked)
    with Bar(total=len(place), desc=distributed.label(_FOLDER), unit="row") as bar:
        for row, placed in enumerate(again):
            check()
            bar.update()
            if row not in place:
                raise UserError(f"{placed.sampled.where}: its file {_GROWS}")
            index = place[row]
            if index in have:
                continue
            held = waiting.setdefault(index, [])
            held.append((row, placed))
            if len(held) == len(shards[index]):
                order = {number: i for i, number in enumerate(shards[index])}
                held.sort(key=lambda each: order[each[0]])
                _shard(run, again.reader, index, [p for _, p in held], asked.logprobs)
                del waiting[index]


def _shard(
    run: Run, reader: Reader, index: int, placed: Sequence[Placed], logprobs: str
) -> None:
    planned, rollouts, marks = [], [], []
    for each in placed:
        read = reader.completion(each.sampled)
        row = _planned(run, each)
        none = np.zeros(len(read.tokens), bool)
        unknown = np.full(len(read.tokens), np.nan, np.float32)
        raw = logprobs == RAW
        planned.append(row)
        marks.append(read.marks)
        rollouts.append(
            Rollout(
                row=row.row,
                tokens=read.tokens,
                forced=none,
                fired=none,
                sample_logp=unknown if raw else read.logp,
                stats={"logp": read.logp if raw else unknown},
                truncated=read.truncated,
                generated=len(read.tokens),
            )
        )
    more = {
        "source": pa.array([each.sampled.where for each in placed], pa.string()),
        "engine_model": pa.array([each.sampled.model for each in placed], pa.string()),
        "retokenised": pa.array(["retokenised" in m for m in marks], pa.bool_()),
        "engine_reward": pa.array(
            [None if r != r else r for r in (e.sampled.reward for e in placed)],
            pa.float64(),
        ),
    }
    store.write_shard(
        run.workdir / _FOLDER, index, graded(run, planned, rollouts), more
    )


def _summary(read: Pass, asked: Asked, rollouts: int, tokens: int) -> dict[str, Any]:
    return {
        "format": asked.format,
        "logprobs": asked.logprobs,
        "files": [_name(file) for file in asked.files],
        "rollouts": rollouts,
        "problems": read.problems,
        "tokens": tokens,
        "marks": dict(read.marks),
        "models": sorted(read.models - {""}),
        "settings": sorted(read.settings),
        "left_out": [
            {"why": why, "n": n, "names": read.left_out[why]}
            for why, n in read.out.most_common()
        ],
        "other_prompts": read.other_prompts,
    }
