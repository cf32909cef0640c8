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
from evonas.report.tam_figures import plot_layers
from evonas.report.tam_tables import (
    Agreement,
    agreement_table,
    final_table,
    folded,
    handmade_table,
    layer_table,
    rank_agreement,
    transfer_table,
    write_finalised,
    write_layers,
)
from evonas.report.units import duration, shown

__all__ = [
    "FIGURES",
    "Agreement",
    "HistoryRow",
    "Searched",
    "TextTable",
    "agreement_table",
    "duration",
    "final_table",
    "folded",
    "front",
    "handmade_table",
    "history",
    "layer_table",
    "objective_values",
    "plot_front",
    "plot_history",
    "plot_images",
    "plot_layers",
    "population_table",
    "rank_agreement",
    "read_genomes",
    "retrained_table",
    "roco_tables",
    "shown",
    "transfer_table",
    "write_figures",
    "write_finalised",
    "write_layers",
    "write_retrained",
    "write_tables",
]
