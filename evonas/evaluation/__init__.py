"""Giving a candidate its weights and scoring it."""

from typing import TYPE_CHECKING

from evonas.lazy import import_lazily

if TYPE_CHECKING:
    from evonas.evaluation.evaluator import Evaluator
    from evonas.evaluation.host import TorchHost, out_of_memory
    from evonas.evaluation.prepare import BuildingSpace, Prepare, TrainFromScratch, TrainsCandidates
    from evonas.evaluation.slices import (
        SliceSupernet,
        SupernetWeights,
        load_supernet,
        recalibrate,
        recalibration_identity,
    )

__all__ = [
    "BuildingSpace",
    "Evaluator",
    "Prepare",
    "SliceSupernet",
    "SupernetWeights",
    "TorchHost",
    "TrainFromScratch",
    "TrainsCandidates",
    "load_supernet",
    "out_of_memory",
    "recalibrate",
    "recalibration_identity",
]

import_lazily(__name__)
