"""From profile tables to routing.json, plots and printable tables; needs no model and no jax."""

from collections.abc import Sequence

from etils import epath

from fr.config import Config
from fr.errors import UserError
from fr.report.routing_tables import render_cell
from fr.routing.profiles import read_cells
from fr.routing.summary import summarise
from fr.workdir import PathLike, write_json, write_whole


def route(files: Sequence[PathLike], config: Config, workdir: PathLike) -> dict:
    """Evaluate routing on every cell of `files`; write `routing.json` and `plots/*.png` under `workdir`.

    Returns {"summary": what routing.json holds, "tables": one text a cell}. The same files and config give
    the same bytes. Raises UserError on a bad file, before anything is written.
    """
    cells = read_cells(files)
    summary = summarise(cells, config)
    # Here, so that bad input is refused before the second that matplotlib takes to import.
    from fr.report.plots import draw_landscape, draw_rescue

    plots = {}
    for profiles, cell in zip(cells, summary["cells"]):
        name = "".join(c if c.isalnum() else "_" for c in profiles.cell)
        plots[f"landscape_{name}.png"] = draw_landscape(profiles, config.routing)
        plots[f"rescue_{name}.png"] = draw_rescue(cell)
    try:
        for name, image in plots.items():
            write_whole(epath.Path(workdir) / "plots" / name, image)
        write_json(epath.Path(workdir) / "routing.json", summary)
    except OSError as error:
        raise UserError(f"--workdir={workdir}: cannot be written ({error.strerror or error})") from error
    return {"summary": summary, "tables": [render_cell(cell) for cell in summary["cells"]]}
