"""AutoAttack, computed by its authors' package."""

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from evonas.attacks.attack import needs_generator
from evonas.attacks.foolbox_adapter import Float32Model, adapted, library
from evonas.errors import ConfigurationError
from evonas.ranges import check_radius

__all__ = ["AutoAttack"]

VERSIONS: dict[str, tuple[str, ...]] = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
    "plus": ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"),
    "rand": ("apgd-ce", "apgd-dlr"),
}
"""Version -> attacks in the order in which they run, each on the images on which all earlier ones failed."""

CLASSES_NEEDED = {"apgd-dlr": 3, "apgd-t": 4}
"""Attack -> number of classes that its loss needs; 2 for attacks not listed."""


@dataclass(frozen=True, kw_only=True)
class AutoAttack:
    """A parameter-free ensemble of attacks (Croce and Hein, 2020), in L-inf or L2.

    An image is returned clean where every attack fails, and where the model is wrong about the clean image already.
    Random: a seed is drawn from the generator. The package's warnings about the model (vanishing gradients, outputs
    that are not logits) go to Python's logger `auto-attack`.
    """

    name: ClassVar[str] = "autoattack"
    epsilon: float = 8 / 255
    """Radius in `norm` on the [0, 1] scale; 0 gives the clean images."""
    norm: Literal["linf", "l2"] = "linf"
    version: Literal["standard", "plus", "rand"] = "standard"
    """standard: the version that robust accuracies refer to; plus: more restarts; rand: for randomised models."""
    attacks: tuple[str, ...] | None = None
    """Subset of the version's attacks; None: all. A true subset is no longer AutoAttack."""
    batch_size: int = 250

    def __post_init__(self) -> None:
        if self.norm not in ("linf", "l2"):
            raise ConfigurationError(f"expected norm linf or l2, got {self.norm!r}")
        check_radius(self.epsilon, self.norm)
        if self.version not in VERSIONS:
            raise ConfigurationError(f"expected a version of {', '.join(sorted(VERSIONS))}, got {self.version!r}")
        available = VERSIONS[self.version]
        if self.attacks is not None and (not self.attacks or not set(self.attacks) <= set(available)):
            raise ConfigurationError(f"expected attacks of {', '.join(available)}, got {self.attacks}")
        if self.batch_size < 1:
            raise ConfigurationError(f"expected batch_size >= 1, got {self.batch_size}")

    @property
    def radius(self) -> float:
        return self.epsilon

    @property
    def attacks_to_run(self) -> tuple[str, ...]:
        return VERSIONS[self.version] if self.attacks is None else self.attacks

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """(B, C, H, W) images in [0, 1] and (B,) labels -> attacked images; see `Attack`."""
        generator = needs_generator(generator, "AutoAttack")
        seed = int(torch.randint(2**31 - 1, (), generator=generator, device=generator.device))

        def found(model: Float32Model, images: Tensor, labels: Tensor) -> Tensor:
            with torch.no_grad():
                n_classes = model(images[:1]).shape[1]
            self._check_fit(images, n_classes)
            with _state_restored():
                ensemble = self._ensemble(model, images.device, n_classes, seed)
                attacked: Tensor = ensemble.run_standard_evaluation(images, labels, batch_size=self.batch_size)[0]
            return attacked

        by_gradients = set(self.attacks_to_run) != {"square"}
        return adapted(found, model, images, labels, self.norm, self.epsilon, by_gradients)

    def _check_fit(self, images: Tensor, n_classes: int) -> None:
        names = ", ".join(self.attacks_to_run)
        needed = max(CLASSES_NEEDED.get(name, 2) for name in self.attacks_to_run)
        if n_classes < needed:
            raise ConfigurationError(f"expected a model of at least {needed} classes for {names}, got {n_classes}")
        height, width = images.shape[2:]
        if self.norm == "l2" and "square" in self.attacks_to_run and min(height, width) < 5:
            raise ConfigurationError(
                f"expected images of at least 5x5 pixels for square in l2, got {height}x{width}; leave it out"
            )

    def _ensemble(self, model: Float32Model, device: torch.device, n_classes: int, seed: int) -> Any:
        ensemble = library("pyautoattack").AutoAttack(
            model,
            norm={"linf": "Linf", "l2": "L2"}[self.norm],
            eps=self.epsilon,
            version=self.version,
            seed=seed,
            device=device,
        )
        ensemble.verbose = False
        ensemble.attacks_to_run = list(self.attacks_to_run)
        for part in (ensemble.apgd_targeted, ensemble.fab):
            part.n_target_classes = min(part.n_target_classes, n_classes - 1)
        return ensemble


@contextlib.contextmanager
def _state_restored() -> Iterator[None]:
    """Restores torch's global generators, which the package seeds, and the trace function, which it removes."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    tracer = sys.gettrace()
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        sys.settrace(tracer)
