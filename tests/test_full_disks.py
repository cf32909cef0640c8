"""Commands on a run whose folder cannot be written, or whose disk is full: one line, nothing lost, and they go on."""

import builtins
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import contents, rows

from evonas.cli import main
from evonas.commands import choose, latency
from evonas.errors import StorageError
from evonas.files import check_writable
from evonas.runs.result import Result

AUDIT = ("--measure", "clean,pgd10", "--images", "20", "--executor", "local", "--device", "cpu")


@pytest.fixture
def read_only(copied_run: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A run's folder on a file system that is mounted for reading alone; root may write anything else."""
    whole, made = builtins.open, Path.mkdir

    def refuse(path: Any) -> None:
        if isinstance(path, str | Path) and copied_run in Path(path).absolute().parents:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    def opened(file: Any, mode: str = "r", *rest: Any, **named: Any) -> Any:
        if set(mode) & {"w", "a", "x", "+"}:
            refuse(file)
        return whole(file, mode, *rest, **named)

    def mkdir(path: Path, *rest: Any, **named: Any) -> None:
        if not path.is_dir():
            refuse(path)
        made(path, *rest, **named)

    monkeypatch.setattr(builtins, "open", opened)
    monkeypatch.setattr(Path, "mkdir", mkdir)
    before = contents(copied_run)
    yield copied_run
    assert contents(copied_run) == before


@pytest.mark.lengthy
@pytest.mark.parametrize(
    "words",
    [
        *(["status"], ["status", "--json"], ["show"], ["show", "best"], ["choose"], ["front"], ["verify"]),
        ["latency", "best", "--runs", "1", "--warm-up", "1"],
    ],
    ids=" ".join,
)
def test_what_only_reads_works(words: list[str], read_only: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([words[0], str(read_only), *words[1:]]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.lengthy
@pytest.mark.parametrize(
    "words",
    [
        *(["export"], ["export", "best", "--to", "{}/net.pt2"], ["export", "--optuna", "{}/optuna.log"]),
        *(["choose", "--csv", "{}/chosen.csv"], ["latency", "best", "--csv", "{}/latency.csv"]),
        *(["report"], ["report", "--out", "{}/../page.html", "--charts", "{}/charts"], ["ship", "--measure", "clean"]),
        *(["audit", *AUDIT], ["front", "--out", "{}/joint"]),
    ],
    ids=" ".join,
)
def test_what_writes_says_so_in_a_line_before_anything_long_begins(
    words: list[str], read_only: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for owner, name in ((Result, "load"), (latency.Latency, "_timed")):
        monkeypatch.setattr(owner, name, lambda *arguments: pytest.fail("it had begun"))
    assert main([words[0], str(read_only), *(word.format(read_only) for word in words[1:])]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{read_only}" in said
    assert "Read-only file system; choose a folder that can be written" in said


@pytest.mark.lengthy
@pytest.mark.parametrize(
    "words", [["choose"], ["latency", "best", "--runs", "1", "--warm-up", "1"]], ids=["choose", "latency"]
)
def test_a_table_is_shown_even_if_the_disk_is_full_by_then(
    words: list[str],
    roco_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (choose, latency):
        monkeypatch.setattr(module, "check_writable", lambda path: None)
    monkeypatch.setattr(os, "fsync", full(lambda: True))
    assert main([words[0], str(roco_run), *words[1:], "--csv", str(tmp_path / "table.csv")]) == 2
    said = capsys.readouterr()
    assert rows(roco_run / "front.csv")[0]["arch_id"] in said.out
    assert said.err.count("\n") == 1
    assert "No space left on device; free some space" in said.err
    assert [*tmp_path.iterdir()] == []


def full(now: Callable[[], bool]) -> Callable[[int], None]:
    """`os.fsync` of a disk that is full now and then."""
    whole = os.fsync

    def fsync(file: int) -> None:
        if now():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        whole(file)

    return fsync


@pytest.mark.slow
def test_an_audit_goes_on_wherever_the_disk_was_full(
    copied_run: Path,
    roco_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It ends in one line at every third write, and what was written is not done again."""
    words = ["audit", str(copied_run), "best", *AUDIT, "--train", "--epochs", "1", "--searched-size"]
    ended = 0
    while ended < 20:
        full_now = map((2).__lt__, count(1))  # from the third write on
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full(full_now.__next__))
            code = main(words)
        said = capsys.readouterr()
        if code == 0:
            break
        assert (code, said.err.count("\n")) == (2, 1)
        assert "No space left on device" in said.err
        ended += 1
    assert 1 <= ended < 20
    table = rows(copied_run / "audit.csv")
    assert [(row["status"], row["weights"]) for row in table] == [("ok", "audit")]
    other = tmp_path / "whole"
    shutil.copytree(roco_run, other)
    assert main(["audit", str(other), *words[2:]]) == 0
    assert rows(other / "audit.csv") == table


class TestCheckWritable:
    def test_nothing_stays(self, tmp_path: Path) -> None:
        check_writable(tmp_path / "new" / "folder" / "file.csv")
        assert [*tmp_path.iterdir()] == []

    def test_a_full_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "fsync", full(lambda: True))
        with pytest.raises(StorageError, match=r"could not write .*file\.csv: No space left"):
            check_writable(tmp_path / "file.csv")
        assert [*tmp_path.iterdir()] == []

    def test_a_folder_and_a_file_in_the_way(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(StorageError, match=r"could not write .*: Is a directory; choose the name of a file"):
            check_writable(tmp_path)
        with pytest.raises(StorageError, match=r"could not write .*net\.onnx: Not a directory; choose another folder"):
            check_writable(tmp_path / "file" / "new" / "net.onnx")

    def test_too_long_a_name(self, tmp_path: Path) -> None:
        with pytest.raises(StorageError, match="choose a shorter name"):
            check_writable(tmp_path / ("n" * 300))
