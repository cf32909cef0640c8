"""Steps along the gradient, projected back into a ball: FGSM, BIM and PGD in L-inf and L2."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from evonas.attacks.attack import (
    check_differentiable,
    check_inputs,
    check_logits,
    laid_out_as,
    logits_of,
    margins,
    needs_generator,
    toward,
    under_attack,
)
from evonas.attacks.inference import Precision, attack_copy, check_precision
from evonas.attacks.losses import LOSSES
from evonas.errors import ConfigurationError, choose
from evonas.graphs import Graphed
from evonas.ranges import check_radius

__all__ = ["BIM", "FGSM", "PGD", "GradientAttack"]

UNSURE = 1 / 32
"""A bf16 margin below this fraction of the largest logit (the image's own or the batch's mean) is checked again."""
RECORDED = 8
"""Steps from which on recording them pays on a CUDA device: a recording takes the time of about three."""


@dataclass(frozen=True, kw_only=True)
class GradientAttack:
    """Settings and loop of FGSM, BIM and PGD. Pixels and epsilon on the [0, 1] scale."""

    epsilon: float = 8 / 255
    """Radius of the ball; 0 gives the clean images."""
    norm: Literal["linf", "l2"] = "linf"
    random_start: bool = False
    """Start at a uniform random point of the ball instead of at the clean image."""
    start_deviation: float = 0.0
    """Standard deviation of Gaussian noise added to the clean image at the start (TRADES: 0.001)."""
    restarts: int = 1
    """Number of attacks of each image from different starts; the strongest is kept: one that fools the model, else the
    one of largest loss."""
    targeted: bool = False
    """Labels are the classes that the attack aims at."""
    loss: Literal["cross_entropy", "kl", "margin"] = "cross_entropy"
    stop_when_fooled: bool = False
    """Stop attacking an image once it fools the model, the clean image included: the worst over all iterates, as
    AutoAttack counts. False: every image takes every step and the last iterate counts, as in TRADES and the papers."""
    precision: Precision = "fp32"
    """bf16: gradients come from a fast copy of the model (see `inference_copy`). An image that fools the copy by a low
    margin is attacked further, and counts as fooled only if the model itself confirms it in float32."""

    def __post_init__(self) -> None:
        choose(LOSSES, self.loss, "attack loss")
        check_precision(self.precision)
        if self.norm not in ("linf", "l2"):
            raise ConfigurationError(f"expected norm linf or l2, got {self.norm!r}")
        check_radius(self.epsilon, self.norm)
        if not (self.start_deviation >= 0 and self.restarts >= 1):
            raise ConfigurationError(
                f"expected start_deviation >= 0 and restarts >= 1, got {self.start_deviation} and {self.restarts}"
            )
        if self.random_start and self.start_deviation:
            raise ConfigurationError("expected random_start or start_deviation, got both")
        if self.restarts > 1 and not self.draws:
            raise ConfigurationError("expected random_start or start_deviation with restarts, got neither")
        if self.loss == "kl" and (self.targeted or not self.draws):
            raise ConfigurationError(
                "expected loss kl untargeted and with random_start or start_deviation: "
                "its gradient at the clean image is 0"
            )

    @property
    def draws(self) -> bool:
        """Whether the attack is random and requires a generator."""
        return self.random_start or self.start_deviation > 0

    @property
    def radius(self) -> float:
        return self.epsilon

    def _attack(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        generator: torch.Generator | None,
        size: float,
        steps: Sequence[int],
    ) -> list[Tensor]:
        """Take the most steps, of length `size`, for every restart; images after each number of steps.

        Args:
            steps: several only where the attack is `prefixed`.
        """
        check_inputs(images, labels)
        generator = needs_generator(generator, f"{type(self).__name__}'s start") if self.draws else None
        if not self.epsilon or not len(images):
            return [images.clone() for _ in steps]
        with under_attack(model), torch.inference_mode(False), torch.enable_grad():
            run = _Run(self, model, images, labels, size, steps)
            for _ in range(self.restarts):
                run.once(generator)
            found = [run.passed.get(each, run.found) for each in steps]
            return [laid_out_as(images, toward(images, each.clone())) for each in found]


@dataclass(frozen=True, kw_only=True)
class FGSM(GradientAttack):
    """Fast gradient sign method (Goodfellow et al., 2015): one step of length epsilon; in L2 along the gradient."""

    name: ClassVar[str] = "fgsm"

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """(B, C, H, W) images in [0, 1] and (B,) labels -> attacked images; see `Attack`."""
        (attacked,) = self._attack(model, images, labels, generator, self.epsilon, [1])
        return attacked


@dataclass(frozen=True, kw_only=True)
class PGD(GradientAttack):
    """Projected gradient descent (Madry et al., 2018): sign steps in L-inf, normalised gradient steps in L2."""

    name: ClassVar[str] = "pgd"
    step_size: float = 2 / 255
    steps: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (0 < self.step_size < math.inf and self.steps >= 1):
            raise ConfigurationError(f"expected step_size > 0 and steps >= 1, got {self.step_size} and {self.steps}")

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """(B, C, H, W) images in [0, 1] and (B,) labels -> attacked images; see `Attack`."""
        (attacked,) = self._attack(model, images, labels, generator, self.step_size, [self.steps])
        return attacked

    @property
    def prefixed(self) -> bool:
        """Whether the attack of fewer steps is its beginning: from the clean image, and the last iterate counts."""
        return not self.draws and not self.stop_when_fooled

    def after(self, model: nn.Module, images: Tensor, labels: Tensor, steps: Sequence[int]) -> list[Tensor]:
        """Images after each number of steps, as so many attacks give them, for the price of the longest.

        Args:
            model, images, labels: see `Attack`.
            steps: instead of the attack's own.
        Raises:
            ConfigurationError: the attack is not `prefixed`, there is no step, or one is not a whole number >= 1.
        """
        if not self.prefixed or not steps or not all(isinstance(each, Integral) and each >= 1 for each in steps):
            raise ConfigurationError(
                "expected steps >= 1 of an attack from the clean image without stop_when_fooled, "
                f"got {list(steps)} of {self}"
            )
        return self._attack(model, images, labels, None, self.step_size, steps)


@dataclass(frozen=True, kw_only=True)
class BIM(PGD):
    """Basic iterative method (Kurakin et al., 2017): PGD with a default step of 1/255."""

    name: ClassVar[str] = "bim"
    step_size: float = 1 / 255


class _Run:
    """One attack on one batch; `found` holds the strongest image of all restarts so far, in float32 or wider.

    `passed` holds the iterates after each of the smaller numbers of steps.
    """

    def __init__(
        self,
        attack: GradientAttack,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        size: float,
        steps: Sequence[int],
    ) -> None:
        self.attack, self.size, self.steps = attack, size, max(steps)
        self.marks = frozenset(steps)
        self.passed: dict[int, Tensor] = {}
        self.model, self.dtype = model, images.dtype
        self.fast = attack_copy(model, attack.precision) if attack.precision != "fp32" else None
        self.loss = LOSSES[attack.loss]
        self.checked = False  # whether the logits of the model have been
        self.clean = images.detach().clone().to(torch.promote_types(images.dtype, torch.float32))
        self.labels = labels.clone()
        self.found = self.candidates = self.clean
        self.worst = torch.full_like(labels, -math.inf, dtype=torch.float32)  # (B,) loss of `found`
        self.fooled = torch.zeros_like(self.labels, dtype=torch.bool)  # (B,) whether `found` fools the model
        with torch.no_grad():
            if self.fast is not None:
                check_logits(self.exact(self.clean[:1]), self.labels[:1])
            self.clean_logits = self.logits(self.clean) if attack.stop_when_fooled or attack.loss == "kl" else None
        if self.clean_logits is not None:
            check_logits(self.clean_logits, self.labels)
            self.checked = True
            self.fooled = self.surely_fooled(self.clean, self.clean_logits, self.labels)

    def once(self, generator: torch.Generator | None) -> None:
        """Run one restart on every image that is not fooled yet."""
        start = self.clean if generator is None else self.drawn(generator)
        stop = self.attack.stop_when_fooled
        pending = torch.nonzero(~self.fooled).squeeze(1) if stop else torch.arange(len(start), device=start.device)
        x = start[pending]
        self.doubtful = torch.zeros_like(self.fooled)
        self.checked &= stop  # every restart's first logits are
        replayed = None if stop or self.steps < RECORDED else Graphed("an attack", warm_up=1)
        for step in range(self.steps):
            if not len(pending):
                return
            shown = self.shown(x, pending)
            if step in self.marks:
                self.passed[step] = shown.clone()
            ascended = partial(self.ascended, pending)
            x, logits = ascended(x, shown) if replayed is None else replayed(ascended, x, shown, state=self.buffers)
            if stop:
                left = torch.nonzero(~self.surely_fooled_now(pending, shown, logits)).squeeze(1)  # waits for a GPU
                pending, x = pending[left], x[left]
        unfooled = ~self.confirmed(pending)
        pending, x = pending[unfooled], x[unfooled]
        self.keep_stronger(pending, self.shown(x, pending))

    def buffers(self) -> list[Tensor]:
        """Tensors that the model may change when it is called."""
        return [*self.model.buffers()]

    def ascended(self, rows: Tensor, x: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
        """Next iterates of the images `rows`, and the logits of these ones."""
        leaf = shown.detach().requires_grad_()
        logits = self.logits(leaf)
        if not self.checked:
            check_logits(logits, self.labels)
            self.checked = True
        check_differentiable(logits)
        losses = self.losses(logits, rows)
        (gradient,) = torch.autograd.grad(losses.sum(), leaf)
        return self.step(x, gradient, self.clean[rows]), logits.detach()

    def shown(self, x: Tensor, rows: Tensor) -> Tensor:
        """Iterates of the images `rows` as the model sees them and the caller gets them: rounded for half precision.

        The iterates themselves stay unrounded, so that short steps add up.
        """
        if self.dtype == x.dtype:
            return x.detach()
        return toward(self.clean[rows].to(self.dtype), x).to(x.dtype)

    def logits(self, x: Tensor) -> Tensor:
        return self.exact(x) if self.fast is None else logits_of(self.fast, x.float())

    def losses(self, logits: Tensor, rows: Tensor) -> Tensor:
        """(n,) loss of the images `rows`."""
        clean = logits if self.clean_logits is None else self.clean_logits[rows]
        return self.loss(logits, self.labels[rows], clean)

    def exact(self, x: Tensor) -> Tensor:
        """Logits of the model itself, called in the dtype of the caller's images."""
        return logits_of(self.model, x.to(self.dtype))

    def drawn(self, generator: torch.Generator) -> Tensor:
        """A random start for every image of the batch, fooled or not, so that draws do not depend on successes."""
        attack, clean = self.attack, self.clean
        normal = partial(torch.randn, generator=generator, device=clean.device, dtype=torch.float32)
        uniform = partial(torch.rand, generator=generator, device=clean.device, dtype=torch.float32)
        if attack.start_deviation:
            noise = normal(clean.shape) * attack.start_deviation
        elif attack.norm == "linf":
            noise = (uniform(clean.shape) * 2 - 1) * attack.epsilon
        elif attack.norm == "l2":  # uniform in the ball
            noise = normal(clean.shape)
            length = uniform(len(clean)) ** (1 / clean[0].numel())
            noise = _unit(noise) * (length * attack.epsilon).view(-1, 1, 1, 1)
        return self.project(clean + noise, clean)

    def step(self, x: Tensor, gradient: Tensor, clean: Tensor) -> Tensor:
        direction = gradient.nan_to_num(0.0)
        direction = direction.sign() if self.attack.norm == "linf" else _unit(direction)
        size = -self.size if self.attack.targeted else self.size
        return self.project(x + size * direction, clean)

    def project(self, x: Tensor, clean: Tensor) -> Tensor:
        """Project into the ball, then into [0, 1]."""
        epsilon = self.attack.epsilon
        change = x - clean
        if self.attack.norm == "linf":
            change = change.clamp(-epsilon, epsilon)
        else:
            change = change * (epsilon / _lengths(change)).clamp(max=1.0)
        return (clean + change).clamp(0.0, 1.0)

    def is_fooled(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(B,) whether the model predicts another class than the label; if targeted, whether it predicts the label."""
        hit = logits.argmax(dim=1) == labels
        return hit if self.attack.targeted else ~hit

    def surely_fooled(self, x: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """(B,) `is_fooled`, where the model itself checks low margins of the fast copy."""
        fooled = self.is_fooled(logits, labels)
        unsure = fooled & self.low(logits, labels)
        if bool(unsure.any()):
            fooled[unsure] = self.truly_fooled(x[unsure], labels[unsure])
        return fooled

    def low(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(n,) whether the margin is so small that the fast copy may have its sign wrong."""
        if self.fast is None:
            return torch.zeros_like(labels, dtype=torch.bool)
        size = logits.abs().amax(dim=1)  # (n,); logits that cancel to small values carry the same absolute error
        return margins(logits, labels).abs() < UNSURE * torch.maximum(size, size.mean())

    @torch.no_grad()
    def truly_fooled(self, x: Tensor, labels: Tensor) -> Tensor:
        """(n,) whether these images fool the model itself."""
        return self.is_fooled(self.exact(x), labels)

    def surely_fooled_now(self, rows: Tensor, x: Tensor, logits: Tensor) -> Tensor:
        """(n,) which of the images `rows` fool the model by a clear margin; their iterates are kept.

        An iterate with a low margin is stored as a candidate and attacked further: one more step mostly decides it, and
        costs less than a call of the model itself for a few images in every step.
        """
        labels = self.labels[rows]
        fooled, low = self.is_fooled(logits, labels), self.low(logits, labels)
        doubt, sure = fooled & low, fooled & ~low
        self.found = self.found.index_copy(0, rows, torch.where(sure.view(-1, 1, 1, 1), x, self.found[rows]))
        self.fooled[rows] |= sure
        if self.fast is not None and bool(doubt.any()):
            self.doubtful[rows[doubt]] = True
            self.candidates = self.candidates.index_copy(0, rows[doubt], x[doubt])
        return sure

    def confirmed(self, rows: Tensor) -> Tensor:
        """(n,) which of the images `rows` have a doubtful candidate that fools the model itself; it is kept."""
        doubt = self.doubtful[rows]
        if bool(doubt.any()):
            checked = rows[doubt]
            confirmed = self.truly_fooled(self.candidates[checked], self.labels[checked])
            self.keep(checked[confirmed], self.candidates[checked[confirmed]])
            return doubt.masked_scatter(doubt, confirmed)
        return doubt

    def keep(self, rows: Tensor, x: Tensor) -> None:
        """Store images that fool the model."""
        self.found = self.found.index_copy(0, rows, x)
        self.fooled[rows] = True

    def keep_stronger(self, rows: Tensor, x: Tensor) -> None:
        """Store the last iterates of a restart where they are stronger than the images found before."""
        if self.attack.restarts == 1:
            self.found = self.found.index_copy(0, rows, x)
            return
        with torch.no_grad():
            logits = self.exact(x)
            labels = self.labels[rows]
            losses = self.losses(logits, rows)
        losses = -losses if self.attack.targeted else losses
        fooled = self.is_fooled(logits, labels)
        before = self.fooled[rows] & (self.worst[rows] > -math.inf)
        worse = (fooled & ~before) | ((fooled == before) & (losses > self.worst[rows]))
        self.found = self.found.index_copy(0, rows[worse], x[worse])
        self.worst[rows[worse]] = losses[worse]
        self.fooled[rows[worse]] = fooled[worse]


def _lengths(x: Tensor) -> Tensor:
    """(B, 1, 1, 1) Euclidean length of each image, at least 1e-12."""
    return x.flatten(1).square().sum(dim=1).sqrt().clamp(min=1e-12).view(-1, 1, 1, 1)


def _unit(x: Tensor) -> Tensor:
    """Each image scaled to length 1."""
    return x * (1 / _lengths(x))
