"""What TAM-NAS is run with: the command line is made from it, and config.json keeps it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from evonas.errors import ConfigurationError, choose
from evonas.objectives import OBJECTIVES, AdversarialSetError
from evonas.runs.beginning import settings_as_json, settings_from_json
from evonas.runs.execution import ExecutionSettings
from evonas.runs.finalise_settings import FinaliseSettings
from evonas.runs.objectives import AttackSettings, CertifySettings
from evonas.search import EvolutionConfig
from evonas.spaces import ShuffleSpace
from evonas.training import RECIPES, OneShotConfig, Recipe, Trades, TradesYopo, standard
from evonas.training.yopo import yopo_step

__all__ = ["OBJECTIVES_OF_TAM", "TAM_PRESETS", "YOPO_LOOPS", "TamSettings", "tam_as_json", "tam_from_config"]

OBJECTIVES_OF_TAM = ("clean_error", "pgd_error", "params")
"""TAM-NAS, III-E."""

YOPO_LOOPS = {1: (1, 1), 2: (2, 1), 5: (3, 2), 10: (5, 3)}
"""Attack steps that a supernet is trained against (superscripts of Tables II to V) -> (m, n)."""


@dataclass(frozen=True, kw_only=True)
class TamSettings:
    """TAM-NAS: one adversarially trained supernet, and the tiny robust networks that a search finds in it."""

    preset: Literal["quick", "paper"] = "quick"
    """quick: minutes on two cores. paper: TAM-NAS's IV-A."""
    data: str = "auto"
    """auto (CIFAR-10 where it is, else digits), digits, cifar10, cifar100, svhn, mnist, fashion_mnist or npz:PATH."""
    data_root: Path | None = None
    """Where data sets lie or are downloaded to; else the variable EVONAS_DATA, else ./data."""
    ood_data: str = "auto"
    """For ood_aupr, images of none of the classes: a data set's name, noise, or auto (SVHN where it is)."""
    train_limit: int | None = None
    """Train on a class-balanced subset of so many images."""
    val_limit: int | None = None
    """Rank on a class-balanced subset of so many images."""
    split_seed: int | None = None
    """Seed of the data's parts; the run's own, unless given."""
    width: float = 1.0
    """Factor on the channels of Table I."""
    depth: float = 1.0
    """Factor on the blocks of stride 1 in each stage; at least one stays."""
    intermediate: int = 1
    """2 doubles the channels inside every block: the supernet 2S."""
    window: tuple[float, float] | None = (1.61e6, 2.37e6)
    """Parameters of feasible networks, with 10 classes and the full plan; scales with width and depth. None: any."""
    crossover_kind: str = "uniform"
    """uniform (gene by gene) or one_point."""
    crossover_rate: float = 0.9
    mutation_rate: float = 0.1
    """Chance of every gene to be drawn anew (III-E2)."""
    supernet_recipe: Literal["trades_yopo", "trades", "standard"] = "trades_yopo"
    """What the supernet's training minimises."""
    supernet_epsilon: float = 8 / 255
    """Radius of its attack: the subscript of S in Tables II to V."""
    supernet_steps: int = 10
    """Steps of its attack, the superscript; for 1, 2, 5, 10 TRADES-YOPO's (m, n) are (1, 1), (2, 1), (3, 2), (5, 3)."""
    supernet_step: float | None = None
    """Length of a step; 0.007 for a radius of 0.031, and in proportion, unless given."""
    supernet_balance: float = 1.0
    """lambda of Eq. 3."""
    supernet: OneShotConfig = field(default_factory=OneShotConfig)
    recalibration_batches: int = 200
    """Batches of train images that each candidate's batch statistics are measured on."""
    recalibration_batch_size: int = 128
    search: EvolutionConfig = field(
        default_factory=lambda: EvolutionConfig(population=50, objectives=OBJECTIVES_OF_TAM, tournament=10)
    )
    attacks: AttackSettings = field(default_factory=AttackSettings)
    certify: CertifySettings = field(default_factory=CertifySettings)
    after: FinaliseSettings = field(default_factory=FinaliseSettings)
    execution: ExecutionSettings = field(default_factory=ExecutionSettings)
    out: Path | None = None
    """The run's folder; runs/tam-DATA-PRESET-seedN unless given."""
    retry_failed: bool = False
    """Evaluate again what the journal has as failed."""

    def __post_init__(self) -> None:
        self.space(32)
        self.recipe()
        for name in self.search.objectives:
            choose(OBJECTIVES, name, "objective")
        self.certify.check_used(self.search.objectives)
        if AdversarialSetError.name in self.search.objectives:
            raise ConfigurationError(
                f"expected objectives without a set for TAM-NAS, got {AdversarialSetError.name}; see roco_cifar10.py"
            )
        for name in ("recalibration_batches", "recalibration_batch_size"):
            if getattr(self, name) < 1:  # before a supernet is trained
                raise ConfigurationError(f"expected {name} >= 1, got {getattr(self, name)}")

    def space(self, image_size: int) -> ShuffleSpace:
        return ShuffleSpace(
            self.width,
            self.depth,
            self.intermediate,
            self.window,
            self.crossover_kind,
            self.crossover_rate,
            self.mutation_rate,
            image_size,
        )

    def recipe(self) -> Recipe:
        """What the supernet's training minimises."""
        choose(RECIPES, self.supernet_recipe, "recipe")
        if self.supernet_recipe == "standard":
            return standard
        step = yopo_step(self.supernet_epsilon) if self.supernet_step is None else self.supernet_step
        if self.supernet_recipe == "trades":
            return Trades(
                epsilon=self.supernet_epsilon, step=step, steps=self.supernet_steps, balance=self.supernet_balance
            )
        if self.supernet_steps not in YOPO_LOOPS:
            raise ConfigurationError(
                f"expected --supernet-steps {', '.join(map(str, YOPO_LOOPS))} with trades_yopo, "
                f"got {self.supernet_steps}"
            )
        m, n = YOPO_LOOPS[self.supernet_steps]
        return TradesYopo(epsilon=self.supernet_epsilon, step=step, m=m, n=n, balance=self.supernet_balance)


TAM_PRESETS = {
    "quick": TamSettings(
        train_limit=1500,
        val_limit=250,
        width=1 / 3,
        depth=0.1,
        supernet_steps=2,
        supernet=OneShotConfig(
            block_epochs=4,
            joint_epochs=8,
            resample_epochs=1,
            sampling="batches",
            supernet_batch_size=32,
            block_milestones=(),
            joint_milestones=(5, 7),
            first_ratio_epochs=1,
        ),
        recalibration_batches=8,
        recalibration_batch_size=64,
        search=EvolutionConfig(population=10, generations=3, objectives=OBJECTIVES_OF_TAM, tournament=10),
        after=FinaliseSettings(
            finalise="scratch",
            finalise_top=3,
            finalise_epochs=5,
            finalise_batch_size=64,
            finalise_milestones=(4,),
            finalise_m=2,
            finalise_n=1,
            test_epsilons=(2, 8),
            test_steps=(10,),
            test_limit=200,
        ),
    ),
    "paper": TamSettings(preset="paper", after=FinaliseSettings(finalise="scratch")),
}
"""`paper` is every default: III-C and IV-A."""


def tam_from_config(config: Mapping[str, Any]) -> TamSettings:
    """The settings that a run's config.json holds."""
    return settings_from_json(TamSettings, config["settings"])


def tam_as_json(settings: TamSettings) -> dict[str, Any]:
    """Every setting as a plain value; see `settings_as_json`."""
    return settings_as_json(settings)
