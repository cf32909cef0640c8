"""What RoCo-NAS is run with: the command line is made from it, and config.json keeps it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from evonas.errors import choose
from evonas.objectives import OBJECTIVES, AdversarialSetError
from evonas.runs.beginning import settings_as_json, settings_from_json
from evonas.runs.execution import ExecutionSettings
from evonas.runs.objectives import AttackSettings, CertifySettings
from evonas.runs.retrain import RetrainSettings
from evonas.search import EvolutionConfig
from evonas.spaces import PhaseSpace
from evonas.training import TrainingConfig

__all__ = ["OBJECTIVES_OF_ROCO", "ROCO_PRESETS", "RocoSettings", "roco_as_json", "roco_from_config"]

OBJECTIVES_OF_ROCO = ("clean_error", "macs", AdversarialSetError.name)
"""RoCo-NAS, III-D. Without the third it is the paper's Baseline-NAS."""


@dataclass(frozen=True, kw_only=True)
class RocoSettings:
    """RoCo-NAS searches networks of phases that are accurate, small and hard to fool; a run keeps its own folder."""

    preset: Literal["quick", "paper"] = "quick"
    """quick: minutes on two cores. paper: RoCo-NAS's Tables and Section IV-A."""
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
    """Seed of the data's parts; the run's own, unless given. One for all runs lets them share an adversarial set."""
    adversarial_set: str = "auto"
    """The file of a set, or auto: the preset's set of these images, built where it is not there yet."""
    phases: int = 3
    """Computational blocks of a network (Table II)."""
    nodes: int = 6
    """Maximum computational units of a block (Table II)."""
    channels: int = 16
    """Width of the first block; doubles from block to block."""
    operators: str = "roco"
    """roco (whole blocks, the paper's text) or nsganet (bits, NSGA-Net's reference)."""
    mutation_rate: float | None = None
    """With nsganet: expected bit flips of a child, 0.157 unless given."""
    designs: tuple[str, ...] = ()
    """Hand-crafted genomes for the first population: chain, residual, dense, pair (the smallest network there is)."""
    init_from: str | None = None
    """Take the first population from an earlier run's folder or from a table of its genomes."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    search: EvolutionConfig = field(default_factory=lambda: EvolutionConfig(objectives=OBJECTIVES_OF_ROCO))
    attacks: AttackSettings = field(default_factory=AttackSettings)
    certify: CertifySettings = field(default_factory=CertifySettings)
    after: RetrainSettings = field(default_factory=RetrainSettings)
    execution: ExecutionSettings = field(default_factory=ExecutionSettings)
    out: Path | None = None
    """The run's folder; runs/roco-DATA-PRESET-seedN unless given."""
    retry_failed: bool = False
    """Evaluate again what the journal has as failed."""

    def __post_init__(self) -> None:
        PhaseSpace(self.phases, self.nodes, self.channels, 32, self.operators, self.mutation_rate)  # checks them
        for name in self.search.objectives:
            choose(OBJECTIVES, name, "objective")
        self.certify.check_used(self.search.objectives)

    @property
    def needs_set(self) -> bool:
        """Whether anything is measured on an adversarial set."""
        return AdversarialSetError.name in self.search.objectives or self.after.retrain


ROCO_PRESETS = {
    "quick": RocoSettings(
        train_limit=4000,
        val_limit=1000,
        channels=8,
        designs=("pair",),
        training=TrainingConfig(epochs=2, batch_size=32, lr=0.05),
        search=EvolutionConfig(population=8, generations=3, objectives=OBJECTIVES_OF_ROCO),
    ),
    "paper": RocoSettings(preset="paper"),
}
"""`paper` is every default: Table II, and Section IV-A with NSGA-Net's training."""


def roco_from_config(config: Mapping[str, Any]) -> RocoSettings:
    """The settings that a run's config.json holds."""
    return settings_from_json(RocoSettings, config["settings"])


def roco_as_json(settings: RocoSettings) -> dict[str, Any]:
    """Every setting as a plain value; paths that a command in another folder would miss are absolute."""
    values = settings_as_json(settings)
    if settings.adversarial_set != "auto":
        values["adversarial_set"] = str(Path(settings.adversarial_set).expanduser().absolute())
    return values
