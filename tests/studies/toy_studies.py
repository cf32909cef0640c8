"""Every study with runs of a second: the same cells and tables, of the smallest networks on few digits."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from evonas.runs.needs import options_of
from evonas.runs.options import changed
from evonas.studies import STUDIES
from evonas.studies.grid import Cell
from evonas.studies.study import Studied, Study

COMMON: dict[str, Any] = {
    "train_limit": 50,
    "val_limit": 20,
    "device": "cpu",
    "threads": 1,
    "executor": "local",
    "precision": "fp32",
    "epochs": 1,
    "test_limit": 10,
    "population": 2,
    "generations": 1,
    "attack_images": 10,
    "white_box_images": 10,
}
TOY: dict[str, dict[str, Any]] = {
    "build-set": {
        "train_limit": 400,
        "targets": ("LeNet",),
        "widths": (0.5,),
        "depths": (0,),
        "target_epochs": (3,),
        "thresholds": (10,),
        "attacked_images": 30,
        "attack_population": 10,
        "attack_generations": 3,
    },
    "roco": {
        "phases": 2,
        "nodes": 3,
        "channels": 2,
        "retrain_channels": 2,
        "retrain_epochs": 1,
        "suite": ("pgd", "fgsm"),
        "quick_epochs": 1,
        "quick_images": 10,
    },
    "tam": {
        "block_epochs": 1,
        "joint_epochs": 1,
        "supernet_precision": "fp32",
        "finalise_top": 2,
        "finalise_epochs": 1,
        "finalise_milestones": (),
        "finalise_precision": "fp32",
        "test_epsilons": (2, 8),
        "test_steps": (1,),
        "recalibration_batches": 1,
        "supernet_steps": 1,
        "handmade": (),
    },
    "cells": {
        "search_epochs": 1,
        "search_channels": 4,
        "search_precision": "fp32",
        "order": 1,
        "eval_channels": 2,
        "retrain_epochs": 1,
        "retrain_precision": "fp32",
        "robust_attacks": ("fgsm",),
        "radius_images": 1,
        "metric_images": 1,
        "ood_data": "noise",
    },
}


def toy(name: str) -> Study:
    """The study with toy cells instead of its own."""
    study = STUDIES[name]

    def cells(preset: str, seeds: int) -> Iterator[Cell]:
        for cell in study.cells("quick", seeds):
            values = {**COMMON, **TOY.get(cell.method, TOY["cells"])}
            known = {option.name for option in options_of(cell.options)}
            if cell.method == "build-set" and cell.options.settings.skip_images:
                values["skip_images"] = values["attacked_images"]
            if not getattr(getattr(cell.options, "after", None), "retrain", True):
                values = {each: value for each, value in values.items() if not each.startswith("retrain_")}
            if name == "capacity" and "suite" in values:
                values["suite"] = (*values["suite"], "clean_on_all", "bim")  # not AutoAttack, which takes minutes
            if name == "proxies":
                values |= {"suite": ("pgd20",), "population": 5, "generations": 0, "test_limit": 40, "train_limit": 200}
                values |= {"retrain_epochs": 5, "retrain_batch_size": 8} if "retrain_epochs" in values else {}
            options = changed(cell.options, {each: value for each, value in values.items() if each in known})
            yield replace(cell, options=options)

    return replace(study, cells=cells)


def studied(name: str, root: Path, seeds: int = 1) -> Studied:
    return Studied(toy(name), "quick", seeds, root)
