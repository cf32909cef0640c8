"""Training: one loop, and recipes for the loss it minimises. Add one with a file and a line in `RECIPES`."""

from typing import TYPE_CHECKING

from evonas.lazy import Table, import_lazily

if TYPE_CHECKING:
    from evonas.training.adversarial import AdversarialRecipe
    from evonas.training.cells import IMAGENET_CELLS, CellPreset, CellTraining
    from evonas.training.checkpoints import EpochTraining, load_checkpoint, stored_identity, train_epochs
    from evonas.training.crown_ibp import CrownIbp
    from evonas.training.fgsm_rs import FastAdversarial, fast_adversarial_images
    from evonas.training.gaussian import Gaussian
    from evonas.training.ibp import Ibp
    from evonas.training.loop import EpochRecipe, Recipe, Training, train, whole
    from evonas.training.one_shot import OneShotTraining, draw_architecture
    from evonas.training.pgd_at import PgdTraining
    from evonas.training.precision import resolve_precision
    from evonas.training.radius import recipe_within
    from evonas.training.settings import PRECISIONS, OneShotConfig, TrainingConfig, TrainingPrecision
    from evonas.training.standard import standard
    from evonas.training.trades import Trades
    from evonas.training.trades_awp import TradesAwp
    from evonas.training.yopo import TradesYopo

__all__ = [
    "IMAGENET_CELLS",
    "PRECISIONS",
    "RECIPES",
    "AdversarialRecipe",
    "CellPreset",
    "CellTraining",
    "CrownIbp",
    "EpochRecipe",
    "EpochTraining",
    "FastAdversarial",
    "Gaussian",
    "Ibp",
    "OneShotConfig",
    "OneShotTraining",
    "PgdTraining",
    "Recipe",
    "Trades",
    "TradesAwp",
    "TradesYopo",
    "Training",
    "TrainingConfig",
    "TrainingPrecision",
    "draw_architecture",
    "fast_adversarial_images",
    "load_checkpoint",
    "recipe_within",
    "resolve_precision",
    "standard",
    "stored_identity",
    "train",
    "train_epochs",
    "whole",
]

RECIPES: "Table[Recipe]" = Table(
    {
        "cells": "evonas.training.cells:CellTraining()",
        "crown_ibp": "evonas.training.crown_ibp:CrownIbp()",
        "fast_adversarial": "evonas.training.fgsm_rs:FastAdversarial()",
        "gaussian": "evonas.training.gaussian:Gaussian()",
        "ibp": "evonas.training.ibp:Ibp()",
        "pgd_at": "evonas.training.pgd_at:PgdTraining()",
        "standard": "evonas.training.standard:standard",
        "trades": "evonas.training.trades:Trades()",
        "trades_awp": "evonas.training.trades_awp:TradesAwp()",
        "trades_yopo": "evonas.training.yopo:TradesYopo()",
    }
)
"""Name -> recipe with its default settings."""

import_lazily(__name__)
