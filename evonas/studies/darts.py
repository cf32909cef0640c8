"""The tables of DARTS, P-DARTS and PC-DARTS: the baselines that the other papers of cells compare with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from evonas.studies.cells import CELL_MEASURES, cell_run, check_cells, found_cells, imagenet_run, picture
from evonas.studies.grid import Cell
from evonas.studies.study import Item, Row, Study
from evonas.studies.tables import Measure, PaperTable

__all__ = ["STUDY"]

FIRST, SECOND, PDARTS, PCDARTS = "DARTS (1st order)", "DARTS (2nd order)", "P-DARTS search", "PC-DARTS search"
PAIRS = ((SECOND, FIRST), (PDARTS, SECOND), (PCDARTS, SECOND))
PUBLISHED = ("DARTS_V1", "DARTS_V2", "PDARTS", "PC_DARTS_cifar")

TABLE = """
DARTS (1st order) | 3.00 +- 0.14 | 3.3 | - | - | - | 1.5
DARTS (2nd order) | 2.76 +- 0.09 | 3.3 | - | - | - | 4.0
P-DARTS search    | 2.50         | 3.4 | - | - | - | 0.3
PC-DARTS search   | 2.57 +- 0.07 | 3.6 | - | - | - | 0.1
DARTS_V1          | 3.00 +- 0.14 | 3.3 | - | - | - | -
DARTS             | 2.76 +- 0.09 | 3.3 | - | - | - | -
P-DARTS           | 2.50         | 3.4 | - | - | - | -
PC-DARTS          | 2.57 +- 0.07 | 3.6 | - | - | - | -
"""
IMAGENET = """
DARTS on ImageNet    | 26.7 | 8.7 | 4.7 | 574
P-DARTS on ImageNet  | 24.4 | 7.4 | 4.9 | 557
PC-DARTS on ImageNet | 25.1 | 7.8 | 5.3 | 586
"""
IMAGENET_MEASURES = (
    Measure("Top-1 error %", "top1_error", 100),
    Measure("Top-5 error %", "top5_error", 100),
    Measure("Params M", "params", 1e-6, 2),
    Measure("MACs M", "macs", 1e-6, 0),
)


def cells(preset: str, seeds: int) -> Iterator[Cell]:
    for seed in range(seeds):
        yield cell_run(FIRST, "darts", preset, seed, order=1, published=PUBLISHED)
        yield cell_run(SECOND, "darts", preset, seed, order=2)
        yield cell_run(PDARTS, "darts", preset, seed, method="pdarts")
        yield cell_run(PCDARTS, "darts", preset, seed, method="pcdarts")
        if preset == "paper":
            for name, published in (("DARTS", "DARTS_V2"), ("P-DARTS", "PDARTS"), ("PC-DARTS", "PC_DARTS_cifar")):
                yield imagenet_run(f"{name} on ImageNet", seed, published)


def read(folder: Path, cell: Cell) -> list[Row]:
    return found_cells(folder, cell)


STUDY = Study(
    name="darts",
    paper="DARTS (Liu et al., 2019), P-DARTS (Chen et al., 2019) and PC-DARTS (Xu et al., 2020).",
    cells=cells,
    read=read,
    check=check_cells,
    notes=(
        "Tables and figures are numbered as in DARTS. Those of P-DARTS and PC-DARTS are not made one by one: what both "
        "report on CIFAR-10 and ImageNet stands in Tables 1 and 3.",
    ),
    items=(
        Item(
            "Table 1",
            "the three methods' own results on CIFAR-10, and their published cells under our training",
            "in the preset paper trained on all images after a search on 42,500; scored once on the test part, the "
            "papers report the best of several searches by validation",
            tables=PaperTable("Table 1", "cells on test images", CELL_MEASURES, TABLE, pairs=PAIRS),
        ),
        Item("Table 2", "recurrent cells on Penn Treebank", "not made: recurrent cells are not searched here"),
        Item(
            "Table 3",
            "published cells on ImageNet (DARTS's numbering)",
            "only in the preset paper, which needs the images",
            tables=PaperTable("Table 3", "cells on val/", IMAGENET_MEASURES, IMAGENET, role="imagenet"),
        ),
        Item("Fig. 4", "cells found by DARTS", "of the first finished seed", draw=picture(SECOND, "genotype.png")),
    ),
)
