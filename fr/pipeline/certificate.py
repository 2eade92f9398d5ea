"""A certificate of any profile table or router: one verdict, and what it rests on."""

from collections.abc import Sequence

import numpy as np
from etils import epath

from fr.comparison.cell_summary import describe_cells, describe_interaction
from fr.comparison.routes import read_routes
from fr.comparison.summary import UNITS, measure_powers
from fr.comparison.unread import read_unread
from fr.comparison.verdict import declared_of, largest_headrooms, verdict_of
from fr.config import Config
from fr.profiles import read_cells
from fr.routing.dataset import RoutingData
from fr.runs.declaration import declare, record
from fr.workdir import PathLike, write_json

CERTIFICATE = "certificate.json"


def certify_table(
    files: Sequence[PathLike],
    config: Config,
    workdir: PathLike,
    smallest: float,
    routes: PathLike | None = None,
    without: Sequence[str] = (),
) -> dict:
    """Judge a table, write declaration.json and then certificate.json.

    Every column of numbers is read as a signal; columns of text are named.

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
    told = read_unread(cells)  # numbers of a table from elsewhere are its signals
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
        **told,
        "problems": len(data),
        "questions": len(np.unique(data.problem)),
        **verdict_of(data, headrooms, smallest, chosen, outcomes),
        "cells": describe_cells(data, powers),
        "interaction": interactions,
    }
    write_json(epath.Path(workdir) / CERTIFICATE, found)
    return found
