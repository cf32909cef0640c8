"""All methods on one data set: one front for each seed, which method's networks are on it, and what its search cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from evonas.methods import method_module
from evonas.methods.roco import PRESETS as ROCO
from evonas.report import JointFront, TextTable, joint_front
from evonas.report.joint import joint_figure
from evonas.report.output import write_png
from evonas.runs.folder import RunFolder, joint_run
from evonas.runs.options import changed
from evonas.studies.cells import check_cells, ood_data
from evonas.studies.grid import Cell
from evonas.studies.intervals import spread
from evonas.studies.study import Item, Row, Studied, Study, read_rows
from evonas.studies.tables import DASH, NOTE, spread_cell

__all__ = ["STUDY"]

OBJECTIVES = ("clean_error", "pgd_error", "params")
"""Columns of the joint front, which every method measures alike."""
ATTACKED = {"quick": 100, "small": 500, "paper": 1000}
"""Preset -> validation images that PGD attacks."""
SIZES: dict[str, dict[str, Any]] = {
    "quick": {"data": "digits", "train_limit": 300, "val_limit": 100},
    "small": {"data": "cifar10", "train_limit": 4000, "val_limit": 1000},
    "paper": {"data": "cifar10"},
}
"""One data set, divided alike in all runs."""
BUDGET = {"quick": 24, "small": 48}
"""Preset -> passes over the train part of a whole run: its search's, and those of the networks that it trains."""
WORK: dict[str, dict[str, dict[str, Any]]] = {
    "quick": {
        "evolution": {"population": 8, "generations": 2, "epochs": 1},
        "supernet": {"population": 8, "generations": 2, "block_epochs": 8, "joint_epochs": 16},
        "cells": {"search_epochs": 12, "epochs": 12, "search_channels": 4, "eval_channels": 4},
        "dsrna": {"metric_images": 4},
    },
    "small": {
        "evolution": {"population": 12, "generations": 3, "epochs": 1},
        "supernet": {"population": 12, "generations": 3, "block_epochs": 16, "joint_epochs": 32},
        "cells": {"search_epochs": 24, "epochs": 24},
    },
    "paper": {},
}
"""Preset -> kind of method, or method -> option -> value; each comes to the budget. The rate of a supernet falls after
half and three quarters of its second phase."""
KINDS = {"roco": "evolution", "tam": "supernet"}
"""Method -> kind; of the others cells."""
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "Baseline-NAS": ("roco", {"objectives": ("clean_error", "macs")}),
    "RoCo-NAS": ("roco", {"objectives": ("clean_error", "macs", "adversarial_set_error")}),
    "TAM-NAS": ("tam", {"finalise": ""}),
    "DARTS": ("darts", {}),
    "PC-DARTS": ("darts", {"method": "pcdarts"}),
    "E2RNAS v1": ("e2rnas", {"version": 1}),
    "E2RNAS v2": ("e2rnas", {"version": 2}),
    "DSRNA-CB": ("dsrna", {"metric": "bound"}),
    "DSRNA-Jacobian": ("dsrna", {"metric": "jacobian"}),
}
"""Name in the tables -> method and its options."""


def cells(preset: str, seeds: int) -> Iterator[Cell]:
    for seed in range(seeds):
        for name, (method, given) in METHODS.items():
            usual = ROCO if method == "roco" else method_module(method).PRESETS
            values = {**SIZES[preset], **given, "split_seed": 0, "seed": seed, "attack_images": ATTACKED[preset]}
            for kind in (KINDS.get(method, "cells"), method):
                values |= WORK[preset].get(kind, {})
            if "joint_epochs" in values:
                values["joint_milestones"] = (values["joint_epochs"] // 2, values["joint_epochs"] * 3 // 4)
            if method == "roco":
                values["white_box_images"] = values.pop("attack_images")
            values["supernet_precision" if method == "tam" else "precision"] = "fp32"  # one front takes no mixture
            options = changed(usual["paper" if preset == "paper" else "quick"], values)
            if preset == "paper" and "ood_data" not in options.unused():
                options = changed(options, {"ood_data": ood_data("cifar10")})
            yield Cell(group=name, method=method, options=options)


def read(folder: Path, cell: Cell) -> list[Row]:
    """The run's own front, and what its search took: seconds of evaluations, supernets and searches of cells."""
    seconds = sum(float(row.get("train_seconds", 0.0)) for row in read_rows(folder / "population.csv"))
    for path in (folder / "supernet.csv", *sorted(folder.glob("search*.csv"))):
        seconds += sum(float(row.get("seconds", 0.0)) for row in read_rows(path))
    return [{**row, "search_cost": seconds} for row in read_rows(folder / "front.csv")]


def fronts(studied: Studied) -> dict[int, JointFront]:
    """Seed -> the joint front of its finished runs."""
    found = {}
    for seed in range(studied.seeds):
        of = [cell for cell in studied.finished if cell.seed == seed]
        if of:
            runs = [joint_run(RunFolder(studied.root / cell.folder), cell.group) for cell in of]
            named = [replace(run, searched=replace(run.searched, method=run.name)) for run in runs]
            found[seed] = joint_front(named, OBJECTIVES)
    return found


def shares(studied: Studied) -> list[TextTable]:
    """One line a method: networks evaluated, those on the joint front, and the cost of its search."""
    counts = {seed: joint.counted("method") for seed, joint in fronts(studied).items()}
    lines = []
    for name in METHODS:
        own = [found[name] for found in counts.values() if name in found]
        costs = {row["seed"]: row["search_cost"] for row in studied.labelled(name)}
        cells = (
            spread_cell(spread(values), digits)
            for values, digits in (
                ([count for _, count in own], 1),
                ([first for first, _ in own], 1),
                (
                    [
                        100 * first / sum(each[0] for each in found.values())
                        for found in counts.values()
                        if name in found
                        for first in [found[name][0]]
                    ],
                    1,
                ),
                ([each / 60 for each in costs.values()], 2),
            )
        )
        lines.append((name, *cells))
    header = ("Method", "Networks", "On the joint front", "Share of it %", "Search, minutes of work")
    title = f"Joint front by {', '.join(OBJECTIVES)}; {studied.data('cifar10')}"
    cost = (
        "Search: time of all evaluations, of the supernet's training and of the cells' search, added up over workers; "
        "without the adversarial set, which is built once."
    )
    return [TextTable(title, header, tuple(lines), (NOTE, cost))]


def networks(studied: Studied) -> list[TextTable]:
    """The joint front of the first seed with a finished run."""
    joint = next(iter(fronts(studied).values()), None)
    header = ("Method", "Network", "Clean error %", "PGD error %", "Params M")
    if joint is None:
        return [TextTable("Networks on the joint front", header, ((DASH,) * len(header),))]
    lines = tuple(
        (
            str(row["method"]),
            str(row["arch_id"]),
            f"{100 * row['clean_error']:.2f}",
            f"{100 * row['pgd_error']:.2f}",
            f"{1e-6 * row['params']:.4f}",
        )
        for row in joint.front.to_dict("records")
    )
    about = tuple(f"{name}: {words}" for name, words in joint.about.items())
    return [TextTable(f"Networks on the joint front of the first seed, {joint.data}", header, lines, about)]


def picture(studied: Studied, path: Path) -> bool:
    joint = next(iter(fronts(studied).values()), None)
    if joint is None:
        return False
    write_png(path, joint_figure(joint))
    return True


STUDY = Study(
    name="joint",
    paper="All methods of the five papers on one data set, beyond the papers.",
    cells=cells,
    read=read,
    check=check_cells,
    notes=(
        "Errors are those of the searches, on the same validation images: networks of TAM-NAS inherit their weights, "
        "the others are trained from scratch. In quick and small every method passes over the training images "
        f"{BUDGET['quick']} and {BUDGET['small']} times in all, for its search and for the networks that it trains; in "
        "paper each has its own paper's schedule, so that there is no common budget. A pass of one costs more than a "
        "pass of another: the table has what each search took. All of it is computed in fp32, since errors of other "
        "precisions are not put on one front.",
        "All seeds share one division of the data, so that intervals cover the seeds of searches and trainings, not "
        "the choice of images.",
    ),
    items=(
        Item(
            "Table methods",
            "which method's networks are on the joint front, and its cost",
            "no paper has it; in the preset paper methods have no common budget",
            shares,
        ),
        Item("Table networks", "the joint front of the first seed", "no paper has it", networks),
        Item("Fig. front", "the joint front of the first seed", "no paper has it", draw=picture),
    ),
)
