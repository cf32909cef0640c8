"""What the gradient methods are run with: the command lines are made from it, and config.json keeps it."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from evonas.errors import ConfigurationError, choose
from evonas.gradient import METHODS, ExpectedCost, FixedWeights, Method, Mgda, e2rnas_v1, e2rnas_v2
from evonas.gradient.method import Combine
from evonas.gradient.mgda import Normalisation
from evonas.objectives import OBJECTIVES, AdversarialSetError
from evonas.runs.cell_settings import CellRetrainSettings, CellSettings
from evonas.runs.execution import ExecutionSettings
from evonas.runs.gradient_levels import LevelSettings
from evonas.runs.objectives import AttackSettings, CertifySettings
from evonas.runs.robust_cells import RobustnessSettings
from evonas.spaces import DartsSpace
from evonas.training import TrainingConfig

__all__ = [
    "DARTS_PRESETS",
    "E2RNAS_PRESETS",
    "QUICK",
    "DartsSettings",
    "E2rnasSettings",
    "GradientSettings",
    "LevelSettings",
]


@dataclass(frozen=True, kw_only=True)
class GradientSettings:
    """What all searches by gradient have in common."""

    preset: Literal["quick", "paper"] = "quick"
    """quick: minutes on two cores. paper: the method's own schedule and networks."""
    data: str = "auto"
    """auto (CIFAR-10 where it is, else digits), digits, cifar10, cifar100, svhn, mnist, fashion_mnist or npz:PATH."""
    data_root: Path | None = None
    """Where data sets lie or are downloaded to; else the variable EVONAS_DATA, else ./data."""
    ood_data: str = "auto"
    """Images of none of the classes: a data set's name, noise, or auto (SVHN where it is, else what is there)."""
    train_limit: int | None = None
    """Train on a class-balanced subset of so many images."""
    val_limit: int | None = None
    """Score on a class-balanced subset of so many images."""
    split_seed: int | None = None
    """Seed of the data's parts; the run's own, unless given."""
    seed: int = 0
    repeats: int = 1
    """So many searches, each with a seed of its own that follows from `seed`; means and deviations are written."""
    levels: LevelSettings = field(default_factory=LevelSettings)
    objectives: tuple[str, ...] = ("clean_error", "pgd_error", "params")
    """Columns that the cells found are scored on, as those of every other search."""
    cells: CellSettings = field(default_factory=CellSettings)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """Of the network that is scored: the cells at the width and depth of `cells`."""
    attacks: AttackSettings = field(default_factory=AttackSettings)
    certify: CertifySettings = field(default_factory=CertifySettings)
    after: CellRetrainSettings = field(default_factory=CellRetrainSettings)
    execution: ExecutionSettings = field(default_factory=ExecutionSettings)
    out: Path | None = None
    """The run's folder; runs/METHOD-DATA-PRESET-seedN unless given."""
    retry_failed: bool = False
    """Score again what the journal has as failed."""

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise ConfigurationError(f"expected repeats >= 1, got {self.repeats}")
        for name in self.objectives:
            choose(OBJECTIVES, name, "objective")
        self.certify.check_used(self.objectives)
        if AdversarialSetError.name in self.objectives:
            raise ConfigurationError(
                f"expected objectives without a set for gradient methods, got {AdversarialSetError.name}; "
                "see roco_cifar10.py"
            )
        self.methods(32)

    def space(self, nodes: int, image_size: int) -> DartsSpace:
        """Of the networks that are scored."""
        return DartsSpace(self.cells.eval_channels, self.cells.eval_layers, nodes, image_size=image_size)

    def methods(self, image_size: int) -> dict[str, Method]:
        """Label -> a search of its own; the label is empty where there is one."""
        raise NotImplementedError

    def measured(self) -> RobustnessSettings | None:
        """What networks that are trained again are measured under besides."""
        return None


@dataclass(frozen=True, kw_only=True)
class DartsSettings(GradientSettings):
    """DARTS, PC-DARTS or P-DARTS finds cells by descent of the validation loss."""

    method: Literal["darts", "pcdarts", "pdarts"] = "darts"

    def methods(self, image_size: int) -> dict[str, Method]:
        return {"": self.levels.applied(METHODS[self.method]())}


@dataclass(frozen=True, kw_only=True)
class E2rnasSettings(GradientSettings):
    """E2RNAS finds cells by descent of several objectives: accurate, robust and of a wanted size."""

    version: Literal[1, 2] = 2
    """1: adversarial training below, two objectives above. 2: OoD training below, five objectives above."""
    base: Literal["darts", "pcdarts", "pdarts"] = "darts"
    """Whose supernet and schedule it is built on (version 2, Table IV)."""
    L: float | None = None
    """Millions of parameters: 1 in version 1, 2.5 (S1; 3.5 for S2) in version 2, unless given."""
    F: float = 425.0
    """Version 2: millions of FLOPs (425 for S1, 586 for S2)."""
    sweep_L: tuple[float, ...] = ()
    """One search for each of these L (version 1, Fig. 4), all in one table."""
    search_epsilon: float = 2 / 255
    """Radius of the adversarial losses, pixels in [0, 1]."""
    adversarial_below: bool | None = None
    """Adversarial training of weights: on in version 1 (Table 3: w/o adv), off in version 2 (Table VI: AT in LL)."""
    ood_below: bool = True
    """Version 2: OoD loss of the weights (Table VI: w/o OoD in LL)."""
    count_params: bool = True
    """Version 1: parameters as an objective (Table 3: w/o nop)."""
    mgda: bool = True
    """Weights by MGDA, else equal ones (Table 3, Table VI: w/o MGDA)."""
    normalisation: Normalisation | None = None
    """Of gradients before MGDA: none in version 1, l2 in version 2, unless given; loss and loss+ are there, too."""
    solver: Literal["exact", "frank_wolfe"] | None = None
    """Of MGDA: exact in version 1 (Eq. 11), frank_wolfe in version 2, unless given."""
    weights_on: Literal["raw", "normalised"] = "raw"
    """What MGDA's weights multiply; with normalised gradients only `normalised` is sure to descend."""
    cost_channels: int = 36
    """Width of the network whose parameters and FLOPs are expected."""
    cost_layers: int = 20
    """Its cells."""
    cost_affine: bool = True
    """Whether its batch normalisation counts."""

    def __post_init__(self) -> None:
        if self.sweep_L and self.L is not None:
            raise ConfigurationError(f"expected --L or --sweep-L, got both: {self.L} and {self.sweep_L}")
        if len({f"{limit:g}" for limit in self.sweep_L}) < len(self.sweep_L):
            raise ConfigurationError(f"expected L in --sweep-L that differ in six digits, got {self.sweep_L}")
        for unused, given in self._unused().items():
            if given:
                raise ConfigurationError(f"expected settings that this search uses, {unused} changes nothing here")
        super().__post_init__()

    def _unused(self) -> dict[str, bool]:
        """What says nothing to this version, and whether it was given."""
        first, weighted = self.version == 1, self.normalisation or self.solver or self.weights_on != "raw"
        return {
            "--F with version 1": first and self.F != 425.0,
            "--no-ood-below with version 1": first and not self.ood_below,
            "--no-count-params with version 2": not first and not self.count_params,
            "--L with --no-count-params": not self.count_params and bool(self.sweep_L or self.L is not None),
            "--normalisation, --solver or --weights-on with --no-mgda": not self.mgda and bool(weighted),
        }

    def methods(self, image_size: int) -> dict[str, Method]:
        usual = 1.0 if self.version == 1 else 2.5
        limits = {f"L{limit:g}": limit for limit in self.sweep_L} or {"": usual if self.L is None else self.L}
        return {label: self._method(limit, image_size) for label, limit in limits.items()}

    def _method(self, limit: float, image_size: int) -> Method:
        base = METHODS[self.base]()
        if self.base == "darts":
            base = replace(base, config=replace(base.config, order=2))  # Eq. 9
        base = self.levels.applied(replace(base, config=replace(base.config, begin_with="weights")))
        cost = ExpectedCost(
            channels=self.cost_channels,
            layers=self.cost_layers,
            nodes=base.nodes,
            image_size=image_size,
            affine=self.cost_affine,
        )
        first = self.version == 1
        mgda = Mgda(
            normalisation=self.normalisation or ("none" if first else "l2"),
            solver=self.solver or ("exact" if first else "frank_wolfe"),
            applied_to=self.weights_on,
        )
        combine: Combine = mgda if self.mgda else FixedWeights()
        below = first if self.adversarial_below is None else self.adversarial_below
        if first:
            return e2rnas_v1(base, limit, below, self.count_params, combine, self.search_epsilon, cost)
        return e2rnas_v2(base, limit, self.F, below, self.ood_below, combine, self.search_epsilon, cost)


QUICK = {
    "levels": LevelSettings(
        search_epochs=3, search_channels=8, search_layers=3, search_batch_size=32, portion=0.25, order=1, alpha_lr=0.02
    ),
    "train_limit": 800,
    "val_limit": 250,
    "cells": CellSettings(eval_channels=8, eval_layers=3),
    "training": TrainingConfig(epochs=5, batch_size=32, lr=0.05),
    "after": CellRetrainSettings(retrain_epochs=6, retrain_batch_size=32, cutout=8, test_limit=200),
}
"""For minutes on two cores: few images and cells, first order, and long steps of the architecture."""

DARTS_PRESETS = {"quick": DartsSettings(**QUICK), "paper": DartsSettings(preset="paper")}  # type: ignore[arg-type]
E2RNAS_PRESETS = {"quick": E2rnasSettings(**QUICK), "paper": E2rnasSettings(preset="paper")}  # type: ignore[arg-type]
"""`paper` is every default: the papers' schedules, and rows of 25 epochs at the width and depth of their evaluation."""
