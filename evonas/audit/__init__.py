"""The audit of a front: networks trained again for longer and wider, and scored under a suite of attacks."""

from evonas.audit.front import FrontNetwork, RetrainingWork
from evonas.audit.records import RetrainedRecords, digest
from evonas.audit.retrain import AtWidth, Retraining, Scoring, WidthSpace
from evonas.audit.suite import SUITE, SuiteColumn, require_libraries, suite_columns

__all__ = [
    "SUITE",
    "AtWidth",
    "FrontNetwork",
    "RetrainedRecords",
    "Retraining",
    "RetrainingWork",
    "Scoring",
    "SuiteColumn",
    "WidthSpace",
    "digest",
    "require_libraries",
    "suite_columns",
]
