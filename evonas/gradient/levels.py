"""A supernet and its architecture in training: the descent steps of both levels."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from evonas.errors import DivergedError
from evonas.gradient.architecture import Architecture, Mixture
from evonas.gradient.bilevel import UpperGradients, direct_gradient, momentum_buffers_of, unrolled_gradient
from evonas.gradient.forward import SupernetForward
from evonas.gradient.losses import Batch, CrossEntropy, LevelLoss, Sum
from evonas.gradient.method import Method
from evonas.gradient.perturbation import worst_mixture
from evonas.gradient.preferences import Standing
from evonas.gradient.supernet import DartsSupernet
from evonas.graphs import Graphed, moments
from evonas.seeding import derive_seed
from evonas.training.attacking import untouched

__all__ = ["Levels", "Means"]

TINY = torch.finfo(torch.float64).tiny
"""Instead of 0 below a fraction."""


class Levels:
    """Weights and architecture of one stage, each with its optimiser; both change in place.

    Of several architectures one has its `turn`: a step trains the weights under it, and moves it alone. So the weights
    that an unrolled gradient looks ahead to are those that the step makes, and a step costs what it costs with one
    architecture and the same upper losses. Steps of each are as many times longer as there are
    architectures, so that it comes as far.

    Args:
        precision: fp32, or bf16 under autocast.
        others: further architectures on the same weights, one for each further preference.
    """

    def __init__(
        self,
        method: Method,
        supernet: DartsSupernet,
        architecture: Architecture,
        precision: str,
        others: Sequence[Architecture] = (),
    ) -> None:
        config = method.config
        self.method = method
        self.supernet = supernet
        self.architectures = (architecture, *others)
        self.turn = 0
        """Number of the architecture that is trained."""
        self.precision = precision
        self.weights = list(supernet.parameters())
        self.rate = config.search_lr
        self.sgd = torch.optim.SGD(
            self.weights, config.search_lr, momentum=config.search_momentum, weight_decay=config.search_weight_decay
        )
        self.adams = [self._adam(each) for each in self.architectures]
        self.standing = None if method.preferences is None else Standing(method.preferences, len(method.upper))
        self.epsilon = 0.0 if method.epsilon is None else method.epsilon.start
        """Current radius of certified bounds."""
        self.perturbed = 0.0
        """Current radius of the perturbed architecture in steps of the weights; 0: not perturbed."""
        self.progress = 0.0
        """Share of the stage that is over."""
        self.weights_only = False
        """Whether the architecture stays as it is."""
        self.lower = method.lower
        """Current loss of the weights."""
        self._generator = torch.Generator(self.device)
        self._seeds = _on_the_host(self._generator)
        self._names: tuple[str, ...] = ()
        self._step = Graphed("the search")

    @property
    def device(self) -> torch.device:
        return self.weights[0].device

    @property
    def architecture(self) -> Architecture:
        """The one whose turn it is."""
        return self.architectures[self.turn]

    @property
    def alphas(self) -> list[torch.nn.Parameter]:
        """Its parameters."""
        return list(self.architecture.parameters())

    @property
    def adam(self) -> torch.optim.Adam:
        return self.adams[self.turn]

    def _adam(self, architecture: Architecture) -> torch.optim.Adam:
        config = self.method.config
        first, second = config.alpha_betas
        return torch.optim.Adam(
            architecture.parameters(),
            config.alpha_lr * len(self.architectures),
            (first, second),
            weight_decay=config.alpha_weight_decay,
            capturable=self.device.type == "cuda",
        )

    def begin_epoch(
        self,
        rate: float,
        skip_dropout: float,
        generator: torch.Generator,
        perturbed: float = 0.0,
        weights_only: bool = False,
        lower: LevelLoss | None = None,
    ) -> None:
        """Set train mode, rate of the weights, randomness of attacks and dropout, radius of the perturbation.

        Args:
            weights_only: the architecture takes no steps.
            lower: loss of the weights in this epoch; None: the method's.
        """
        self.rate, self.perturbed, self.weights_only = rate, perturbed, weights_only
        self.lower = lower or self.method.lower
        for group in self.sgd.param_groups:
            group["lr"] = rate
        self.supernet.train()
        self.supernet.skip_dropout = skip_dropout
        self._generator = self.supernet.generator = generator
        self._seeds = _on_the_host(generator)
        self._step.renew()

    def descend(self, below: Batch, above: Batch, means: "Means") -> None:
        """One step of each level, in the order of the method."""
        values: dict[str, Tensor]
        if self._repeats:
            given = (below.images, below.labels, above.images, above.labels)
            results = self._step(self._descend_on, *given, state=self._changing)
            values = dict(zip(self._names, results, strict=True))
        else:
            values = self._descend(below, above, means)
        for name, value in values.items():
            means.add(name, value)

    @property
    def _repeats(self) -> bool:
        """Whether a step draws no random numbers and decides nothing on the host, so that it can be replayed."""
        method = self.method
        plain = all(isinstance(loss, CrossEntropy) for loss in (self.lower, *method.upper)) and len(method.upper) == 1
        return plain and not self.perturbed and not self.supernet.skip_dropout

    def _descend_on(
        self, images: Tensor, labels: Tensor, above_images: Tensor, above_labels: Tensor
    ) -> tuple[Tensor, ...]:
        """Values of a step that repeats; `_names` has their names."""
        values = self._descend(Batch(images, labels), Batch(above_images, above_labels), Means())
        self._names = tuple(values)
        return tuple(values.values())

    def _descend(self, below: Batch, above: Batch, means: "Means") -> dict[str, Tensor]:
        if self.weights_only:
            return self.descend_weights(below)
        if self.method.config.begin_with == "alpha":
            return {**self.descend_architecture(below, above, means), **self.descend_weights(below)}
        return {**self.descend_weights(below), **self.descend_architecture(below, above, means)}

    def _changing(self) -> list[Tensor]:
        """Tensors that a step changes."""
        return [*self.weights, *self.supernet.buffers(), *self.alphas, *moments(self.sgd), *moments(self.adam)]

    def descend_weights(self, below: Batch) -> dict[str, Tensor]:
        """One step of SGD on the lower loss; its value."""
        method = self.method
        with torch.no_grad():
            mixture, probabilities = self.architecture(), self.architecture.probabilities()
        if self.perturbed:
            mixture = self._perturbed(mixture, below)
        # a recipe attacks what it trains; the attack of E2RNAS is one on the architecture itself
        batch = self._prepared(self.lower, below, self._generator, None if method.recipe is None else mixture)
        loss = self.lower(self._forward(mixture), probabilities, batch)
        self.sgd.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights, method.config.search_grad_clip)
        self.sgd.step()
        return {"train_loss": loss.detach()}

    def descend_architecture(self, below: Batch, above: Batch, means: "Means") -> dict[str, Tensor]:
        """One step of Adam on the weighted gradients of the upper losses; values for search.csv.

        Args:
            means: gets the shares of the parts of a sum.
        """
        method = self.method
        notes: dict[str, Tensor] = {}
        above = replace(above, epsilon=self.epsilon, progress=self.progress)
        self._measure_parts(below, above, means)
        upper = self.upper_gradients(below, replace(above, notes=notes))
        if len(method.upper) > 1:
            self._check_finite(upper)
        if self.standing is None:
            weights = method.combine(upper.gradients, upper.losses)
        else:
            weights = self.standing.weights(self.turn, upper.gradients, upper.losses)
        step = torch.zeros_like(upper.gradients[0])
        for weight, gradient in zip(weights, upper.gradients, strict=True):
            step += weight * gradient  # all the weight on one loss: the path of that loss alone, bit for bit
        sizes = [parameter.numel() for parameter in self.alphas]
        for parameter, part in zip(self.alphas, torch.split(step, sizes), strict=True):
            parameter.grad = part.view_as(parameter)
        self.adam.step()
        values: dict[str, Tensor] = {}
        for loss, value, weight in zip(method.upper, upper.losses, weights, strict=True):
            values |= {f"upper_{loss.name}": value, f"weight_{loss.name}": weight}
        if len(method.upper) > 1:
            values |= shares(method.upper, weights[:, None] * upper.gradients)
        if method.epsilon is not None:
            self.epsilon = method.epsilon.after(self.epsilon, float(notes["certified_difference"]))
        return {**values, **notes}

    def _check_finite(self, upper: UpperGradients) -> None:
        """DivergedError unless all losses and gradients are finite: the weights of several losses follow from them."""
        finite = upper.losses.isfinite() & upper.gradients.isfinite().all(dim=1)
        if not bool(finite.all()):
            broken = next(loss for loss, fine in zip(self.method.upper, finite.tolist(), strict=True) if not fine)
            raise DivergedError(f"the search diverged: {broken.name} above or its gradient is not finite")

    def _measure_parts(self, below: Batch, above: Batch, means: "Means") -> None:
        """Shares of the parts of a sum, at the first step of an epoch: their gradients are not needed otherwise."""
        first, *others = self.method.upper
        if isinstance(first, Sum) and not others and f"share_{first.parts[0].name}" not in means:
            drawn = self._generator.get_state()
            for name, share in shares(first.parts, self.upper_gradients(below, above, first.parts).gradients).items():
                means.add(name, share)
            self._generator.set_state(drawn)

    def upper_gradients(self, below: Batch, above: Batch, losses: Sequence[LevelLoss] | None = None) -> UpperGradients:
        """Values and gradients of the upper losses in the order of the method; changes nothing.

        Args:
            losses: instead of the method's.
        """
        method, config, buffers = self.method, self.method.config, list(self.supernet.buffers())
        seed = None if self._repeats else int(torch.randint(2**62, (), generator=self._seeds))

        def value(loss: LevelLoss, batch: Batch, number: int, attack: bool = True) -> Tensor:
            """With the same random numbers at every call."""
            if seed is not None:
                self.supernet.generator = torch.Generator(self.device).manual_seed(derive_seed(seed, number))
            if attack:
                batch = self._prepared(loss, batch, self.supernet.generator or self._generator)
            return loss(self._forward(self.architecture()), self.architecture.probabilities(), batch)

        uppers = [partial(value, loss, above, number) for number, loss in enumerate(losses or method.upper)]
        try:
            if config.order == 1:
                return direct_gradient(uppers, self.weights, self.alphas, buffers)
            # once, so that the lower loss stays the same
            attacked = self._prepared(self.lower, below, self._generator)
            return unrolled_gradient(
                partial(value, self.lower, attacked, len(uppers), attack=False),
                uppers,
                self.weights,
                self.alphas,
                self.rate,
                momentum_buffers_of(self.sgd, self.weights),
                config.search_momentum,
                config.search_weight_decay,
                config.hessian,
                buffers,
            )
        finally:
            self.supernet.generator = self._generator

    def _prepared(
        self, loss: LevelLoss, batch: Batch, generator: torch.Generator, mixture: Mixture | None = None
    ) -> Batch:
        """The batch with attacked images where the loss attacks; leaves running statistics and weights unchanged.

        Args:
            mixture: the one to attack; None: that of the architecture.
        """
        if not loss.attacks:
            return batch
        if mixture is None:
            with torch.no_grad():
                mixture = self.architecture()
        with untouched(self.supernet):
            return loss.prepare(self._forward(mixture), batch, generator)

    def _perturbed(self, mixture: Mixture, batch: Batch) -> Mixture:
        """The mixture near this one with a large mean cross-entropy of the batch."""
        assert self.method.perturbation is not None
        with untouched(self.supernet):
            return worst_mixture(
                lambda near: functional.cross_entropy(self._forward(near)(batch.images).float(), batch.labels),
                mixture,
                self.perturbed,
                self.method.perturbation.steps,
                self._generator,
            )

    def _forward(self, mixture: Mixture) -> SupernetForward:
        return SupernetForward(self.supernet, mixture, self.precision)

    def check(self, name: str, tensors: Sequence[Tensor]) -> None:
        """DivergedError unless all tensors are finite."""
        if not bool(torch.stack([tensor.isfinite().all() for tensor in tensors]).all()):
            raise DivergedError(
                f"the search diverged: the {name} left the finite numbers; try lower rates, in another folder (--out)"
            )

    def state(self) -> dict[str, Any]:
        """Tensors and plain values that `restore` continues from."""
        first, *others = (
            {"architecture": architecture.state_dict(), "adam": adam.state_dict()}
            for architecture, adam in zip(self.architectures, self.adams, strict=True)
        )
        several = {} if self.standing is None else {"others": others, "standing": list(self.standing.values)}
        return {
            "supernet": self.supernet.state_dict(),
            **first,
            "momentum": momentum_buffers_of(self.sgd, self.weights),
            "epsilon": self.epsilon,
            **several,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.supernet.load_state_dict(state["supernet"])
        for weight, buffer in zip(self.weights, state["momentum"], strict=True):
            if buffer is not None:
                self.sgd.state[weight]["momentum_buffer"] = buffer.to(self.device)
        every = [state, *state.get("others", ())]
        for architecture, adam, kept in zip(self.architectures, self.adams, every, strict=True):
            architecture.load_state_dict(kept["architecture"])
            capturable = [group["capturable"] for group in adam.param_groups]  # of this device, not of the checkpoint
            adam.load_state_dict(kept["adam"])
            for group, own in zip(adam.param_groups, capturable, strict=True):
                group["capturable"] = own
        if self.standing is not None:
            self.standing.values = list(state["standing"])
        self.epsilon = float(state.get("epsilon", 0.0))  # checkpoints older than certified bounds have none


class Means:
    """Running means of named values, summed on their device."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: Counter[str] = Counter()

    def add(self, name: str, value: Tensor) -> None:
        value = value.detach().double()
        self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._counts[name] += 1

    def __contains__(self, name: str) -> bool:
        return name in self._sums

    def mean(self, name: str) -> float:
        return float(self._sums[name]) / self._counts[name]

    def means(self) -> dict[str, float]:
        return {name: self.mean(name) for name in self._sums}


def shares(losses: Sequence[LevelLoss], parts: Tensor) -> dict[str, Tensor]:
    """`share_NAME` of each loss: the length of its part over the sum of all lengths; all 0 where no part is.

    Args:
        parts: (m, n) of one step.
    """
    lengths = torch.linalg.vector_norm(parts.double(), dim=1)
    return {
        f"share_{loss.name}": length / lengths.sum().clamp(min=TINY)
        for loss, length in zip(losses, lengths, strict=True)
    }


def _on_the_host(generator: torch.Generator) -> torch.Generator:
    """The generator itself on a CPU; else one there of the same seed: reading its numbers waits for no device."""
    if generator.device.type == "cpu":
        return generator
    return torch.Generator().manual_seed(generator.initial_seed())
