"""Runs whose screen goes: a terminal that is closed, a full disk behind standard output, a reader that has gone."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

FULL = Path("/dev/full")
SETTINGS = (
    "--data digits --train-limit 60 --val-limit 50 --channels 2 --phases 2 --nodes 3 --population 4 --generations 1 "
    "--objectives clean_error,macs --epochs 1 --batch-size 20 --threads 1 --device cpu --precision fp32"
)
EVALUATIONS = 8
LOST = "standard output cannot be written any more"


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "evonas.cli", *words]


def search(out: Path, *more: str) -> list[str]:
    return command("roco", *SETTINGS.split(), "--out", str(out), *more)


def lines(out: Path) -> list[dict[str, Any]]:
    path = out / "journal.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def without_times(out: Path) -> list[dict[str, Any]]:
    return [{name: line[name] for name in line if name not in ("seconds", "checksum")} for line in lines(out)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    done = subprocess.run(search(out), capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    return out


@pytest.mark.slow
@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
def test_a_search_goes_on_where_the_disk_behind_its_output_is_full(undisturbed: Path, tmp_path: Path) -> None:
    with FULL.open("w") as full:
        done = subprocess.run(search(tmp_path), stdout=full, stderr=subprocess.PIPE, text=True, timeout=300)
    assert done.returncode == 0
    assert done.stderr == f"{LOST} (No space left on device); the run goes on without a screen\n"
    assert without_times(tmp_path) == without_times(undisturbed)
    assert (tmp_path / "front.csv").stat().st_size > 0


@pytest.mark.slow
def test_a_search_goes_on_without_a_reader(undisturbed: Path, tmp_path: Path) -> None:
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(search(tmp_path), **pipe) as process:  # type: ignore[call-overload]
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode == 0
    assert said == f"{LOST} (Broken pipe); the run goes on without a screen\n"
    assert without_times(tmp_path) == without_times(undisturbed)


def in_a_terminal(arguments: list[str], hangup_ignored: bool) -> tuple["subprocess.Popen[Any]", int]:
    """A process that leads a session of its own, whose terminal is what this process holds."""
    ours, theirs = pty.openpty()

    def begin() -> None:
        os.setsid()
        os.close(os.open(os.ttyname(0), os.O_RDWR))  # the first terminal that a leader opens becomes its own
        if hangup_ignored:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

    process = subprocess.Popen(arguments, stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=begin)
    os.close(theirs)
    return process, ours


@pytest.mark.slow
@pytest.mark.parametrize("hangup_ignored", [True, False])
def test_a_terminal_that_is_closed(hangup_ignored: bool, undisturbed: Path, tmp_path: Path) -> None:
    """Below nohup the search goes on; else it ends as by Ctrl-C, and the same command continues it."""
    process, terminal = in_a_terminal(search(tmp_path), hangup_ignored)
    os.set_blocking(terminal, False)
    deadline = time.monotonic() + 120
    while len(lines(tmp_path)) < 2:  # read, so that the terminal does not fill
        try:
            os.read(terminal, 65536)
        except BlockingIOError:
            time.sleep(0.01)
        assert process.poll() is None
        assert time.monotonic() < deadline
    os.close(terminal)
    code = process.wait(timeout=300)
    if not hangup_ignored:
        assert code == 128 + signal.SIGHUP
        assert without_times(tmp_path) == without_times(undisturbed)[: len(lines(tmp_path))]
        assert len(lines(tmp_path)) < 1 + EVALUATIONS
        code = subprocess.run(search(tmp_path), capture_output=True, timeout=300).returncode
    assert code == 0
    assert without_times(tmp_path) == without_times(undisturbed)
    assert (tmp_path / "front.csv").stat().st_size > 0


@pytest.mark.slow
@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
def test_a_command_that_only_prints_says_in_a_line_that_it_cannot(roco_run: Path) -> None:
    with FULL.open("w") as full:
        done = subprocess.run(command("show", str(roco_run)), stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    why = "could not write to standard output: No space left on device"
    assert done.stderr == f"error: {why}; make room, or send the output elsewhere\n"
    with FULL.open("w") as full:
        assert subprocess.run(command("show", str(roco_run)), stdout=full, stderr=full).returncode == 2


@pytest.mark.slow
def test_a_command_that_only_prints_ends_with_its_reader(roco_run: Path) -> None:
    script = f"{sys.executable} -m evonas.cli roco --help-all | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (141, "")
