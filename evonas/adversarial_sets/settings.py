"""What a set is built from; everything here decides which images it holds."""

from dataclasses import dataclass
from typing import Literal

from evonas.adversarial_sets.card import ATTACK_NAMES
from evonas.errors import ConfigurationError, choose
from evonas.networks.victims import VICTIMS

__all__ = ["SET_PRESETS", "SetSettings", "TargetSettings"]


@dataclass(frozen=True, kw_only=True)
class TargetSettings:
    """One target network, as it is built and trained."""

    name: str
    width: float
    depth: int | None
    """None: that of its authors, or a kind of network that has only one."""
    epochs: int


@dataclass(frozen=True, kw_only=True)
class SetSettings:
    """Target networks, attacks and budgets of an adversarial set; the defaults are the paper's where it gives them."""

    targets: tuple[str, ...] = tuple(VICTIMS)
    """Networks that are attacked (RoCo-NAS, Table I)."""
    widths: tuple[float, ...] = (1.0,)
    """Factor of each target's channels; one number stands for all."""
    depths: tuple[int, ...] = (0,)
    """Layers of each ResNet (6 n + 2) and DenseNet (6 n + 4); 0: as its authors had it, or it has only one."""
    target_epochs: tuple[int, ...] = (100,)
    """Epochs that each target is trained; one number stands for all."""
    target_lr: float = 0.05
    """Learning rate of the first epoch; falls to 0 along a cosine."""
    target_batch_size: int = 128
    target_weight_decay: float = 5e-4
    set_attacks: tuple[str, ...] = ATTACK_NAMES
    """L0: th pixels are changed. Linf: every value by at most th/255."""
    thresholds: tuple[int, ...] = (1, 3, 5, 10)
    """th of the attacks (Table I)."""
    attacked_images: int | None = 1000
    """Images of the adversarial part that every target is attacked on, as equally many of each class as there are."""
    attack_population: int = 400
    """Individuals of a generation (Kotyan and Vargas)."""
    attack_generations: int = 100
    linf_algorithm: Literal["cma", "de"] = "cma"
    """cma or de; L0 is always attacked by differential evolution."""

    def __post_init__(self) -> None:
        for name in self.targets:
            choose(VICTIMS, name, "target network")
        for name in self.set_attacks:
            choose({"L0": 0, "Linf": 0}, name, "attack of a set")
        for field in ("targets", "set_attacks", "thresholds"):
            values = getattr(self, field)
            if not values or len(set(values)) != len(values):
                raise ConfigurationError(f"expected {field} as one or more different values, got {values}")
        for field in ("widths", "depths", "target_epochs"):
            values = getattr(self, field)
            if len(values) not in (1, len(self.targets)):
                raise ConfigurationError(
                    f"expected one value or {len(self.targets)}, one a target, of {field}, got {len(values)}"
                )
        least = {"thresholds": 1, "target_epochs": 1, "depths": 0}
        for field, limit in least.items():
            if min(getattr(self, field)) < limit:
                raise ConfigurationError(f"expected {field} >= {limit}, got {min(getattr(self, field))}")
        if self.linf_algorithm not in ("cma", "de"):
            raise ConfigurationError(f"expected linf_algorithm cma or de, got {self.linf_algorithm!r}")
        for field in ("attack_population", "attack_generations"):
            if getattr(self, field) < 1:
                raise ConfigurationError(f"expected {field} >= 1, got {getattr(self, field)}")

    def each_target(self) -> tuple[TargetSettings, ...]:
        """The targets with their own width, depth and epochs."""
        count = len(self.targets)
        widths, depths, epochs = (
            values if len(values) == count else values * count
            for values in (self.widths, self.depths, self.target_epochs)
        )
        return tuple(
            TargetSettings(name=name, width=widths[i], depth=int(depths[i]) or None, epochs=int(epochs[i]))
            for i, name in enumerate(self.targets)
        )


SET_PRESETS = {
    "quick": SetSettings(
        targets=("DenseNet", "LeNet", "ResNet", "VGG-16"),
        widths=(0.5, 1.0, 0.5, 0.125),
        depths=(10, 0, 8, 0),
        target_epochs=(6, 3, 5, 2),
        target_batch_size=32,
        attacked_images=100,
        attack_population=50,
        attack_generations=8,
    ),
    "paper": SetSettings(),
}
"""quick: narrow, shallow targets and small budgets, about a minute on two cores with digits. paper: every default."""
