"""Entry point `fr COMMAND --flag=value`: the scripts of an installed package by name.

A config of the package is found by its path in a checkout:
`fr reproduce --config=configs/quickstart.py --workdir=runs/quickstart`.
"""

import runpy
import sys
from pathlib import Path

_PACKAGE = Path(__file__).parent


def _folder(name: str, installed: str) -> Path:
    """A folder of the wheel, or of the checkout that the package lies in."""
    inside = _PACKAGE / installed
    return inside if inside.is_dir() else _PACKAGE.parent / name


def main() -> None:
    """Run one command; without a known name list all and exit with code 2."""
    scripts = {p.stem: p for p in _folder("scripts", "commands").glob("[!_]*.py")}
    name, arguments = (sys.argv[1:2] or [""])[0], sys.argv[2:]
    if name not in scripts:
        names = ", ".join(sorted(scripts))
        wrong = "" if name in ("", "--help", "-h") else f"unknown command {name!r}; "
        print(f"fr: {wrong}fr COMMAND --help, of: {names}", file=sys.stderr)
        sys.exit(2)
    sys.argv = [str(scripts[name]), *map(_shipped, arguments)]
    runpy.run_path(str(scripts[name]), run_name="__main__")


def _shipped(argument: str) -> str:
    """`--config=configs/NAME.py` with the package's own file where there is no
    other."""
    flag, _, value = argument.partition("=")
    path = Path(value)
    if flag.lstrip("-") == "config" and path.parts[:1] == ("configs",):
        own = _folder("configs", "configs") / path.name
        if not path.exists() and own.exists():
            return f"{flag}={own}"
    return argument


if __name__ == "__main__":
    main()
