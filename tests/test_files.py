"""Files of others are regular files of a bounded size, and their JSON is strict; else
one line says what they are.
"""

import os

import pytest

from fr.errors import UserError
from fr.files import open_regular, parse_json, read_json, read_regular


def special(tmp_path) -> dict[str, str]:
    """Paths of other kinds than regular files, and the error of each."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    (tmp_path / "pipe_behind_a_link").symlink_to(tmp_path / "fifo")
    return {
        str(tmp_path): "is a folder",
        str(tmp_path / "fifo"): "is a named pipe",
        str(tmp_path / "pipe_behind_a_link"): "is a named pipe",
        str(tmp_path / "loop"): "symbolic links",
        str(tmp_path / "dangling"): "No such file",
        str(tmp_path / ("x" * 300)): "too long",
        str(tmp_path / "a\0b"): "null byte",
        str(tmp_path / "none" / "x"): "No such file",
        "/dev/zero": "is a device",
        "/dev/null": "is a device",
    }


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    for path, said in special(tmp_path).items():
        with pytest.raises(UserError, match=said) as told:
            open_regular(path, 10**9, name="--some=x")
        assert str(told.value).startswith("--some=x: ") and "\n" not in str(told.value)


def test_a_file_above_the_limit_is_not_read(tmp_path):
    with (tmp_path / "big").open("wb") as file:
        file.truncate(10**12)  # sparse: it has no blocks on disk
    with pytest.raises(
        UserError, match="big: has 1000000000000 bytes or more; at most 1000"
    ):
        read_regular(tmp_path / "big", 1000)
    (tmp_path / "exact").write_bytes(b"x" * 1000)
    assert read_regular(tmp_path / "exact", 1000) == b"x" * 1000
    with pytest.raises(UserError, match="at most 999 are read"):
        read_regular(tmp_path / "exact", 999)


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps"), reason="no /proc")
def test_a_file_that_does_not_tell_its_size_is_bounded_too():
    with pytest.raises(UserError, match="at most 100 are read"):
        read_regular("/proc/self/smaps", 100)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON"),
        ("[NaN]", "NaN is not a JSON number"),
        ("[-Infinity]", "-Infinity is not a JSON number"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "'c' occurs twice"),
        ("[" * 200_000, "nested too deeply"),
        ('{"a":' * 200_000, "nested too deeply"),
        ("9" * 10_000, "is not JSON .a whole number of 10000 digits is too large"),
        ("[-" + "9" * 309 + "]", "a whole number of 309 digits is too large"),
        ('["\\ud83d"]', "holds half a character .'.ud83d'."),
        ('{"a": 1, "b": [{"\\udc00": 1}]}', "field 'b' holds half a character"),
        ("", "is not JSON"),
    ],
)
def test_json_is_read_strictly(text, said):
    with pytest.raises(UserError, match=f"^here: .*{said}") as told:
        parse_json(text, "here")
    assert len(str(told.value)) < 300 and "\n" not in str(told.value)


def test_json_files(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": [1.5, "\xc3\xa9"]}\r\n')
    assert read_json(path, 100) == {"a": [1.5, "é"]}
    assert parse_json("[1.50, 7]", "x", parse_int=str, parse_float=str) == ["1.50", "7"]
    # Whole pairs, an escaped backslash, and a whole number that is a float64.
    assert parse_json('["\\ud83d\\ude00", "\\\\ud83d"]', "x") == ["😀", "\\ud83d"]
    assert parse_json("1" + "0" * 308, "x") == 10**308
    path.write_bytes(b"\x1f\x8b\x08\x00")
    with pytest.raises(UserError, match="x.json: is a gzip file by its first bytes"):
        read_json(path, 100)
    path.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(UserError, match=r"x.json: is not UTF-8 text \(byte 7\)"):
        read_json(path, 100)
