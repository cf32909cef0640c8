"""Trainings with learning curves that are computed, for tests of early stopping; importable by processes."""

from dataclasses import dataclass, replace

import numpy as np
from learnable import CONFIG as LEARNED
from learnable import OBJECTIVES as OBJECTIVES
from learnable import Ladder, error

from evonas.types import EvaluationResult, Genome, Reach

CONFIG = replace(LEARNED, surrogate=None, early_stop=True)
EPOCHS = 4
FALLS = {1: 0.5, 2: 0.25, 3: 0.1}
"""Rung -> how far the error still falls."""


@dataclass(frozen=True)
class Curved:
    """Errors of the ladder, at the rungs of four epochs higher by `FALLS`.

    Args:
        spread: share of the falls that differs from network to network.
        fails: whether networks fail: a sixth raises before its first rung, a sixth between two of them.
    """

    spread: float = 0.0
    fails: bool = False

    def __call__(self, genome: Genome, seed: int, reach: Reach) -> EvaluationResult:
        params = Ladder().cost(genome).params
        if self.fails and genome.sum() % 6 == 0:
            raise RuntimeError("diverged at once")
        for epoch, value in self.curve(genome, seed).items():
            if self.fails and epoch == 2 and genome.sum() % 6 == 1:
                raise RuntimeError("diverged")
            reach(epoch, EPOCHS, {"params": params, "clean_error": value})
        return EvaluationResult(tuple(genome), {"clean_error": error(genome), "params": params}, seed=seed)

    def curve(self, genome: Genome, seed: int) -> dict[int, float]:
        share = 1 - self.spread * np.random.default_rng(seed).random()
        return {epoch: error(genome) + share * fall for epoch, fall in FALLS.items()}
