"""Objectives of a run, from their names on the command line."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from evonas.adversarial_sets import AdversarialSet
from evonas.attacks import FGSM, PGD
from evonas.attacks.inference import Precision
from evonas.data import Dataset
from evonas.data.out_of_distribution import load_others, resolve_others
from evonas.errors import ConfigurationError, choose
from evonas.objectives import OBJECTIVES, AdversarialSetError, FGSMError, Objective, OodAupr, PGDError

__all__ = ["AttackSettings", "identity_of", "make_objectives", "ood_objective"]


@dataclass(frozen=True, kw_only=True)
class AttackSettings:
    """Attacks of the objectives pgd_error and fgsm_error; epsilon and steps on the [0, 1] scale."""

    attack_epsilon: float = 8 / 255
    """Radius of the L-inf ball (TAM-NAS)."""
    attack_steps: int = 10
    """Steps of PGD (TAM-NAS)."""
    attack_step_size: float = 2 / 255
    """Length of a step of PGD."""
    stop_when_fooled: bool = True
    """PGD counts an image as wrong where any iterate is, the clean one included; else where the last iterate is."""
    attack_images: int | None = None
    """Attack the first so many validation images; all, unless given."""

    def __post_init__(self) -> None:
        self.objectives("fp32")

    def objectives(self, precision: Precision) -> dict[str, Objective]:
        """Name -> objective with these attacks."""
        pgd = PGD(
            epsilon=self.attack_epsilon, step_size=self.attack_step_size, steps=self.attack_steps,
            stop_when_fooled=self.stop_when_fooled, precision=precision,
        )  # fmt: skip
        fgsm = FGSM(epsilon=self.attack_epsilon, precision=precision)
        return {
            PGDError.name: PGDError(attack=pgd, images=self.attack_images),
            FGSMError.name: FGSMError(attack=fgsm, images=self.attack_images),
        }


def make_objectives(
    names: Sequence[str],
    attacks: AttackSettings,
    precision: Precision,
    adversarial_set: AdversarialSet | None,
    ood: OodAupr | None = None,
) -> tuple[Objective, ...]:
    """The objectives called so, in order.

    Args:
        precision: of the attacks' gradients; errors are always counted in float32.
        adversarial_set: for `adversarial_set_error`.
        ood: `ood_aupr` itself, with its images; see `OodAupr.of`.
    """
    ready = attacks.objectives(precision)
    if adversarial_set is not None:
        ready[AdversarialSetError.name] = AdversarialSetError(adversarial_set)
    elif AdversarialSetError.name in names:
        raise ConfigurationError("expected an adversarial set for adversarial_set_error, got none")
    if ood is not None:
        ready[OodAupr.name] = ood
    elif OodAupr.name in names:
        raise ConfigurationError("expected images of another data set for ood_aupr, got none")
    return tuple(ready[name] if name in ready else choose(OBJECTIVES, name, "objective")() for name in names)


def ood_objective(
    names: Sequence[str], ood_data: str, data: Dataset, root: Path | None, seed: int
) -> tuple[OodAupr | None, str]:
    """`ood_aupr` with its images where it is asked for, and a line where these were chosen for the user.

    Args:
        ood_data: as `resolve_others` takes it.
    """
    if OodAupr.name not in names:
        return None, ""
    name, note = resolve_others(ood_data, data.name, root)
    return OodAupr.of(load_others(name, data, root, seed), data, seed=seed), note


def identity_of(part: Any) -> dict[str, Any]:
    """The fields of a frozen part as plain values; what holds tensors goes by its fingerprint."""
    return {field.name: _plain(getattr(part, field.name)) for field in fields(part)}


def _plain(value: Any) -> Any:
    if hasattr(value, "fingerprint"):
        return {"fingerprint": value.fingerprint}
    if is_dataclass(value):
        return {"name": getattr(value, "name", type(value).__name__), **identity_of(value)}
    return value
