"""Look at the attempts of a run in a browser: problems, attempts, tokens.

    python scripts/view.py --workdir=runs/quickstart
    python scripts/view.py --workdir=runs/quickstart --export=traces.html

Serves a page on this machine alone and reads only: --workdir is not changed. With
--export it writes some problems into one HTML file, which needs no server and no
network. Needs the extra [view] (DuckDB) and no jax.
"""

import contextlib
import sys

from absl import flags

from fr import cli

flags.DEFINE_string(
    "workdir", None, "The run, the arm of a study or the study to read; local."
)
flags.DEFINE_string("host", "127.0.0.1", "Address to listen on.")
flags.DEFINE_integer("port", 8321, "Port to listen on; 0: any free one.")
flags.DEFINE_string("export", None, "Write one HTML file in place of serving a page.")
flags.DEFINE_list(
    "problems", [], "Problems of the exported file; default: the first that failed."
)
flags.DEFINE_integer("count", 5, "Problems of the file without --problems.", 1)
flags.DEFINE_integer("attempts", 4, "Attempts of each operator in the file.", 1)


def main() -> None:
    """Serve or export."""
    given = flags.FLAGS
    cli.require(workdir=given.workdir)
    from fr.viewer.attempts_index import AttemptsIndex
    from fr.viewer.lists import Viewer
    from fr.viewer.page_server import PageServer
    from fr.viewer.shards import local_folder

    workdir = local_folder(given.workdir)
    viewer = Viewer(AttemptsIndex(workdir))
    for note in viewer.index.notes:
        print(f"note: {note}", file=sys.stderr)
    if given.export:
        from fr.viewer.export_page import export_page

        size = export_page(
            viewer, given.export, given.problems, given.count, given.attempts
        )
        print(f"{given.export}: {size / 1e6:.1f} MB")
        return
    with PageServer(viewer, given.host, given.port) as server:
        print(f"traces of {workdir.name!r}: {server.url} (Ctrl-C ends it)", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
    viewer.scans.close()


if __name__ == "__main__":
    cli.run(main, alone=False)
