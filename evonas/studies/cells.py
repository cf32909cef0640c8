"""Common parts of the studies of cells: sizes of their runs, the rows that these leave, and pictures of cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from evonas.files import exists, replace_file
from evonas.methods import method_module
from evonas.runs.needs import options_of
from evonas.runs.options import changed
from evonas.studies.grid import Cell
from evonas.studies.study import Row, Studied, read_rows
from evonas.studies.tables import Measure

__all__ = [
    "CELL_MEASURES",
    "PUBLISHED",
    "SIZES",
    "budgets",
    "cell_run",
    "check_cells",
    "found_cells",
    "imagenet_run",
    "ood_data",
    "picture",
]

SIZES: Mapping[str, Mapping[str, Any]] = {
    "quick": {
        "data": "digits",
        "train_limit": 300,
        "val_limit": 100,
        "search_epochs": 2,
        "search_channels": 4,
        "eval_channels": 4,
        "epochs": 2,
        "retrain_epochs": 2,
        "test_limit": 60,
    },
    "small": {
        "train_limit": 6000,
        "val_limit": 1000,
        "search_epochs": 8,
        "retrain_channels": 12,
        "retrain_layers": 5,
        "retrain_epochs": 12,
        "retrain_batch_size": 64,
        "cutout": 16,
        "test_limit": 1000,
    },
    "paper": {"train_on": "all"},
}
"""Preset -> option -> value, over the method's preset quick, or paper."""

WIDTHS = {"quick": 1 / 250, "small": 1 / 60, "paper": 1.0}
"""Preset -> factor on the papers' numbers of parameters, whose networks have 20 cells."""

CELL_MEASURES = (
    Measure("Test error %", "clean_error", 100),
    Measure("Params M", "params", 1e-6, 4),
    Measure("FLOPs M", "paper_flops", 1e-6, 1),
    Measure("PGD acc. %", "pgd_error", -100),
    Measure("OoD AUPR %", "ood_aupr", 100),
    Measure("Search days", "search_seconds", 1 / 86_400, 4),
)
"""Columns of networks of cells that were trained again."""

PUBLISHED = {"DARTS_V1": "DARTS_V1", "DARTS_V2": "DARTS", "PDARTS": "P-DARTS", "PC_DARTS_cifar": "PC-DARTS"}
"""Published cells -> their label."""


def budgets(preset: str, *millions: float) -> tuple[float, ...]:
    """Numbers of parameters in millions, scaled to the preset's networks."""
    return tuple(WIDTHS[preset] * each for each in millions)


def ood_data(role: str) -> str:
    """Out-of-distribution images of a data set in `paper`: SVHN, E2RNAS's, but where that shows the same classes."""
    return "cifar10" if role in ("svhn", "mnist") else "svhn"


def cell_run(group: str, method: str, preset: str, seed: int, role: str = "cifar10", /, **given: Any) -> Cell:
    """A search of cells whose cells are trained again.

    Args:
        role: the paper's data set; quick has digits in its place.
        given: option -> value, over the preset's.
    """
    presets = method_module(method).PRESETS
    usual = presets["paper" if preset == "paper" else "quick"]
    sizes = dict(SIZES[preset])
    if "retrain_params" in given:
        sizes.pop("retrain_channels", None)
    if preset == "paper":
        sizes["ood_data"] = ood_data(role)
    values = {"data": role, "retrain": True, **sizes, "seed": seed, **given}
    return Cell(group=group, method=method, options=_changed(usual, values), role=role)


def _changed(usual: Any, values: Mapping[str, Any]) -> Any:
    """`changed`, which leaves out what it does not know; an AttributeError names that."""
    unknown = values.keys() - {option.name for option in options_of(usual)}
    if unknown:
        raise AttributeError(f"{type(usual).__name__} has no option {', '.join(sorted(unknown))}")
    return changed(usual, values)


def imagenet_run(group: str, seed: int, cells: str = "", link: str = "", **given: Any) -> Cell:
    """Cells on ImageNet, published ones or those that an earlier run has found at `link`; the paper's settings.

    AUPR is measured where `given` names `ood_data`.
    """
    values = {"seed": seed, "cells": cells or "DARTS_V2", "ood_data": "", **given}
    options = _changed(method_module("imagenet").PRESETS["paper"], values)
    links = (("cells", link),) if link else ()
    return Cell(group=group, method="imagenet", options=options, role="imagenet", links=links)


def found_cells(folder: Path, cell: Cell, names: Mapping[str, Sequence[str]] | None = None) -> list[Row]:
    """A row a network that was trained again, with what `robust/` has of it, labelled.

    Args:
        names: configuration -> labels of its networks by their width; "" stands for the run's only search. The
            configuration itself, or the group of the only search, where it is not named.
    """
    if cell.method == "imagenet":
        return [{**row, **_imagenet_columns(row)} for row in read_rows(folder / "results.csv")]
    robust = {_key(row): row for row in read_rows(folder / "robust" / "retrained.csv")}
    rows = read_rows(folder / "retrained" / "retrained.csv")
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["configuration"], []).append({**row, **robust.get(_key(row), {})})
    own = [name for name in found if name not in PUBLISHED]
    labelled = []
    for name, networks in found.items():
        usual = PUBLISHED.get(name, cell.group if own == [name] else name)
        labels = (names or {}).get("" if own == [name] else name, (usual,))
        ordered = sorted(networks, key=lambda row: row["channels"])
        labelled += [{**row, "label": label} for row, label in zip(ordered, labels, strict=False)]
    return labelled


def _key(row: Row) -> tuple[Any, ...]:
    return row["configuration"], row["arch_id"], row["channels"]


def _imagenet_columns(row: Row) -> Row:
    """results.csv as the other tables have it."""
    return {"clean_error": row["top1_error"]} if "top1_error" in row else {}


def picture(group: str, name: str) -> Callable[[Studied, Path], bool]:
    """A figure that a run on CIFAR-10 has drawn already, of the first finished seed: `genotype.png`."""

    def draw(studied: Studied, path: Path) -> bool:
        of = [cell for cell in studied.finished if (cell.group, cell.role) == (group, "cifar10")]
        drawn = [studied.root / cell.folder / name for cell in of]
        there = next((each for each in drawn if exists(each)), None)
        if there is None:
            return False
        content = there.read_bytes()
        replace_file(path, lambda file: file.write(content))
        return True

    return draw


def check_cells() -> None:
    """ConfigurationError where the room of the gradient methods is missing."""
    method_module("darts")
