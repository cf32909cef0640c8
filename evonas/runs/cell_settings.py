"""At which width and depth cells are scored, and how they are trained again."""

import math
from dataclasses import dataclass

from evonas.attacks import PGD
from evonas.errors import ConfigurationError, choose
from evonas.networks.darts import GENOTYPES
from evonas.training import CellTraining, TrainingConfig

__all__ = ["CellRetrainSettings", "CellSettings"]


@dataclass(frozen=True, kw_only=True)
class CellSettings:
    """The network that the cells found are scored in, on the validation part; every method's rows compare by it."""

    eval_channels: int = 36
    """Of a node of its first cell."""
    eval_layers: int = 20
    """Its cells."""


@dataclass(frozen=True, kw_only=True)
class CellRetrainSettings:
    """Training the cells again after the search (DARTS's evaluation), scored on the test part."""

    retrain: bool = False
    """After the search, train the cells in a large network and score it on test images."""
    retrain_channels: int | None = None
    """Of a node of its first cell; those of the scored network, unless given."""
    retrain_params: float | None = None
    """Instead: the width whose network comes nearest to so many millions of parameters (E2RNAS's C46 ... C12)."""
    retrain_layers: int | None = None
    """Its cells; those of the scored network, unless given."""
    retrain_epochs: int = 600
    retrain_batch_size: int = 96
    retrain_lr: float = 0.025
    """Of the first epoch; falls to 0 along a cosine."""
    retrain_weight_decay: float = 3e-4
    auxiliary: float = 0.4
    """Weight of the auxiliary head's loss; 0: no such head."""
    drop_path: float = 0.2
    """Chance of an edge to be left out; it grows to this over the epochs."""
    cutout: int = 16
    """Side of the square that is cut out of training images, in pixels; 0: none."""
    retrain_precision: str = "auto"
    """auto, fp32 or bf16."""
    test_epsilon: float = 2 / 255
    """Radius of the PGD that it is scored under (E2RNAS)."""
    test_steps: int = 10
    test_step_size: float = 5 / 255
    """Length of its steps: the papers' literal 2.5 epsilon, longer than the radius."""
    test_limit: int | None = None
    """Score on a class-balanced subset of so many test images."""
    against: tuple[str, ...] = ()
    """Published cells trained and scored beside: DARTS_V1, DARTS_V2, PDARTS, PC_DARTS_cifar, PC_DARTS_image."""

    def __post_init__(self) -> None:
        if self.retrain_channels is not None and self.retrain_params is not None:
            raise ConfigurationError(
                f"expected --retrain-channels or --retrain-params, got both: {self.retrain_channels} and "
                f"{self.retrain_params}"
            )
        for name in ("retrain_channels", "retrain_layers", "retrain_epochs", "retrain_batch_size", "test_limit"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ConfigurationError(f"expected {name} >= 1, got {getattr(self, name)}")
        for name in ("retrain_params", "retrain_lr", "test_epsilon", "test_step_size", "test_steps"):
            if getattr(self, name) is not None and not 0 < getattr(self, name) < math.inf:
                raise ConfigurationError(f"expected {name} > 0, got {getattr(self, name)}")
        if not self.auxiliary >= 0 or not 0 <= self.drop_path < 1 or self.cutout < 0:
            raise ConfigurationError(
                f"expected auxiliary >= 0, drop_path in [0, 1) and cutout >= 0, got {self.auxiliary}, "
                f"{self.drop_path} and {self.cutout}"
            )
        self.training(self.retrain_precision)  # it checks the others
        for name in self.against:
            choose(GENOTYPES, name, "published cells")
        if len(set(self.against)) < len(self.against):
            raise ConfigurationError(f"expected every one of --against once, got {','.join(self.against)}")
        if self.against and not self.retrain:
            raise ConfigurationError(f"expected --retrain with --against, got --against {','.join(self.against)} alone")

    def training(self, precision: str) -> TrainingConfig:
        return TrainingConfig(
            epochs=self.retrain_epochs,
            batch_size=self.retrain_batch_size,
            lr=self.retrain_lr,
            weight_decay=self.retrain_weight_decay,
            precision=precision,
        )

    @property
    def recipe(self) -> CellTraining:
        return CellTraining(auxiliary_weight=self.auxiliary, drop_path=self.drop_path)

    @property
    def attack(self) -> PGD:
        """From the clean image; the last iterate counts."""
        return PGD(epsilon=self.test_epsilon, step_size=self.test_step_size, steps=self.test_steps)
