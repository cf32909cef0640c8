"""Giving a candidate its weights and scoring it."""

from evonas.evaluation.evaluator import Evaluator
from evonas.evaluation.prepare import BuildingSpace, Prepare, TrainFromScratch

__all__ = ["BuildingSpace", "Evaluator", "Prepare", "TrainFromScratch"]
