"""Tables and pictures of a run."""

from evonas.report.cell_tables import cell_table
from evonas.report.drawing import draw_genotype
from evonas.report.gradient_figures import plot_alpha, plot_search, search_table, write_search_csv
from evonas.report.joint import JointFront, JointRun, joint_front, write_joint
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
    "JointFront",
    "JointRun",
    "Searched",
    "TextTable",
    "agreement_table",
    "cell_table",
    "draw_genotype",
    "duration",
    "final_table",
    "folded",
    "front",
    "handmade_table",
    "history",
    "joint_front",
    "layer_table",
    "objective_values",
    "plot_alpha",
    "plot_front",
    "plot_history",
    "plot_images",
    "plot_layers",
    "plot_search",
    "population_table",
    "rank_agreement",
    "read_genomes",
    "retrained_table",
    "roco_tables",
    "search_table",
    "shown",
    "transfer_table",
    "write_figures",
    "write_finalised",
    "write_joint",
    "write_layers",
    "write_retrained",
    "write_search_csv",
    "write_tables",
]
