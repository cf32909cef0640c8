"""Real processes: killed, interrupted, terminated, crowded out, and continued by the same command."""

import csv
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).resolve().parents[2] / "experiments" / "roco_cifar10.py"
SETTINGS = {
    "data": "digits",
    "objectives": "clean_error,macs",
    "population": 4,
    "generations": 2,
    "epochs": 1,
    "batch-size": 20,
    "train-limit": 200,
    "val-limit": 100,
    "channels": 3,
    "phases": 2,
    "nodes": 4,
    "threads": 1,
    "device": "cpu",
    "precision": "fp32",
}
FLAGS = [f"--{name}={value}" for name, value in SETTINGS.items()]
EVALUATIONS = 12


def start(out: Path, *flags: str, **more: Any) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *FLAGS, "--out", str(out), *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


def finish(out: Path) -> str:
    process = start(out)
    said, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    return said


def lines(out: Path) -> int:
    journal = out / "journal.jsonl"
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def wait_for(out: Path, wanted: int, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 300
    while lines(out) < wanted and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    assert lines(out) >= wanted
    assert process.poll() is None, "the run ended before it could be stopped; the test needs a longer one"


def journal(out: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (out / "journal.jsonl").read_text().splitlines()]
    return [{k: v for k, v in record.items() if k not in ("seconds", "checksum")} for record in records]


def front(out: Path) -> list[dict[str, str]]:
    with open(out / "front.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k != "train_seconds"} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    said = finish(out)
    assert f"finished: {EVALUATIONS} evaluations (0 from the journal" in said
    return out


def test_a_run_killed_at_two_random_moments_ends_as_if_it_had_not_been(undisturbed: Path, tmp_path: Path) -> None:
    out, chance = tmp_path / "run", random.Random(20)
    first = chance.randint(1, 5)
    for wanted in (1 + first, 1 + first + chance.randint(1, 4)):
        process = start(out)
        wait_for(out, wanted, process)
        time.sleep(chance.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert 1 < lines(out) < 1 + EVALUATIONS
    said = finish(out)
    assert "continuing: " in said
    assert journal(out) == journal(undisturbed)
    assert front(out) == front(undisturbed)


def test_ctrl_c_ends_after_a_whole_line_and_says_how_to_continue(undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start(out)
    wait_for(out, 3, process)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130
    assert error == "stopped: everything finished is kept; the same command goes on from there\n"
    assert (out / "journal.jsonl").read_bytes().endswith(b"\n")
    assert 3 <= lines(out) < 1 + EVALUATIONS
    assert journal(out) == journal(undisturbed)[: lines(out)]


def test_a_second_process_is_refused_and_sigterm_ends_the_first(tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = start(out, "--generations", "500")
    wait_for(out, 1, first)
    second = start(out, "--generations", "500")
    _, error = second.communicate(timeout=300)
    assert (second.returncode, error.count("\n")) == (2, 1)
    assert "is being written by another process" in error
    assert first.poll() is None
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=120)
    assert first.returncode == 143
    assert (out / "journal.jsonl").read_bytes().endswith(b"\n")


def test_a_full_disk_is_one_line_and_loses_nothing(undisturbed: Path, tmp_path: Path) -> None:
    """The limit on file sizes stands for a full disk: the journal's write is refused by the system."""
    out = tmp_path / "run"
    limit = os.path.getsize(undisturbed / "config.json") + 200  # that fits, the journal and the pictures do not
    process = start(out, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    _, error = process.communicate(timeout=300)
    assert (process.returncode, error.count("\n")) == (2, 1)
    assert "could not write" in error
    assert "run the same command again" in error
    whole = lines(out)
    assert (out / "journal.jsonl").read_bytes().endswith(b"\n")
    assert 1 < whole < 1 + EVALUATIONS
    said = finish(out)
    assert f"continuing: {whole - 1} evaluations" in said
    assert "damaged" not in said
    assert journal(out) == journal(undisturbed)
    assert front(out) == front(undisturbed)
