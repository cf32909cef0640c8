"""Error of a candidate's architecture under attack after a few epochs of fast adversarial training."""

from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import torch
from torch import nn

from evonas.attacks import FGSM, PGD, FixedModel
from evonas.data import batches
from evonas.errors import ConfigurationError
from evonas.networks.blocks import seeded
from evonas.objectives.attack_error import described
from evonas.objectives.objective import Candidate, Column, CostedSpace
from evonas.objectives.scoring import error_under, first_images
from evonas.parts import as_plain
from evonas.seeding import derive_seed
from evonas.training import FastAdversarial, TrainingConfig, train

__all__ = ["QuickRobustError"]


@dataclass(frozen=True, kw_only=True)
class QuickRobustError:
    """Error under FGSM after a short fast adversarial training, a fraction in [0, 1] to be minimised.

    After a full adversarial training FGSM ranks networks nearly as AutoAttack does (Spearman .996 over
    NAS-RobBench-201: 50 epochs of PGD training each, both errors of the same weights); attacks on cleanly trained ones
    do not. How well a few epochs predict the full training is not measured yet; `evonas study proxies` measures it. So
    a copy of the candidate's architecture is trained anew on the train part, whatever weights the candidate has, and
    attacked on validation images; `quick_robust_pgd_error` is its error under PGD on the same ones. An image that is
    misclassified without the attack counts as wrong.

    The copy's initial weights, and the order, augmentation and attacks of its training, are drawn from seeds that are
    derived from the seed of the candidate's generator, which follows from the evaluation's. What other objectives have
    drawn from that generator changes nothing. The candidate's own network stays as it is.
    """

    name: ClassVar[str] = "quick_robust_error"
    pgd_name: ClassVar[str] = "quick_robust_pgd_error"
    recipe: FastAdversarial = field(default_factory=FastAdversarial)
    """Loss of the training (Wong et al., 2020)."""
    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(epochs=5, lr=0.2, weight_decay=5e-4, cyclic=True, precision="fp32")
    )
    """Its schedule: that of Wong et al., with fewer epochs, and with gradients clipped at 5, as in every training here.
    Precision `fp32`, `bf16` or `tf32`."""
    fgsm: FGSM = field(default_factory=FGSM)
    pgd: PGD = field(default_factory=lambda: PGD(stop_when_fooled=True))
    images: int | None = None
    """Number of validation images to attack, the first ones; None: all."""
    batch_size: int = 250

    def __post_init__(self) -> None:
        if self.batch_size < 1 or (self.images is not None and self.images < 1):
            raise ConfigurationError(f"expected batch_size and images >= 1, got {self.batch_size} and {self.images}")
        if self.training.precision == "auto":
            raise ConfigurationError(
                f"expected a precision for {self.name}, got auto; give its training fp32, bf16 or tf32"
            )

    @property
    def attacks(self) -> dict[str, FGSM | PGD]:
        """Column -> attack."""
        return {self.name: self.fgsm, self.pgd_name: self.pgd}

    def columns(self, space: CostedSpace, n_classes: int) -> tuple[Column, ...]:
        training = as_plain({"recipe": asdict(self.recipe), "training": self.training.identity()})
        return tuple(self._column(name, attack, training) for name, attack in self.attacks.items())

    def __call__(self, candidate: Candidate) -> dict[str, float]:
        model = FixedModel(self.trained(candidate))
        part = first_images(candidate.data.validation, self.images or len(candidate.data.validation))
        return {
            name: error_under(model, batches(part, self.batch_size), attack) for name, attack in self.attacks.items()
        }

    def _column(self, name: str, attack: FGSM | PGD, training: dict[str, Any]) -> Column:
        about = f"white-box: {described(attack)}, fast-trained {self.training.epochs} epochs"
        settings = {"threat": "white-box", "attack": attack.name, **asdict(attack), "images": self.images}
        return Column(name, reference=1.0, about=about, metadata={**settings, **training})

    def trained(self, candidate: Candidate) -> nn.Module:
        """The copy after its training, in eval mode.

        Raises:
            ConfigurationError: the candidate's space builds no networks.
            DivergedError: the loss left the finite numbers.
        """
        space: Any = candidate.space
        data = candidate.data
        if not hasattr(space, "build"):
            raise ConfigurationError(f"expected a space that builds networks for {self.name}, got {space.name!r}")
        seed = derive_seed(candidate.generator.initial_seed(), self.name)
        network = seeded(
            lambda: space.build(candidate.genome, data.n_classes, normalization=data.normalization),
            derive_seed(seed, "weights"),
        ).to(data.device)
        generator = torch.Generator(data.device).manual_seed(derive_seed(seed, "training"))
        train(network, data.train, data.augmentation, self.training, self.recipe, generator)
        return network
