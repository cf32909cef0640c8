"""The audit of a front: networks trained again for longer and wider, and scored under a suite of attacks."""

from evonas.audit.cells import CellRetraining, CellScoring, width_for
from evonas.audit.finalise import Finalising, FinalNetwork, HandmadeSpace, PGDGrid
from evonas.audit.front import FrontNetwork, RetrainingWork
from evonas.audit.layers import LayerCount, layer_counts, lego_genome
from evonas.audit.records import RetrainedRecords, digest
from evonas.audit.retrain import AtWidth, NetworkScoring, NetworkTraining, Retraining, Scoring, WidthSpace
from evonas.audit.suite import SUITE, SuiteColumn, require_libraries, suite_columns

__all__ = [
    "SUITE",
    "AtWidth",
    "CellRetraining",
    "CellScoring",
    "FinalNetwork",
    "Finalising",
    "FrontNetwork",
    "HandmadeSpace",
    "LayerCount",
    "NetworkScoring",
    "NetworkTraining",
    "PGDGrid",
    "RetrainedRecords",
    "Retraining",
    "RetrainingWork",
    "Scoring",
    "SuiteColumn",
    "WidthSpace",
    "digest",
    "layer_counts",
    "lego_genome",
    "require_libraries",
    "suite_columns",
    "width_for",
]
