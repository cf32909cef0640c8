"""Runs of the study `supernet`: the same random networks in every supernet of a seed, and trained alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evonas.methods.tam import PRESETS
from evonas.runs.options import changed
from evonas.studies.grid import Cell
from evonas.studies.study import Row, read_rows

__all__ = ["ALONE", "RECALIBRATIONS", "REFERENCE", "SAMPLINGS", "cells", "group", "read", "untrained"]

SAMPLINGS = {"per epoch": "epochs", "per batch": "batches", "fair": "fair"}
RECALIBRATIONS = ("clean", "attacked", "off")
REFERENCE = "per epoch, clean"
"""The paper's setting; its run also trains the networks alone."""
ALONE = "trained alone"
SIZES: dict[str, dict[str, Any]] = {
    "quick": {
        "data": "digits",
        "train_limit": 500,
        "val_limit": 200,
        "supernet_recipe": "standard",
        "block_epochs": 3,
        "joint_epochs": 12,
        "joint_milestones": (9,),
        "attack_epsilon": 2 / 255,
        "attack_step_size": 0.5 / 255,
        "population": 10,
        "recalibration_batches": 4,
        "finalise_epsilon": 2 / 255,
        "finalise_epochs": 6,
        "finalise_batch_size": 32,
        "finalise_weight_decay": 5e-4,
        "finalise_milestones": (4,),
        "test_epsilons": (2,),
        "test_step_size": 0.5 / 255,
        "test_limit": 200,
    },
    "small": {
        "data": "cifar10",
        "train_limit": 8000,
        "val_limit": 1000,
        "block_epochs": 8,
        "joint_epochs": 24,
        "joint_milestones": (16, 21),
        "population": 30,
        "recalibration_batches": 20,
        "finalise_epochs": 10,
        "finalise_milestones": (8,),
        "test_limit": 1000,
    },
    "paper": {"population": 100},
}
"""quick has supernets of clean images and a weak attack: others learn nothing in a minute, and all errors are one."""


def group(sampling: str, recalibration: str) -> str:
    return f"{sampling}, {recalibration}"


def cells(preset: str, seeds: int) -> Iterator[Cell]:
    """The same random networks in every run of a seed; a supernet for each sampling, the other runs take it over."""
    for seed in range(seeds):
        for sampling in SAMPLINGS:
            for recalibration in RECALIBRATIONS:
                yield _cell(preset, seed, sampling, recalibration)


def _cell(preset: str, seed: int, sampling: str, recalibration: str) -> Cell:
    """A supernet whose first population is scored, every one uniform over the space, and nothing is searched."""
    name, usual = group(sampling, recalibration), PRESETS["paper" if preset == "paper" else "quick"]
    values: dict[str, Any] = {**SIZES[preset], "seed": seed, "window": None, "generations": 0, "tournament": 2}
    values |= {"sampling": SAMPLINGS[sampling], "recalibration": recalibration}
    if recalibration == "off":
        values.pop("recalibration_batches", None)
    if name == REFERENCE:
        alone = {"finalise": "scratch", "finalise_all": True, "test_epsilons": (8,), "test_steps": (10,)}
        values = {**alone, **values}
    else:
        values = {each: value for each, value in values.items() if not each.startswith(("finalise_", "test_"))}
        values["finalise"] = ""
    links = () if recalibration == "clean" else (("supernet_from", _folder(sampling, seed)),)
    return Cell(group=name, method="tam", options=changed(usual, values), links=links)


def _folder(sampling: str, seed: int) -> str:
    return f"{group(sampling, 'clean').replace(', ', '-').replace(' ', '-')}-cifar10-seed{seed}"


def read(folder: Path, cell: Cell) -> list[Row]:
    """Networks with inherited weights and their choices that were never trained; those trained alone besides."""
    space = cell.options.space(32)
    never = untrained(folder)
    rows = []
    for row in read_rows(folder / "population.csv"):
        choices = space.choices([int(gene) for gene in row["genome"].split()])
        rows.append({**row, "untrained_choices": len(choices & never), "all_choices": len(choices)})
    if cell.group == REFERENCE:
        rows += map(_alone, read_rows(folder / "finalised" / "finalised.csv"))
    return rows


def _alone(row: Row) -> Row:
    """A network that was trained alone, the error under its only PGD called as in a search."""
    found = [value for name, value in row.items() if re.fullmatch(r"pgd\d+_\d+_error", name)]
    return {**row, **({"pgd_error": found[0]} if found else {}), "label": ALONE}


def untrained(folder: Path) -> set[tuple[int, int, int]]:
    """(layer, block, ratio) of a run that its supernet's training has never drawn."""
    return {
        (int(row["layer"]), int(row["block"]), round(5 * float(ratio)) - 1)
        for row in read_rows(folder / "untrained.csv")
        for ratio in str(row["ratios"]).split()
    }
