"""Settings of a set; each of them influences its images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from evonas.adversarial_sets.card import ATTACK_NAMES
from evonas.errors import ConfigurationError, check_name
from evonas.networks.victim_plan import VICTIMS, check_victim
from evonas.ranges import BATCH, COUNT, IMAGES, PENALTY, RATE, Range, check_ranges
from evonas.training.settings import TrainingConfig

if TYPE_CHECKING:
    from torch import nn

    from evonas.attacks import PixelAttack, ThresholdAttack
    from evonas.attacks.inference import Precision

__all__ = ["EARLIER_PRESETS", "SET_PRESETS", "SetSettings", "TargetSettings", "build_victim"]

LARGEST_THRESHOLDS = {"L0": 1024, "Linf": 255}
"""Attack -> largest useful threshold: pixels of an image, or levels of a value."""


@dataclass(frozen=True, kw_only=True)
class TargetSettings:
    """One target network and its training."""

    name: str
    width: float
    depth: int | None
    """None: as published, or the network has only one depth."""
    epochs: int


@dataclass(frozen=True, kw_only=True)
class SetSettings:
    """Target networks, attacks and budgets of an adversarial set; defaults are the paper's where it gives them."""

    targets: tuple[str, ...] = tuple(VICTIMS)
    """Target networks (RoCo-NAS, Table I)."""
    widths: Annotated[tuple[float, ...], Range(above=0, most=64)] = (1.0,)
    """Factor of the channels of each target; a single number applies to all."""
    depths: Annotated[tuple[int, ...], Range(least=0, most=10**4)] = (0,)
    """Layers of each ResNet (6 n + 2) and DenseNet (6 n + 4); 0: as published, and for networks with only one depth."""
    target_epochs: Annotated[tuple[int, ...], COUNT] = (100,)
    """Training epochs of each target; a single number applies to all."""
    target_lr: Annotated[float, RATE] = 0.05
    """Initial learning rate of the targets; cosine decay to 0."""
    target_batch_size: Annotated[int, BATCH] = 128
    """Images of a step of the targets' training."""
    target_weight_decay: Annotated[float, PENALTY] = 5e-4
    """L2 penalty of the targets' weights."""
    set_attacks: tuple[str, ...] = ATTACK_NAMES
    """L0: at most th pixels change. Linf: every value changes by at most th/255."""
    thresholds: Annotated[tuple[int, ...], COUNT] = (1, 3, 5, 10)
    """Thresholds th of the attacks (Table I)."""
    attacked_images: Annotated[int | None, IMAGES] = 1000
    """Images of the adversarial part, balanced over classes, on which every target is attacked."""
    skip_images: Annotated[int, Range(least=0, most=10**9)] = 0
    """Images of the adversarial part to leave alone: those that a set of so many attacked images, with the seed of the
    data's parts, was made from."""
    attack_population: Annotated[int, Range(least=5, most=10**5)] = 400
    """Individuals per generation (Kotyan and Vargas)."""
    attack_generations: Annotated[int, COUNT] = 100
    """Maximum number of generations of an attack."""
    linf_algorithm: Literal["cma", "de"] = "cma"
    """Algorithm of Linf attacks, cma or de; L0 attacks always use differential evolution."""
    attack_block: Annotated[int, BATCH] = 64
    """Images that are attacked in one job. Each block draws from its own seed: another number gives another set."""
    attack_chunk: Annotated[int, BATCH] = 128
    """Individuals of a forward pass in an attack."""

    def __post_init__(self) -> None:
        check_ranges(self)
        for name in self.targets:
            check_name(VICTIMS, name, "target network")
        for name in self.set_attacks:
            check_name(LARGEST_THRESHOLDS, name, "attack of a set")
        for field in ("targets", "set_attacks", "thresholds"):
            values = getattr(self, field)
            if not values or len(set(values)) != len(values):
                raise ConfigurationError(f"expected {field} as one or more different values, got {values}")
        for field in ("widths", "depths", "target_epochs"):
            values = getattr(self, field)
            if len(values) not in (1, len(self.targets)):
                raise ConfigurationError(
                    f"expected one value of {field}, or {len(self.targets)}, one per target, got {len(values)}"
                )
        most = min(LARGEST_THRESHOLDS[name] for name in self.set_attacks)
        if max(self.thresholds) > most:
            raise ConfigurationError(f"expected thresholds <= {most}, got {max(self.thresholds)}")
        for target in self.each_target():
            self.training_of(target)
            check_victim(target.name, target.width, target.depth)

    def identity(self) -> dict[str, Any]:
        """The settings as plain values; later additions only if they are used."""
        later = ("attack_block", "attack_chunk", "skip_images")
        return {name: v for name, v in asdict(self).items() if name not in later or v != getattr(SetSettings, name)}

    def training_of(self, target: TargetSettings, precision: str = "auto") -> TrainingConfig:
        """Training settings of a target; weight decay and learning rate are our choice, the paper gives none."""
        return TrainingConfig(
            epochs=target.epochs,
            batch_size=self.target_batch_size,
            lr=self.target_lr,
            weight_decay=self.target_weight_decay,
            precision=precision,
        )

    def attack(self, attack: str, threshold: int, precision: Precision = "fp32") -> PixelAttack | ThresholdAttack:
        """The attack L0 or Linf at a threshold, with the budgets of these settings."""
        from evonas.attacks import PixelAttack, ThresholdAttack

        budget: dict[str, Any] = {
            "threshold": threshold,
            "population": self.attack_population,
            "generations": self.attack_generations,
            "chunk": self.attack_chunk,
            "precision": precision,
        }
        return PixelAttack(**budget) if attack == "L0" else ThresholdAttack(algorithm=self.linf_algorithm, **budget)

    def each_target(self) -> tuple[TargetSettings, ...]:
        """The settings of every target."""
        count = len(self.targets)
        widths, depths, epochs = (
            values if len(values) == count else values * count
            for values in (self.widths, self.depths, self.target_epochs)
        )
        return tuple(
            TargetSettings(name=name, width=widths[i], depth=int(depths[i]) or None, epochs=int(epochs[i]))
            for i, name in enumerate(self.targets)
        )


def build_victim(
    target: TargetSettings, n_classes: int, normalization: tuple[Sequence[float], Sequence[float]] | None
) -> nn.Module:
    """The target network, untrained."""
    depth = {} if target.depth is None else {"depth": target.depth}
    return VICTIMS[target.name](n_classes, target.width, normalization, **depth)


SET_PRESETS = {
    "quick": SetSettings(
        targets=("DenseNet", "ResNet", "VGG-16"),
        widths=(0.5, 0.5, 0.125),
        depths=(10, 8, 0),
        target_epochs=(6, 5, 2),
        target_batch_size=32,
        thresholds=(5, 10),
        attacked_images=120,
        attack_population=40,
        attack_generations=5,
    ),
    "paper": SetSettings(),
}
"""quick: narrow, shallow targets, the larger thresholds and small budgets, 20 seconds on two cores with digits.
paper: the defaults."""

EARLIER_PRESETS = {
    "quick": replace(
        SET_PRESETS["quick"],
        targets=("DenseNet", "LeNet", "ResNet", "VGG-16"),
        widths=(0.5, 1.0, 0.5, 0.125),
        depths=(10, 0, 8, 0),
        target_epochs=(6, 3, 5, 2),
        thresholds=(1, 3, 5, 10),
        attacked_images=100,
        attack_population=50,
        attack_generations=8,
    )
}
"""As in version 0.1.0; runs that were begun with such a set go on with it."""
