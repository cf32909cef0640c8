"""Tables and pictures of a run."""

from typing import TYPE_CHECKING

from evonas.lazy import import_lazily

if TYPE_CHECKING:
    from evonas.report.audit_files import (
        AuditFiles,
        AuditRow,
        decisive,
        decisive_by_column,
        read_audit,
        with_earlier,
        write_audit,
        write_audit_table,
    )
    from evonas.report.audit_text import audit_lines, audit_text
    from evonas.report.chance import Chance, chance_notes, marked
    from evonas.report.choosing import Choice, Choosing, choose_networks
    from evonas.report.condition import Condition, read_condition
    from evonas.report.depictions import DEPICTIONS, Depiction, depiction_of, write_drawing
    from evonas.report.drawing import draw_genotype
    from evonas.report.joint import JointFront, JointRun, joint_front, shared_objectives, write_joint
    from evonas.report.optuna_journal import require_optuna, write_optuna_journal
    from evonas.report.output import write_rows
    from evonas.report.papers.darts import plot_alpha, plot_search, search_table, write_search_csv
    from evonas.report.papers.dsrna import measured_table, reported_tables
    from evonas.report.papers.e2rnas import cell_table
    from evonas.report.papers.roco import FIGURES, roco_tables, write_figures
    from evonas.report.papers.tam import (
        Agreement,
        agreement_table,
        final_table,
        handmade_table,
        layer_table,
        plot_layers,
        rank_agreement,
        transfer_table,
        write_finalised,
        write_layers,
    )
    from evonas.report.plots import plot_front, plot_history, plot_images
    from evonas.report.repeats import means_of_repeats, means_text, write_means
    from evonas.report.replicates import Replicates
    from evonas.report.retrained import retrained_table, write_retrained
    from evonas.report.table import (
        HistoryRow,
        Searched,
        front,
        front_text,
        history,
        knee_row,
        objective_values,
        population_table,
        rank_correlations,
        read_genomes,
        write_tables,
    )
    from evonas.report.tensorboard import require_tensorboard, write_tensorboard
    from evonas.report.text_table import TextTable, folded
    from evonas.report.units import duration, said, shown

__all__ = [
    "DEPICTIONS",
    "FIGURES",
    "Agreement",
    "AuditFiles",
    "AuditRow",
    "Chance",
    "Choice",
    "Choosing",
    "Condition",
    "Depiction",
    "HistoryRow",
    "JointFront",
    "JointRun",
    "Replicates",
    "Searched",
    "TextTable",
    "agreement_table",
    "audit_lines",
    "audit_text",
    "cell_table",
    "chance_notes",
    "choose_networks",
    "decisive",
    "decisive_by_column",
    "depiction_of",
    "draw_genotype",
    "duration",
    "final_table",
    "folded",
    "front",
    "front_text",
    "handmade_table",
    "history",
    "joint_front",
    "knee_row",
    "layer_table",
    "marked",
    "means_of_repeats",
    "means_text",
    "measured_table",
    "objective_values",
    "plot_alpha",
    "plot_front",
    "plot_history",
    "plot_images",
    "plot_layers",
    "plot_search",
    "population_table",
    "rank_agreement",
    "rank_correlations",
    "read_audit",
    "read_condition",
    "read_genomes",
    "reported_tables",
    "require_optuna",
    "require_tensorboard",
    "retrained_table",
    "roco_tables",
    "said",
    "search_table",
    "shared_objectives",
    "shown",
    "transfer_table",
    "with_earlier",
    "write_audit",
    "write_audit_table",
    "write_drawing",
    "write_figures",
    "write_finalised",
    "write_joint",
    "write_layers",
    "write_means",
    "write_optuna_journal",
    "write_retrained",
    "write_rows",
    "write_search_csv",
    "write_tables",
    "write_tensorboard",
]

import_lazily(__name__)
