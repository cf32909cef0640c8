"""Runs of the study `proxies`: cheap measures of random networks once, and their full robust training a seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from evonas.methods.adversarial_set import PRESETS as SETS
from evonas.methods.adversarial_set import BuildOptions
from evonas.methods.roco import PRESETS, RocoOptions
from evonas.runs.options import changed
from evonas.studies.grid import Cell
from evonas.studies.study import Row, read_rows

__all__ = ["PREDICTED", "SET", "SUITE", "TARGET", "cells", "read"]

SET, PREDICTED, TARGET = "Adversarial set", "Predictors", "Target"
OBJECTIVES = ("clean_error", "macs", "adversarial_set_error", "pgd_error", "quick_robust_error")
SUITE = ("pgd20", "autoattack")
"""Measurements of the target, within 8/255."""
SPLIT = {"split_seed": 0}
"""All runs have the same images, so that one set serves them."""

SIZES: dict[str, dict[str, Any]] = {
    "quick": {
        "data": "digits",
        "train_limit": 500,
        "val_limit": 200,
        "phases": 2,
        "nodes": 4,
        "channels": 4,
        "designs": (),
        "population": 8,
    },
    "small": {
        "data": "cifar10",
        "train_limit": 2000,
        "val_limit": 500,
        "space": "nasbench201",
        "channels": 6,
        "cells": 1,
        "population": 12,
    },
    "paper": {"space": "nasbench201", "population": 50},
}
"""The networks and their images; paper has the benchmark's own, 16 channels and 5 cells, on CIFAR-10."""
SEARCHED: dict[str, dict[str, Any]] = {
    "quick": {"epochs": 4, "quick_epochs": 3, "attack_images": 100},
    "small": {"epochs": 5, "batch_size": 64, "quick_epochs": 3, "quick_batch_size": 64},
    "paper": {},
}
"""The trainings of a search, as the predictors have them."""
TRAINED: dict[str, dict[str, Any]] = {
    "quick": {"retrain_epochs": 5, "retrain_batch_size": 32, "test_limit": 20},
    "small": {"retrain_epochs": 6, "retrain_batch_size": 32, "test_limit": 60},
    "paper": {"retrain_epochs": 50, "retrain_batch_size": 128, "test_limit": 1000},
}
"""The target's training by PGD-7 (50 epochs in NAS-RobBench-201), with batches, cosine and images of its own."""


def cells(preset: str, seeds: int) -> Iterator[Cell]:
    """A set; random networks under every predictor; the same networks trained robustly, once a seed."""
    yield Cell(group=SET, method="build-set", options=_set(preset))
    usual: RocoOptions = PRESETS["paper" if preset == "paper" else "quick"]
    common = {**SIZES[preset], **SPLIT, "generations": 0}
    measured = {**SEARCHED[preset], "objectives": OBJECTIVES, "objective_seconds": True, "keep_weights": "none"}
    predicted = Cell(
        group=PREDICTED,
        method="roco",
        options=changed(usual, {**common, **measured, "seed": 0}),
        links=(("adversarial_set", "adversarial-set-cifar10-seed0/set.safetensors"),),
    )
    yield predicted
    trained = {"retrain": True, "retrain_all": True, "retrain_recipe": "pgd_at", "suite": SUITE}
    given = {**common, **TRAINED[preset], **trained, "epochs": 1, "lr": 0.1, "weight_decay": 5e-4}
    given |= {"objectives": ("clean_error", "macs"), "white_box_images": 0, "keep_weights": "none", **_width(preset)}
    for seed in range(seeds):
        options = changed(usual, {**given, "seed": seed})
        yield Cell(group=TARGET, method="roco", options=options, links=(("init_from", predicted.folder),))


def _width(preset: str) -> dict[str, int]:
    """Networks are trained to the end at the width that they were measured at."""
    return {"retrain_channels": SIZES[preset].get("channels", RocoOptions.channels)}


def _set(preset: str) -> BuildOptions:
    if preset == "paper":
        return SETS["paper"]
    small = preset == "small"
    settings = replace(SETS["quick"].settings, attacked_images=100 if small else 40)
    sizes = SIZES[preset]
    return BuildOptions(data=sizes["data"], train_limit=5000 if small else None, settings=settings)


def read(folder: Path, cell: Cell) -> list[Row]:
    """Networks with every predictor and its seconds, or trained robustly; nothing of the set."""
    names = {PREDICTED: "population.csv", TARGET: "retrained/retrained.csv"}
    return read_rows(folder / names[cell.group]) if cell.group in names else []
