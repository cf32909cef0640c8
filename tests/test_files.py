"""Files are whole or absent; lines are whole or found out; one writer at a time."""

import errno
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evonas.errors import RunInUseError, StorageError
from evonas.files import read_json, replace_file, seal, storage_errors, take_lock, unseal, write_json

Json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
Records = st.dictionaries(st.text().filter(lambda name: name != "checksum"), Json, max_size=4)


def test_replace_writes_the_file_and_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "table.csv"
    replace_file(path, lambda file: file.write(b"first"))
    replace_file(path, lambda file: file.write(b"second"))
    assert path.read_bytes() == b"second"
    assert os.listdir(path.parent) == ["table.csv"]


def test_replace_keeps_the_old_file_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b"old")

    def half(file: IO[bytes]) -> None:
        file.write(b"half of")
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        replace_file(path, half)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["table.csv"]


def test_replace_on_a_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b"old")
    code = (
        "import resource, sys; from pathlib import Path; from evonas.files import replace_file\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "replace_file(Path(sys.argv[1]), lambda file: file.write(b'x' * 5000))"
    )
    child = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert child.returncode == 1
    assert f"StorageError: could not write {path}: File too large; raise the limit" in child.stderr
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["table.csv"]


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "free some of your quota"),
        (errno.EROFS, "choose a folder that can be written"),
        (errno.EACCES, "allow it or choose another folder"),
        (errno.EIO, "fix the cause"),
    ],
)
def test_storage_errors_say_what_to_do(number: int, remedy: str) -> None:
    with pytest.raises(StorageError) as caught, storage_errors("write the table"):
        raise OSError(number, os.strerror(number))
    assert str(caught.value).startswith(f"could not write the table: {os.strerror(number)}; {remedy} and run")
    assert "\n" not in str(caught.value)


def test_other_errors_pass_through() -> None:
    with pytest.raises(KeyError), storage_errors("write the table"):
        raise KeyError("defect")


def test_json_comes_back(tmp_path: Path) -> None:
    value = {"seed": 3, "objectives": ["clean_error", "macs"], "training": {"lr": 0.025}}
    write_json(tmp_path / "config.json", value)
    assert read_json(tmp_path / "config.json") == value
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "config.json", {"lr": math.nan})
    assert read_json(tmp_path / "config.json") == value


@pytest.mark.parametrize(
    ("content", "what"), [(b'{"seed": ', "expected JSON in"), (b"\xff\xfe", "expected JSON in"), (b"[1]", "got list")]
)
def test_json_that_is_none_is_refused(tmp_path: Path, content: bytes, what: str) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(StorageError, match=what):
        read_json(tmp_path / "config.json")


def test_json_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"could not read .*config\.json: No such file or directory"):
        read_json(tmp_path / "config.json")


def test_sealed_line_is_json_with_a_checksum() -> None:
    line = seal({"line": 1, "error": 0.5})
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    record = json.loads(line)
    assert list(record) == ["line", "error", "checksum"]
    assert len(record.pop("checksum")) == 16
    assert record == unseal(line) == {"line": 1, "error": 0.5}


@pytest.mark.lengthy
@given(Records)
def test_unseal_gives_what_was_sealed(record: dict[str, Any]) -> None:
    assert unseal(seal(record)) == record


@pytest.mark.lengthy
@given(Records, st.data())
def test_a_torn_line_is_found_out(record: dict[str, Any], data: st.DataObject) -> None:
    line = seal(record)
    assert unseal(line[: data.draw(st.integers(0, len(line) - 1))]) is None


@pytest.mark.lengthy
@given(Records, st.data())
def test_an_altered_byte_is_found_out(record: dict[str, Any], data: st.DataObject) -> None:
    line = bytearray(seal(record))
    line[data.draw(st.integers(0, len(line) - 1))] ^= data.draw(st.integers(1, 255))
    assert unseal(bytes(line)) is None


@pytest.mark.parametrize("line", [b"", b"\n", b"null\n", b"[]\n", b"{}\n", b'{"a":1}\n', b"\x00" * 40, b"[" * 100_000])
def test_lines_of_others_are_no_records(line: bytes) -> None:
    assert unseal(line) is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_seal_refuses_what_json_lacks(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        seal({"error": value})


def test_lock_has_one_holder_and_ends_with_its_file(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with open(path, "ab") as second:
        with open(path, "ab") as first:
            take_lock(first, path)
            with pytest.raises(RunInUseError, match=f"{path} is being written by another process"):
                take_lock(second, path)
        take_lock(second, path)
