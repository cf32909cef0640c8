"""Searches of cells of seconds, and how tests stop them."""

import io
import os
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tiny_runs import HERE

from evonas.cli import main
from evonas.methods.cells import CellOptions, LevelOptions, NetworkOptions
from evonas.methods.cells import run as run_cells
from evonas.runs import DataOptions
from evonas.training import TrainingConfig, load_checkpoint, stored_identity

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"

TINY: dict[str, Any] = {
    "data": DataOptions(data="digits", train_limit=40, val_limit=20),
    "levels": LevelOptions(
        search_epochs=2,
        search_channels=4,
        search_layers=3,
        search_batch_size=20,
        nodes=2,
        order=1,
        alpha_lr=0.05,
        weights_only=0,
        search_precision="fp32",
    ),
    "cells": NetworkOptions(eval_channels=4, eval_layers=3),
    "training": TrainingConfig(epochs=1, batch_size=20, precision="fp32"),
    "objectives": ("clean_error", "params"),
    "execution": HERE,
}
"""Of the options of any search of cells."""

WORDS = (
    "--data=digits",
    "--train-limit=40",
    "--val-limit=20",
    "--search-channels=4",
    "--search-layers=3",
    "--search-batch-size=20",
    "--nodes=2",
    "--search-precision=fp32",
    "--eval-channels=4",
    "--eval-layers=3",
    "--epochs=1",
    "--batch-size=20",
    "--precision=fp32",
    "--objectives=clean_error,params",
    "--device=cpu",
    "--threads=1",
)
"""Much the same for command lines."""


def run(options: CellOptions) -> str:
    """Run, and give the text on the screen."""
    screen = io.StringIO()
    run_cells(options, Console(file=screen, width=300))
    return screen.getvalue()


def assert_refused_in_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A command line that ends with exit code 2 and one line that has the message."""
    assert main(words) == 2
    text = capsys.readouterr().err
    assert message in text
    assert text.count("\n") == 1


def bare(patch: pytest.MonkeyPatch) -> None:
    """Draw nothing and time no metric, which takes longer than the rest of a tiny run."""
    for name in ("cell_search.draw_genotype", "cell_search.plot_alpha", "cell_search.plot_search"):
        patch.setattr(f"evonas.methods.{name}", lambda *arguments: None)
    for name in ("plot_front", "plot_history"):
        patch.setattr(f"evonas.runs.folder.{name}", lambda *arguments: None)
    patch.setattr("evonas.methods.cell_search._metric_seconds", lambda plan: "")


def searched(folder: Path, label: str = "") -> dict[str, Any]:
    """The state of a search that is kept in a run's folder."""
    path = folder / f"search{label}.pt"
    content = load_checkpoint(path, stored_identity(path, "a search"), "a search")
    assert content is not None
    return dict(content["state"])


def end_in_call(patch: pytest.MonkeyPatch, owner: type, name: str, number: int) -> None:
    """SIGTERM comes when a method is called so often, all of its objects together."""
    method, calls = getattr(owner, name), count(1)

    def called(*arguments: Any, **named: Any) -> Any:
        if next(calls) == number:
            signal.raise_signal(signal.SIGTERM)
        return method(*arguments, **named)

    patch.setattr(owner, name, called)


def kill_and_continue(script: str, words: tuple[str, ...], out: Path, whole: Path) -> None:
    """Run a script in two folders; in the first it is killed after its first epoch, and runs again."""
    command = [sys.executable, str(EXPERIMENTS / script), *WORDS, *words, "--out"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )
    until = time.monotonic() + 300
    while process.poll() is None and not (out / "search.csv").exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert not (out / "front.csv").exists()
    for folder in (out, whole):
        done = subprocess.run([*command, str(folder)], capture_output=True, text=True, timeout=300, env=environment)
        assert done.returncode == 0, done.stderr
