"""A RoCo-NAS run of seconds, and how tests look at runs on disk."""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from evonas.methods.roco import RocoOptions
from evonas.methods.roco import run as run_roco
from evonas.runs import DataOptions, ExecutionOptions
from evonas.search import EvolutionConfig
from evonas.spaces import PhaseSpace
from evonas.training import TrainingConfig
from evonas.types import Genome

HERE = ExecutionOptions(device="cpu", threads=1, executor="local")
FLAGS = ("--data", "digits", "--device", "cpu", "--threads", "1", "--executor", "local", "--precision", "fp32")
"""The same for command lines."""

ROCO = RocoOptions(
    data=DataOptions(data="digits", train_limit=150, val_limit=50),
    phases=2,
    nodes=3,
    channels=2,
    training=TrainingConfig(epochs=1, batch_size=5, lr=0.05, precision="fp32"),
    search=EvolutionConfig(population=4, generations=2, objectives=("clean_error", "macs")),
    execution=HERE,
)
SPACE = PhaseSpace(phases=2, nodes=3, channels=2)
EVALUATIONS = 12


def run(options: RocoOptions) -> str:
    """Run, and give the text on the screen."""
    screen = io.StringIO()
    run_roco(options, Console(file=screen, width=200))
    return screen.getvalue()


def rows(path: Path) -> list[dict[str, str]]:
    """A table without its timings."""
    with open(path, newline="") as file:
        timings = ("train_seconds", "seconds")
        return [{name: value for name, value in row.items() if name not in timings} for row in csv.DictReader(file)]


def genome_of(row: Mapping[str, str]) -> Genome:
    """The genome of a row."""
    return np.array(row["genome"].split(), dtype=np.int64)


def journal(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's journal without their timings."""
    records = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    return [
        {name: value for name, value in record.items() if name not in ("seconds", "checksum")} for record in records
    ]


def config(folder: Path) -> dict[str, Any]:
    """A run's config.json."""
    content: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return content


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
