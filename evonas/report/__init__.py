"""Tables and pictures of a run."""

from evonas.report.plots import plot_front, plot_history
from evonas.report.table import HistoryRow, Searched, front, population_table, read_genomes, write_table
from evonas.report.units import duration, shown

__all__ = [
    "HistoryRow",
    "Searched",
    "duration",
    "front",
    "plot_front",
    "plot_history",
    "population_table",
    "read_genomes",
    "shown",
    "write_table",
]
