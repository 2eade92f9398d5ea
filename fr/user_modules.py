"""A user's own modules: files that register tasks, operators, terms and more.

`load` runs each once. A fingerprint of their text tells a resumed run that a name is
another one now (`fr.runs.inputs`).
"""

import difflib
import hashlib
import importlib
import os
import site
import sys
import sysconfig
import traceback
import types
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from fr.errors import UserError, describe_error
from fr.files import read_regular
from fr.registry import PACKAGE, own_names

FLAG = "user_module"
# Files that were loaded, for worker processes; separated as in PATH.
VARIABLE = "FR_USER_MODULES"
_PREFIX = "user_module_"
_LARGEST = 1 << 24  # bytes of a module
# By the file of a loaded module: its text, and the texts of the user's files that it
# imports.
_TEXTS: dict[str, dict[str, bytes]] = {}
_LIBRARIES = tuple(
    os.path.join(path, "")
    for path in (
        *map(sysconfig.get_path, ("stdlib", "platstdlib", "purelib", "platlib")),
        *site.getsitepackages(),
        site.getusersitepackages(),
    )
)


def load(names: Sequence[str]) -> None:
    """Run modules that register names; each is run once.

    A file gets a module name of its own, so that one called random.py hides nothing;
    its folder is not searched for other modules. What the file of `--config` is or has
    imported is not run again.

    Args:
      names: paths of Python files, or dotted names of modules that can be imported.

    Raises:
      UserError: a module is missing, fails, or registers nothing. The line names the
        user's own line of code.
    """
    for name in names:
        _load(name)


def fingerprints() -> dict[str, str]:
    """Fingerprints of the names that loaded modules registered.

    Returns:
      By "KIND: NAME", such as "reward term: brief": a hash of the text of the module
      that registered it, and of the user's files that this module imports.
    """
    found = {}
    for registry, name, place in own_names():
        if texts := [held for held in _TEXTS.values() if place.file in held]:
            found[f"{registry.kind}: {name}"] = _hash(texts)
    return found


def texts_hash() -> str:
    """One hash of the texts of all loaded modules; "" without any."""
    return _hash(_TEXTS.values()) if _TEXTS else ""


def import_named(name: str) -> types.ModuleType:
    """Import a module; in a worker process also a file that its parent has loaded.

    Args:
      name: dotted name, or the name that `load` gave to a file.

    Returns:
      The module.
    """
    if name.startswith(_PREFIX) and name not in sys.modules:
        for file in os.environ.get(VARIABLE, "").split(os.pathsep):
            if file and _module_name(file) == name:
                _run(file, _read(file))
    return importlib.import_module(name)


def _load(name: str) -> None:
    before, modules = len(own_names()), set(sys.modules)
    root = ""  # folder of a package that may be an installed one
    if name.endswith(".py") or os.sep in name:
        file = _existing(name)
        known = file in _TEXTS or _is_running(file)
        text = _read(file)
        if not known:
            _guarded(name, lambda: _run(file, text), file)
    else:
        known = name in sys.modules
        _guarded(name, lambda: importlib.import_module(name))
        file = os.path.abspath(sys.modules[name].__file__ or "")
        text = _read(file) if file.endswith(".py") else b""
        top = sys.modules[name.partition(".")[0]]
        root = os.path.join(next(iter(getattr(top, "__path__", ())), ""), "")
    if file in _TEXTS:
        return
    held = {file: text}
    for module in (sys.modules[key] for key in set(sys.modules) - modules):
        if module is sys.modules.get("__main__"):
            continue  # the script, which multiprocessing gives a second name
        path = os.path.abspath(getattr(module, "__file__", None) or "")
        if _is_users(path) or root and path.startswith(root) and path.endswith(".py"):
            held.setdefault(path, _read(path))
    for texts in _TEXTS.values():  # files that an earlier module imported first
        mentioned = {p: t for p, t in texts.items() if Path(p).stem.encode() in text}
        held = mentioned | held
    _TEXTS[file] = held
    os.environ[VARIABLE] = os.pathsep.join(_TEXTS)
    if not known and len(own_names()) == before:
        raise UserError(
            f"--{FLAG}={name} registers nothing; put a decorator such as "
            '@fr.rewards.register_term("name") above a function'
        )


def _existing(name: str) -> str:
    """The absolute path of a file that there is."""
    path = Path(name)
    if path.is_file():
        return str(path.resolve())
    if path.is_dir():
        raise UserError(f"--{FLAG}={name} is a folder; give a file, or a dotted name")
    others = [p.name for p in path.parent.glob("*.py")] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, others, n=1)
    hint = f"; did you mean {str(path.with_name(near[0]))!r}?" if near else ""
    raise UserError(f"--{FLAG}={name}: there is no such file{hint}")


def _is_running(file: str) -> bool:
    """True if the file of `--config`, or an import, has run this file already."""
    held = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return file in {place.file for *_, place in own_names()} or file in {
        os.path.realpath(path) for path in held if path
    }


def _guarded(name: str, run: Callable, file: str = "") -> None:
    """Run a module; what it raises becomes one line with the user's line of code."""
    try:
        run()
    except (Exception, SystemExit) as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name
        if missing and not file and f"{name}.".startswith(f"{missing}."):
            hint = f"; did you mean {name}.py?" * Path(f"{name}.py").is_file()
            raise UserError(
                f"--{FLAG}={name}: no module of this name is installed or on "
                f"PYTHONPATH{hint}"
            ) from error
        frames = traceback.extract_tb(error.__traceback__)
        own = {f.filename for f in frames if _is_users(os.path.abspath(f.filename))}
        if isinstance(error, SyntaxError) and error.filename:
            own.add(error.filename)
        own = own or {file or frames[-1].filename}
        raise UserError(f"--{FLAG}={name}: {describe_error(error, *own)}") from error


def _run(file: str, text: bytes) -> None:
    """Run a file as a module. Its text is compiled as it was read: a compiled file of
    before may be older than a change within the same second."""
    name = _module_name(file)
    module = types.ModuleType(name)
    module.__file__ = file
    sys.modules[name] = module  # dataclasses look their module up
    exec(compile(text, file, "exec"), module.__dict__)


def _module_name(file: str) -> str:
    digest = hashlib.sha256(file.encode()).hexdigest()[:8]
    return f"{_PREFIX}{Path(file).stem}_{digest}"


def _is_users(file: str) -> bool:
    """True for a file that is neither of this package nor of an installed one."""
    return file.endswith(".py") and not file.startswith((PACKAGE, *_LIBRARIES))


def _read(file: str | os.PathLike) -> bytes:
    return read_regular(file, _LARGEST)


def _hash(texts: Iterable[dict[str, bytes]]) -> str:
    """A hash of texts, not of the names of their files."""
    digest = hashlib.sha256()
    for text in sorted({text for held in texts for text in held.values()}):
        digest.update(hashlib.sha256(text).digest())
    return digest.hexdigest()[:12]
