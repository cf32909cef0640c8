"""Tables and pictures of a run."""

from evonas.report.plots import plot_front, plot_history
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
    "HistoryRow",
    "Searched",
    "duration",
    "front",
    "history",
    "objective_values",
    "plot_front",
    "plot_history",
    "population_table",
    "read_genomes",
    "shown",
    "write_tables",
]
