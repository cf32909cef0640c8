"""Objectives of a run, from their names on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from evonas.certify.settings import Intermediate, Norm, RelaxationName
from evonas.errors import ConfigurationError, choose
from evonas.ranges import BATCH, COUNT, IMAGES, LONG, PENALTY, RADIUS, RATE, STEP, Range, check_ranges
from evonas.runs.needs import Needs

if TYPE_CHECKING:
    from evonas.adversarial_sets import AdversarialSet
    from evonas.attacks.inference import Precision
    from evonas.data import Part
    from evonas.objectives import Objective, OodAupr, QuickRobustError
    from evonas.ship import LatencyTable

__all__ = ["AttackOptions", "CertifyOptions", "make_objectives", "untrained_note"]

PGD_ONLY = Needs("objectives", ("pgd_error",))
ATTACKED = Needs("objectives", ("pgd_error", "fgsm_error"))
JACOBIAN = Needs("objectives", ("jacobian_norm",))
QUICK = Needs("objectives", ("quick_robust_error",))
WITHIN = Needs("objectives", ("certified_accuracy", "certified_error"))
CERTIFIED = Needs("objectives", ("certified_radius", "certified_accuracy"))
PROVEN = Needs("objectives", ("certified_radius", "certified_accuracy", "certified_error"))


@dataclass(frozen=True, kw_only=True)
class AttackOptions:
    """Attacks of the objectives pgd_error, fgsm_error and quick_robust_error; epsilon and steps on the [0, 1] scale."""

    attack_epsilon: Annotated[float, RADIUS, ATTACKED] = 8 / 255
    """Radius of the L-inf ball (TAM-NAS)."""
    attack_steps: Annotated[int, COUNT, PGD_ONLY] = 10
    """Steps of PGD (TAM-NAS)."""
    attack_step_size: Annotated[float, STEP, PGD_ONLY] = 2 / 255
    """Length of a step of PGD."""
    stop_when_fooled: Annotated[bool, PGD_ONLY] = True
    """PGD counts an image as wrong where any iterate is, the clean one included; else where the last iterate is."""
    attack_images: Annotated[int | None, IMAGES, ATTACKED] = None
    """Validation images that are attacked, the first ones; all by default."""
    quick_epochs: Annotated[int, COUNT, QUICK] = 5
    """Epochs of fast adversarial training that quick_robust_error gives a copy of each network."""
    quick_epsilon: Annotated[float, RADIUS, QUICK] = 8 / 255
    """Radius of the L-inf ball of that training, and of FGSM and PGD after it."""
    quick_schedule: Annotated[Literal["cyclic", "cosine"], QUICK] = "cyclic"
    """Learning rate of that training: on a line up to --quick-lr half way and back to 0, every epoch with the rate of
    its middle (Wong et al., 2020), or falling from it as a cosine."""
    quick_lr: Annotated[float, RATE, QUICK] = 0.2
    """Largest learning rate of that training (Wong et al.)."""
    quick_batch_size: Annotated[int, BATCH, QUICK] = 128
    """Images of its steps (Wong et al.)."""
    quick_weight_decay: Annotated[float, PENALTY, QUICK] = 5e-4
    """Its L2 penalty of the weights (Wong et al.)."""
    quick_steps: Annotated[int, COUNT, QUICK] = 10
    """Steps of PGD after it, each a quarter of the radius; counted as wrong where any iterate is."""
    quick_images: Annotated[int | None, IMAGES, QUICK] = None
    """Validation images that are attacked after it, the first ones; all by default."""

    def __post_init__(self) -> None:
        check_ranges(self)

    def objectives(self, precision: Precision) -> dict[str, Objective]:
        """Name -> objective with these attacks.

        Args:
            precision: of attacks, and of the training of quick_robust_error.
        """
        from evonas.attacks import FGSM, PGD
        from evonas.objectives import FGSMError, PGDError, QuickRobustError

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
            QuickRobustError.name: self._quick(precision),
        }

    def _quick(self, precision: Precision) -> QuickRobustError:
        from evonas.attacks import FGSM, PGD
        from evonas.objectives import QuickRobustError
        from evonas.training import FastAdversarial, TrainingConfig

        training = TrainingConfig(
            epochs=self.quick_epochs,
            batch_size=self.quick_batch_size,
            lr=self.quick_lr,
            weight_decay=self.quick_weight_decay,
            cyclic=self.quick_schedule == "cyclic",
            precision=precision,
        )
        epsilon, steps = self.quick_epsilon, self.quick_steps
        size = epsilon / 4 or PGD.step_size
        return QuickRobustError(
            recipe=FastAdversarial(epsilon=epsilon),
            training=training,
            fgsm=FGSM(epsilon=epsilon, precision=precision),
            pgd=PGD(epsilon=epsilon, step_size=size, steps=steps, stop_when_fooled=True, precision=precision),
            images=self.quick_images,
        )


@dataclass(frozen=True, kw_only=True)
class CertifyOptions:
    """Images, balls and bounds of jacobian_norm, certified_radius, certified_accuracy and certified_error."""

    jacobian_q: Annotated[float, Range(least=1, most=100), JACOBIAN] = 1.0
    """Norm of jacobian_norm: 1 for the l-inf ball, 2 for the l2 ball (DSRNA, Eq. 15)."""
    jacobian_images: Annotated[int, IMAGES, JACOBIAN] = 64
    """Validation images of jacobian_norm, the first ones."""
    certified_norm: Annotated[Norm, PROVEN] = "linf"
    """Ball that is certified."""
    certified_epsilon: Annotated[float, LONG, WITHIN] = 1 / 255
    """Radius of certified_accuracy and certified_error, on the [0, 1] scale; in l2 it may be longer than 1."""
    certified_images: Annotated[int, IMAGES, CERTIFIED] = 16
    """Validation images that are certified, the first ones; certified_error takes all."""
    certified_intermediate: Annotated[Intermediate, CERTIFIED] = "interval"
    """Bounds before each ReLU: interval (fast), linear (tight, slower the deeper the network) or signs (in between)."""
    certified_relaxation: Annotated[RelaxationName, CERTIFIED] = "adaptive"
    """Lower side of a ReLU: adaptive (slope 0 or 1), or same_slope, that of its upper side."""

    def __post_init__(self) -> None:
        check_ranges(self)

    def objectives(self) -> dict[str, Objective]:
        """Name -> objective with these settings."""
        from evonas.objectives import CertifiedAccuracy, CertifiedError, CertifiedRadius, JacobianNorm

        bounds: dict[str, Any] = {
            "norm": self.certified_norm,
            "images": self.certified_images,
            "relaxation": self.certified_relaxation,
            "intermediate": self.certified_intermediate,
        }
        return {
            CertifiedAccuracy.name: CertifiedAccuracy(epsilon=self.certified_epsilon, **bounds),
            CertifiedError.name: CertifiedError(norm=self.certified_norm, epsilon=self.certified_epsilon),
            CertifiedRadius.name: CertifiedRadius(**bounds),
            JacobianNorm.name: JacobianNorm(q=self.jacobian_q, images=self.jacobian_images),
        }


def make_objectives(
    names: Sequence[str],
    attacks: AttackOptions | None = None,
    certify: CertifyOptions | None = None,
    precision: Precision = "fp32",
    adversarial_set: AdversarialSet | None = None,
    ood: OodAupr | None = None,
    clean_sources: Part | None = None,
    batch_size: int | None = None,
    latency: LatencyTable | None = None,
) -> tuple[Objective, ...]:
    """The objectives called so, in order.

    Args:
        attacks, certify: of the objectives that have such settings; None: the defaults.
        precision: of the attacks' gradients and of quick_robust_error's training; errors are always counted in float32.
        adversarial_set: for `adversarial_set_error`.
        ood: `ood_aupr` itself, with its images; see `OodAupr.of`.
        clean_sources: the set's clean images, for the error before the attack; None: without that column.
        batch_size: images of a pass of errors and AUPR; None: each one's own. Certificates and the Jacobian, whose
            passes are many times as large, keep theirs.
        latency: table of the space, for `latency_ms`.
    """
    from evonas.objectives import OBJECTIVES, AdversarialSetError, CleanError, LatencyMs, OodAupr, QuickRobustError
    from evonas.objectives.attack_error import AttackError

    ready: dict[str, Objective] = {
        **(attacks or AttackOptions()).objectives(precision),
        **(certify or CertifyOptions()).objectives(),
        **({} if ood is None else {OodAupr.name: ood}),
        **({} if latency is None else {LatencyMs.name: LatencyMs(latency)}),
    }
    if adversarial_set is not None:
        ready[AdversarialSetError.name] = AdversarialSetError(adversarial_set, clean_sources=clean_sources)
    needed = {
        AdversarialSetError.name: "an adversarial set",
        LatencyMs.name: "a latency table",
        OodAupr.name: "images of another data set",
    }
    for name, what in needed.items():
        if name in names and name not in ready:
            raise ConfigurationError(f"expected {what} for {name}, got none")
    found = (ready[name] if name in ready else choose(OBJECTIVES, name, "objective")() for name in names)
    sized = AdversarialSetError, AttackError, CleanError, OodAupr, QuickRobustError
    return tuple(
        replace(each, batch_size=batch_size) if batch_size is not None and isinstance(each, sized) else each
        for each in found
    )


def untrained_note(names: Sequence[str]) -> str:
    """A line where no objective reads the weights that a search trains, though it trains copies; empty elsewhere."""
    from evonas.objectives import Flops, LatencyMs, Macs, Params, QuickRobustError

    costs = {Flops.name, LatencyMs.name, Macs.name, Params.name}
    if QuickRobustError.name not in names or not {*names} <= {QuickRobustError.name, *costs}:
        return ""
    return (
        f"{QuickRobustError.name} trains a copy of each network, and no objective reads the weights of its ordinary "
        "training: --epochs 1 makes that short"
    )
