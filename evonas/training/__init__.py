"""Training: one loop, and recipes that say what it minimises. A new recipe is a file and a line in `RECIPES`."""

from evonas.training.loop import Recipe, TrainingConfig, train
from evonas.training.precision import PRECISIONS, resolve_precision
from evonas.training.standard import standard

__all__ = ["PRECISIONS", "RECIPES", "Recipe", "TrainingConfig", "resolve_precision", "standard", "train"]

RECIPES: dict[str, Recipe] = {"standard": standard}
"""Name -> recipe."""
