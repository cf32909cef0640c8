"""Tables and pictures of a run."""

from evonas.report.plots import plot_front, plot_history, plot_images
from evonas.report.roco_figures import FIGURES, write_figures
from evonas.report.roco_tables import TextTable, retrained_table, roco_tables, write_retrained
from evonas.report.table import (
    HistoryRow,
    Searched,
    front,
    history,
    objective_values,
    population_table,
    read_genomes,
    write_tables,
)
from evonas.report.units import duration, shown

__all__ = [
    "FIGURES",
    "HistoryRow",
    "Searched",
    "TextTable",
    "duration",
    "front",
    "history",
    "objective_values",
    "plot_front",
    "plot_history",
    "plot_images",
    "population_table",
    "read_genomes",
    "retrained_table",
    "roco_tables",
    "shown",
    "write_figures",
    "write_retrained",
    "write_tables",
]
