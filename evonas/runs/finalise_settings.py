"""How what a one-shot search found is trained to the end and scored: the command line is made from it."""

import math
from dataclasses import dataclass, replace
from typing import Literal

from evonas.audit import HandmadeSpace, PGDGrid
from evonas.errors import ConfigurationError
from evonas.training import TradesYopo, TrainingConfig
from evonas.training.yopo import yopo_step

__all__ = ["FinaliseSettings"]


@dataclass(frozen=True, kw_only=True)
class FinaliseSettings:
    """Training the front to the end after the search (TAM-NAS, III-F and IV-A3), and scoring it."""

    finalise: Literal["", "scratch", "finetune", "both"] = ""
    """After the search, train the front's networks from scratch, with the supernet's weights, or both ways."""
    finalise_top: int | None = None
    """Only so many networks of the front: the best by the sum of their ranks by clean and by PGD error."""
    finalise_epochs: int = 100
    """Passes over the train part."""
    finalise_batch_size: int = 512
    """Images of a step."""
    finalise_lr: float = 0.1
    """Learning rate of the first epoch."""
    finalise_milestones: tuple[int, ...] = (20, 40, 80)
    """Epochs after which the learning rate is a tenth of what it was."""
    finalise_weight_decay: float = 5e-3
    finalise_precision: str = "auto"
    """auto, fp32 or bf16; auto never takes bf16 on a CPU, where depthwise convolutions lose by it."""
    finalise_m: int = 5
    """TRADES-YOPO: passes through the whole network."""
    finalise_n: int = 3
    """TRADES-YOPO: steps in the first layer after each of them."""
    finalise_epsilon: float = 8 / 255
    """TRADES-YOPO: radius of the L-inf ball, pixels in [0, 1]."""
    finalise_step: float | None = None
    """TRADES-YOPO: length of a step; 0.007 for a radius of 0.031, and in proportion, unless given."""
    test_epsilons: tuple[int, ...] = (2, 4, 6, 8)
    """Radii of the PGD that networks are scored under, in 255ths of the pixel range (Tables II to V)."""
    test_steps: tuple[int, ...] = (10, 30, 50)
    """Steps of that PGD; every radius is tried with each."""
    test_step_size: float = 2 / 255
    """Length of its steps."""
    test_limit: int | None = None
    """Score on a class-balanced subset of so many test images."""
    handmade: tuple[str, ...] = ()
    """Hand-made networks under the same recipe, with Table X's columns: ResNet-18, ShuffleNetV2, MobileNetV3."""
    handmade_width: float = 1.0
    """Factor on their channels, for quick runs."""
    handmade_steps: tuple[int, ...] = (20, 100)
    """Steps of Table X's PGD with a radius of 8/255; with the last, 2/255 is tried, too."""
    lego: bool = False
    """Train the network of the layers' most frequent blocks and ratios, too (IV-E3: Lego-Net)."""
    layers_top: int = 10
    """How many networks the statistics of layers are over: the best of the front (Figures 8 and 9)."""

    def __post_init__(self) -> None:
        for name in ("finalise_top", "layers_top", "test_limit"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ConfigurationError(f"expected {name} >= 1, got {getattr(self, name)}")
        for name in ("test_epsilons", "test_steps", "handmade", "handmade_steps"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ConfigurationError(f"expected every one of {name} once, got {getattr(self, name)}")
            if name != "handmade" and min(getattr(self, name), default=0) < 1:
                raise ConfigurationError(f"expected {name} >= 1 and at least one, got {getattr(self, name)}")
        if not 0 < self.test_step_size < math.inf:
            raise ConfigurationError(f"expected test_step_size > 0, got {self.test_step_size}")
        self.training(self.finalise_precision)  # it checks them
        self.recipe()
        for name in self.handmade:
            HandmadeSpace(name, self.handmade_width)
        if not self.finalise and (self.handmade or self.lego):
            asked = "--lego" if self.lego else f"--handmade {','.join(self.handmade)}"
            raise ConfigurationError(f"expected --finalise scratch, finetune or both with {asked}, got {asked} alone")

    @property
    def grid(self) -> PGDGrid:
        """The columns of Tables II to V."""
        attacks = tuple((steps, epsilon) for steps in self.test_steps for epsilon in self.test_epsilons)
        return PGDGrid(attacks=attacks, step_size=self.test_step_size, test_limit=self.test_limit)

    @property
    def grids(self) -> tuple[PGDGrid, ...]:
        """What is scored: `grid`, and where there are hand-made networks the columns of Table X."""
        if not self.handmade:
            return (self.grid,)
        attacks = (*((steps, 8) for steps in self.handmade_steps), (self.handmade_steps[-1], 2))
        return self.grid, replace(self.grid, attacks=attacks)

    def recipe(self) -> TradesYopo:
        step = yopo_step(self.finalise_epsilon) if self.finalise_step is None else self.finalise_step
        return TradesYopo(epsilon=self.finalise_epsilon, step=step, m=self.finalise_m, n=self.finalise_n)

    def training(self, precision: str) -> TrainingConfig:
        return TrainingConfig(
            epochs=self.finalise_epochs,
            batch_size=self.finalise_batch_size,
            lr=self.finalise_lr,
            weight_decay=self.finalise_weight_decay,
            milestones=self.finalise_milestones,
            grad_clip=math.inf,
            precision=precision,
        )
