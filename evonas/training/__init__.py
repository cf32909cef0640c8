"""Training: one loop, and recipes for the loss it minimises. Add one with a file and a line in `RECIPES`."""

from evonas.training.cells import IMAGENET_CELLS, CellPreset, CellTraining
from evonas.training.checkpoints import EpochTraining, load_checkpoint, stored_identity, train_epochs
from evonas.training.fgsm_rs import FastAdversarial, fast_adversarial_images
from evonas.training.loop import EpochRecipe, Recipe, Training, TrainingConfig, train, whole
from evonas.training.one_shot import OneShotConfig, OneShotTraining, draw_architecture
from evonas.training.precision import PRECISIONS, TrainingPrecision, resolve_precision
from evonas.training.standard import standard
from evonas.training.trades import Trades
from evonas.training.yopo import TradesYopo

__all__ = [
    "IMAGENET_CELLS",
    "PRECISIONS",
    "RECIPES",
    "CellPreset",
    "CellTraining",
    "EpochRecipe",
    "EpochTraining",
    "FastAdversarial",
    "OneShotConfig",
    "OneShotTraining",
    "Recipe",
    "Trades",
    "TradesYopo",
    "Training",
    "TrainingConfig",
    "TrainingPrecision",
    "draw_architecture",
    "fast_adversarial_images",
    "load_checkpoint",
    "resolve_precision",
    "standard",
    "stored_identity",
    "train",
    "train_epochs",
    "whole",
]

RECIPES: dict[str, Recipe] = {
    "cells": CellTraining(),
    "fast_adversarial": FastAdversarial(),
    "standard": standard,
    "trades": Trades(),
    "trades_yopo": TradesYopo(),
}
"""Name -> recipe with its default settings."""
