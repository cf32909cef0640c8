"""Training: one loop, and recipes that say what it minimises. A new recipe is a file and a line in `RECIPES`."""

from evonas.training.loop import Recipe, TrainingConfig, train
from evonas.training.one_shot import OneShotConfig, OneShotTraining, draw_architecture
from evonas.training.precision import PRECISIONS, resolve_precision
from evonas.training.standard import standard
from evonas.training.trades import Trades
from evonas.training.yopo import TradesYopo

__all__ = [
    "PRECISIONS",
    "RECIPES",
    "OneShotConfig",
    "OneShotTraining",
    "Recipe",
    "Trades",
    "TradesYopo",
    "TrainingConfig",
    "draw_architecture",
    "resolve_precision",
    "standard",
    "train",
]

RECIPES: dict[str, Recipe] = {"standard": standard, "trades": Trades(), "trades_yopo": TradesYopo()}
"""Name -> recipe."""
