"""Giving a candidate its weights and scoring it."""

from typing import TYPE_CHECKING

from evonas.lazy import import_lazily

if TYPE_CHECKING:
    from evonas.evaluation.evaluator import Evaluator
    from evonas.evaluation.host import TorchHost, out_of_memory
    from evonas.evaluation.look_up import LookUp, TableError, table_objectives
    from evonas.evaluation.prepare import BuildingSpace, Prepare, TrainFromScratch, TrainsCandidates
    from evonas.evaluation.slices import (
        SliceSupernet,
        SupernetWeights,
        load_supernet,
        recalibrate,
        recalibration_identity,
    )
    from evonas.evaluation.stages import check_early_stop, rungs
    from evonas.evaluation.table import ScoreTable, read_table

__all__ = [
    "BuildingSpace",
    "Evaluator",
    "LookUp",
    "Prepare",
    "ScoreTable",
    "SliceSupernet",
    "SupernetWeights",
    "TableError",
    "TorchHost",
    "TrainFromScratch",
    "TrainsCandidates",
    "check_early_stop",
    "load_supernet",
    "out_of_memory",
    "read_table",
    "recalibrate",
    "recalibration_identity",
    "rungs",
    "table_objectives",
]

import_lazily(__name__)
