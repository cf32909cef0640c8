"""Giving a candidate its weights and scoring it."""

from evonas.evaluation.evaluator import Evaluator
from evonas.evaluation.host import TorchHost, out_of_memory
from evonas.evaluation.prepare import BuildingSpace, Prepare, TrainFromScratch

__all__ = ["BuildingSpace", "Evaluator", "Prepare", "TorchHost", "TrainFromScratch", "out_of_memory"]
