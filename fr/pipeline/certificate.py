"""A certificate of any profile table or router: one verdict, and what it rests on."""

import csv
import dataclasses
import io
import json
from collections.abc import Sequence

import numpy as np
from etils import epath
from jaxtyping import Float, Int

from fr.comparison.cell_summary import describe_cells, describe_interaction
from fr.comparison.summary import UNITS, measure_powers
from fr.comparison.verdict import largest_headrooms, verdict_of
from fr.config import Config
from fr.errors import UserError
from fr.files import parse_number, read_regular
from fr.pipeline.route import unread_columns
from fr.profiles import read_cells
from fr.registry import suggest
from fr.routing.columns import register_column
from fr.routing.dataset import RoutingData
from fr.runs.declaration import declare, record
from fr.workdir import PathLike, to_json, write_json

CERTIFICATE = "certificate.json"
_LARGEST = 1 << 30  # bytes of a file of routes


def certify_table(
    files: Sequence[PathLike],
    config: Config,
    workdir: PathLike,
    smallest: float,
    routes: PathLike | None = None,
    without: Sequence[str] = (),
) -> dict:
    """Judge a table, write declaration.json and then certificate.json.

    Every column of numbers is read as a signal.

    Args:
        files: profile tables.
        config: its `routing` and `seed`.
        workdir: where both files are written.
        smallest: the smallest lift that matters, in points.
        routes: a CSV file with the choices, or the outcomes, of another router; see
            `read_routes`.
        without: operators to leave out.

    Returns:
        The content of certificate.json, with the declaration as `declared`.

    Raises:
        UserError: on a bad file, before anything is written.
    """
    content = declared_of(files, config, smallest, routes, without)
    declaration = declare(workdir, content, files)
    cells = read_cells(files, without, others=True)
    for name in unread_columns(cells):
        # Numbers of a table from elsewhere are its signals.
        read = lambda profiles, name=name: profiles.numbers(name, gaps=True)
        register_column(name, "signal", "given")(read)
    data = RoutingData.build(cells, config, compared=False)
    chosen, outcomes = read_routes(routes, data) if routes else (None, None)
    record(workdir, declaration)
    powers, interactions = measure_powers(data), describe_interaction(data)
    headrooms = largest_headrooms(interactions, powers)
    found = {
        **UNITS,
        "declared": str(declaration),
        "beforehand": declaration.beforehand,
        "sha256": declaration.sha256,
        "profiles": content["profiles"],
        "routes": content["routes"],
        "columns": list(data.known_columns),
        "problems": len(data),
        "questions": len(np.unique(data.problem)),
        **verdict_of(data, headrooms, smallest, chosen, outcomes),
        "cells": describe_cells(data, powers),
        "interaction": interactions,
    }
    write_json(epath.Path(workdir) / CERTIFICATE, found)
    return found


def declared_of(
    files: Sequence[PathLike],
    config: Config,
    smallest: float,
    routes: PathLike | None = None,
    without: Sequence[str] = (),
) -> dict:
    """Describe the comparison, its data and its budget; no outcome is needed.

    Args:
        files: as of `certify_table`, like all that follow.
        config: the settings.
        smallest: the smallest lift that matters.
        routes: of another router.
        without: operators left out.

    Returns:
        Plain values.
    """
    return {
        "what": "lift of a router over the best fixed operator of each model and task",
        "profiles": [epath.Path(file).name for file in files],
        "router": "posterior, out of fold" if routes is None else "given",
        "routes": None if routes is None else epath.Path(routes).name,
        "population": "all failed problems",
        "budget": "one attempt of the chosen operator",
        "smallest": smallest,
        "without": list(without),
        "seed": config.seed,
        "settings": json.loads(to_json(dataclasses.asdict(config.routing))),
    }


def read_routes(
    path: PathLike, data: RoutingData
) -> tuple[Int[np.ndarray, "N"] | None, Float[np.ndarray, "N"] | None]:
    """Read what a router from elsewhere chose, or what its own attempts gave.

    Args:
        path: a CSV file with the columns `cell`, `problem_id` and either `operator`,
            the chosen one, or `rate`, the share of the router's own attempts that were
            right.
        data: the failed problems; each has one line.

    Returns:
        The operator of each row or None, and the rate of each row or None.

    Raises:
        UserError: names file, line and what is wrong.
    """
    try:
        text = read_regular(epath.Path(path), _LARGEST).decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        lines: dict = {}
        for row in reader:
            name = row.get("cell"), row.get("problem_id")
            if name in lines:
                raise UserError(
                    f"line {reader.line_num}: problem {name[1]!r} of cell {name[0]!r} "
                    "appears twice"
                )
            lines[name] = reader.line_num, row
        header = list(reader.fieldnames or ())
    except (UserError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as routes ({error})") from error
    kinds = [name for name in ("operator", "rate") if name in header]
    if len(kinds) != 1 or not {"cell", "problem_id"} <= set(header):
        raise UserError(
            f"{path}: routes have the columns cell, problem_id and one of operator and "
            f"rate; there are {', '.join(header) or 'none'}"
        )
    rows = [
        (profiles, problem) for profiles in data.cells for problem in profiles.problems
    ]
    chosen: list = []
    for profiles, problem in rows:
        if (profiles.cell, problem) not in lines:
            raise UserError(
                f"{path}: problem {problem!r} of cell {profiles.cell!r} has no line"
            )
        number, row = lines[profiles.cell, problem]
        where, value = f"{path}, line {number}", row[kinds[0]] or ""
        if kinds[0] == "operator":
            if value not in profiles.operators:
                raise UserError(
                    f"{where}: {value!r} is not an operator of cell {profiles.cell!r}"
                    f"{suggest(value, profiles.operators)}"
                )
            chosen.append(data.operators.index(value))
        else:
            rate = parse_number(value, f"{where}, column 'rate'")
            if not 0 <= rate <= 1:
                raise UserError(f"{where}: rate = {value} is not in [0, 1]")
            chosen.append(rate)
    if kinds[0] == "operator":
        return np.array(chosen), None
    return None, np.array(chosen, float)
