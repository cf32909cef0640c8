"""Objectives of a run, from their names on the command line."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from evonas.adversarial_sets import AdversarialSet
from evonas.attacks import FGSM, PGD
from evonas.attacks.inference import Precision
from evonas.certify.linear import Intermediate, RelaxationName
from evonas.data import Dataset
from evonas.data.out_of_distribution import load_ood_data, resolve_ood_data
from evonas.errors import ConfigurationError, choose
from evonas.objectives import (
    OBJECTIVES,
    AdversarialSetError,
    CertifiedAccuracy,
    CertifiedRadius,
    FGSMError,
    JacobianNorm,
    Objective,
    OodAupr,
    PGDError,
)
from evonas.objectives.certified import Norm
from evonas.parts import part_identity as identity_of

__all__ = ["AttackSettings", "CertifySettings", "identity_of", "make_objectives", "ood_objective"]


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
            epsilon=self.attack_epsilon,
            step_size=self.attack_step_size,
            steps=self.attack_steps,
            stop_when_fooled=self.stop_when_fooled,
            precision=precision,
        )
        fgsm = FGSM(epsilon=self.attack_epsilon, precision=precision)
        return {
            PGDError.name: PGDError(attack=pgd, images=self.attack_images),
            FGSMError.name: FGSMError(attack=fgsm, images=self.attack_images),
        }


@dataclass(frozen=True, kw_only=True)
class CertifySettings:
    """Images, balls and bounds of the objectives jacobian_norm, certified_radius and certified_accuracy."""

    jacobian_q: float = 1.0
    """Norm of jacobian_norm: 1 for the l-inf ball, 2 for the l2 ball (DSRNA, Eq. 15)."""
    jacobian_images: int = 64
    """Take jacobian_norm on the first so many validation images."""
    certified_norm: Norm = "linf"
    """Ball that is certified."""
    certified_epsilon: float = 1 / 255
    """Radius of certified_accuracy, on the [0, 1] scale."""
    certified_images: int = 16
    """Certify the first so many validation images."""
    certified_intermediate: Intermediate = "interval"
    """Bounds before each ReLU: interval (fast) or linear (tight, and slower the deeper the network)."""
    certified_relaxation: RelaxationName = "adaptive"
    """Lower side of a ReLU: adaptive (slope 0 or 1), or same_slope, that of its upper side."""

    def __post_init__(self) -> None:
        self.objectives()

    def objectives(self) -> dict[str, Objective]:
        """Name -> objective with these settings."""
        bounds: dict[str, Any] = {
            "norm": self.certified_norm,
            "images": self.certified_images,
            "relaxation": self.certified_relaxation,
            "intermediate": self.certified_intermediate,
        }
        return {
            CertifiedAccuracy.name: CertifiedAccuracy(epsilon=self.certified_epsilon, **bounds),
            CertifiedRadius.name: CertifiedRadius(**bounds),
            JacobianNorm.name: JacobianNorm(q=self.jacobian_q, images=self.jacobian_images),
        }

    def check_used(self, names: Sequence[str]) -> None:
        """ConfigurationError where a setting that was given is of none of these objectives."""
        accuracy, both = (CertifiedAccuracy.name,), (CertifiedRadius.name, CertifiedAccuracy.name)
        for field in fields(self):
            of = (JacobianNorm.name,) if field.name.startswith("jacobian") else both
            of = accuracy if field.name == "certified_epsilon" else of
            if getattr(self, field.name) != field.default and not set(of) & set(names):
                option = f"--{field.name.replace('_', '-')}"
                raise ConfigurationError(
                    f"expected settings that this search uses, {option} changes nothing without {' or '.join(of)} "
                    "among --objectives"
                )


def make_objectives(
    names: Sequence[str],
    attacks: AttackSettings,
    precision: Precision,
    adversarial_set: AdversarialSet | None,
    ood: OodAupr | None = None,
    certify: CertifySettings | None = None,
) -> tuple[Objective, ...]:
    """The objectives called so, in order.

    Args:
        precision: of the attacks' gradients; errors are always counted in float32.
        adversarial_set: for `adversarial_set_error`.
        ood: `ood_aupr` itself, with its images; see `OodAupr.of`.
        certify: of Jacobian norms and certificates; None: the defaults.
    """
    ready = {**attacks.objectives(precision), **(certify or CertifySettings()).objectives()}
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
        ood_data: as `resolve_ood_data` takes it.
    """
    if OodAupr.name not in names:
        return None, ""
    name, note = resolve_ood_data(ood_data, data.name, root)
    return OodAupr.of(load_ood_data(name, data, root, seed), data, seed=seed), note
