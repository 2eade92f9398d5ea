"""Adds the commands and their configs to a wheel; all else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

COPIED = {"scripts": "fr/commands", "configs": "fr/configs"}


class BuildWithCommands(build_py):
    """In a wheel `scripts/` and `configs/` lie inside the package, as data of `fr`."""

    def run(self) -> None:
        """Build, and copy both folders unless the install is editable."""
        super().run()
        if self.editable_mode:
            return
        for source, target in COPIED.items():
            folder = Path(self.build_lib, target)
            folder.mkdir(parents=True, exist_ok=True)
            for path in sorted(Path(__file__).parent.joinpath(source).glob("*.py")):
                shutil.copy(path, folder / path.name)


setup(cmdclass={"build_py": BuildWithCommands})
