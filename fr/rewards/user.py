"""Reward terms from a file of the user's own."""

import importlib.machinery
import importlib.util
import sys
from pathlib import Path

from fr.errors import UserError
from fr.rewards.base import TERMS, fault


def import_terms(path: str) -> list[str]:
    """Run the python file `path`, which files terms with `fr.rewards.term`; returns their names.

    Raises UserError if the file is missing, fails, or files none.
    """
    file = Path(path).resolve()
    if not file.is_file():
        raise UserError(f"--reward_module={path}: there is no such file")
    before = set(TERMS)
    # A name of its own, so that a file called random.py hides nothing.
    loader = importlib.machinery.SourceFileLoader(
        f"reward_module_{file.stem}", str(file)
    )
    module = importlib.util.module_from_spec(
        importlib.util.spec_from_loader(loader.name, loader)
    )
    sys.modules[loader.name] = module  # dataclasses look their module up
    try:
        loader.exec_module(module)
    except Exception as error:
        raise UserError(f"--reward_module={path}: {fault(error, str(file))}") from error
    names = [name for name in TERMS if name not in before]
    if not names:
        raise UserError(
            f'--reward_module={path} files no reward term; put @fr.rewards.term("name") above a function'
        )
    return names
