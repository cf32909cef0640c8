"""The one bilevel loop: a supernet's weights below, its architecture above, an epoch at a time."""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from evonas.data import Augmentation, DevicePart, training_batches
from evonas.errors import ConfigurationError, DivergedError
from evonas.gradient.architecture import Architecture, Mixture, Operations, SupernetPlan
from evonas.gradient.bilevel import UpperGradients, direct_gradient, momentum_buffers_of, unrolled_gradient
from evonas.gradient.derive import derive_genotype
from evonas.gradient.losses import Batch, LevelLoss
from evonas.gradient.method import Method
from evonas.gradient.supernet import DartsSupernet
from evonas.networks.blocks import seeded
from evonas.networks.darts import Genotype
from evonas.networks.darts_operations import PRIMITIVES
from evonas.seeding import derive_seed
from evonas.training.fgsm_rs import untouched

__all__ = ["GradientSearch", "SearchData", "halves"]

OnStep = Callable[[int, int, str], None]
"""(steps done, steps in all, one line) for the screen; called a few times a second at most."""

SKIP = PRIMITIVES.index("skip_connect")


@dataclass(frozen=True, eq=False)
class SearchData:
    """What a search by gradient sees, on its device."""

    below: DevicePart
    """Weights are trained on these images."""
    above: DevicePart
    """The architecture is trained on these."""
    others: DevicePart | None
    """Images of none of the classes; their labels are not read."""
    augmentation: Augmentation
    n_classes: int
    normalization: tuple[Sequence[float], Sequence[float]] | None

    def __post_init__(self) -> None:
        if min(len(self.below), len(self.above)) < 2:
            raise ConfigurationError(
                f"expected at least 2 images for each level, got {len(self.below)} and {len(self.above)}"
            )


def halves(part: DevicePart, portion: float) -> tuple[DevicePart, DevicePart]:
    """The first images of a part, so large a share of it, and the rest (DARTS: by index)."""
    cut = math.floor(portion * len(part))
    return (
        DevicePart.of(part.images[:cut], part.labels[:cut]), DevicePart.of(part.images[cut:], part.labels[cut:])
    )  # fmt: skip


class GradientSearch:
    """A search by gradient, an epoch at a time; the same arguments give the same path, also when continued.

    Args:
        data: on `device`.
        precision: fp32, or bf16 under autocast.
    """

    def __init__(
        self, method: Method, data: SearchData, seed: int, device: torch.device, precision: str = "fp32"
    ) -> None:
        if method.needs_others and data.others is None:
            raise ConfigurationError(f"expected images of none of the classes for {method.name}, got none")
        self.method = method
        self.data = data
        self.seed = seed
        self.device = device
        self.precision = precision
        self.epoch = 0
        """Epochs that are done."""
        self.history: list[Tensor] = []
        """(2, edges, 8) probabilities of the operations after each of them."""
        self._begin_stage(0, None)

    @property
    def done(self) -> bool:
        return self.epoch == self.method.epochs

    @property
    def genotype(self) -> Genotype:
        """The cells that the architecture now stands for."""
        scores = self.architecture.scores()
        normal, reduce = scores.alpha_normal, scores.alpha_reduce
        found = derive_genotype(normal, reduce, scores.beta_normal, scores.beta_reduce)
        most = self.method.max_skips
        while most is not None and _skips(found) > most:
            normal = _without_weakest_skip(normal, found)
            found = derive_genotype(normal, reduce, scores.beta_normal, scores.beta_reduce)
        return found

    def probabilities(self) -> Tensor:
        """(2, edges, 8) of the operations at each edge, differentiable in the architecture."""
        return self.architecture.probabilities()

    def run_epoch(self, on_step: OnStep | None = None) -> dict[str, float]:
        """One epoch at both levels: learning_rate, train_loss, means of the upper losses and of their weights.

        Raises:
            DivergedError: a loss left the finite numbers.
        """
        number, within = self.method.place(self.epoch)
        stage, config = self.method.stages[number], self.method.config
        rate = config.search_lr_min + (config.search_lr - config.search_lr_min) * 0.5 * (
            1 + math.cos(math.pi * within / stage.epochs)
        )
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.supernet.train()
        self.supernet.skip_dropout = stage.dropout(within)
        self._drawn = self.supernet.generator = self._generator("attacks")
        descends = within >= stage.weights_only
        found = _Means()
        steps, shown = math.ceil(len(self.data.below) / config.search_batch_size), time.monotonic()
        for step, (below, above) in enumerate(self._batches()):
            if descends and config.begin_with == "alpha":
                self._descend_architecture(below, above, rate, found)
            self._descend_weights(below, found)
            if descends and config.begin_with == "weights":
                self._descend_architecture(below, above, rate, found)
            if on_step is not None and time.monotonic() - shown > 0.5:
                shown = time.monotonic()
                on_step(step + 1, steps, f"loss {found.mean('train_loss'):.3f}")
        values = {"learning_rate": rate, **found.means()}
        broken = [name for name, value in values.items() if not math.isfinite(value)]
        if broken:
            raise DivergedError(f"the search diverged: {broken[0]} of epoch {self.epoch + 1} is {values[broken[0]]}")
        self.epoch += 1
        self.history.append(self.probabilities().detach().cpu())
        if within + 1 == stage.epochs and not self.done:
            self._begin_stage(number + 1, self._kept(self.method.stages[number + 1].keep))
        return values

    def state(self) -> dict[str, Any]:
        """Tensors and plain values that `restore` goes on from."""
        weights = self._weights
        return {
            "epoch": self.epoch,
            "operations": self._operations,
            "supernet": self.supernet.state_dict(),
            "architecture": self.architecture.state_dict(),
            "momentum": momentum_buffers_of(self.optimiser, weights),
            "adam": self.adam.state_dict(),
            "history": self.history,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.epoch = state["epoch"]
        if not self.done:
            number, _ = self.method.place(self.epoch)
        else:
            number = len(self.method.stages) - 1
        self._begin_stage(number, state["operations"])
        self.supernet.load_state_dict(state["supernet"])
        self.architecture.load_state_dict(state["architecture"])
        for weight, buffer in zip(self._weights, state["momentum"], strict=True):
            if buffer is not None:
                self.optimiser.state[weight]["momentum_buffer"] = buffer.to(self.device)
        self.adam.load_state_dict(state["adam"])
        self.history = list(state["history"])

    def _begin_stage(self, number: int, operations: Any) -> None:
        """New weights and a new architecture, over the operations that are left at each edge; None: all."""
        method, config = self.method, self.method.config
        stage = method.stages[number]
        self._operations = operations
        plan = SupernetPlan(
            channels=stage.channels, layers=stage.layers, nodes=method.nodes, n_classes=self.data.n_classes,
            partial=method.partial, edge_normalisation=method.edge_normalisation, operations=operations,
        )  # fmt: skip
        made = seeded(
            lambda: DartsSupernet(plan, self.data.normalization), derive_seed(self.seed, "supernet weights", number)
        )
        assert isinstance(made, DartsSupernet)
        self.supernet = made.to(self.device).to(memory_format=torch.channels_last)
        drawn = torch.Generator().manual_seed(derive_seed(self.seed, "architecture", number))
        self.architecture = Architecture(plan, drawn).to(self.device)
        self._weights = list(self.supernet.parameters())
        self.optimiser = torch.optim.SGD(
            self._weights, config.search_lr, momentum=config.search_momentum, weight_decay=config.search_weight_decay
        )
        first, second = config.alpha_betas
        self.adam = torch.optim.Adam(
            self.architecture.parameters(), config.alpha_lr, (first, second), weight_decay=config.alpha_weight_decay
        )

    def _batches(self) -> Iterator[tuple[Batch, Batch]]:
        """One pass over the lower level's images, each batch with one drawn from the upper level's."""
        size, data = self.method.config.search_batch_size, self.data
        others = [self._endless(data.others, f"others {level}") for level in ("below", "above")]
        upper = self._endless(data.above, "above")
        order = self._generator("below")
        for images, labels in training_batches(data.below, size, data.augmentation, order):
            above_images, above_labels = next(upper)
            yield (
                Batch(images, labels, next(others[0])[0]), Batch(above_images, above_labels, next(others[1])[0])
            )  # fmt: skip

    def _endless(self, part: DevicePart | None, purpose: str) -> Iterator[tuple[Any, Any]]:
        while part is None:
            yield None, None
        generator = self._generator(purpose)
        while True:
            yield from training_batches(part, self.method.config.search_batch_size, self.data.augmentation, generator)

    def _generator(self, purpose: str) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(derive_seed(self.seed, purpose, self.epoch))

    def _descend_weights(self, below: Batch, found: "_Means") -> None:
        """One step of SGD on the lower level's loss."""
        method = self.method
        with torch.no_grad():
            mixture, probabilities = self.architecture(), self.probabilities()
        batch = self._prepared(method.lower, below, self._drawn)
        loss = method.lower(self._forward(mixture), probabilities, batch)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._weights, method.config.search_grad_clip)
        self.optimiser.step()
        found.add("train_loss", loss)

    def _descend_architecture(self, below: Batch, above: Batch, rate: float, found: "_Means") -> None:
        """One step of Adam against the weighted gradients of the upper losses."""
        method, parameters = self.method, list(self.architecture.parameters())
        upper = self._upper_gradients(below, above, rate, parameters)
        weights = method.combine(upper.gradients, upper.losses)
        step = torch.zeros_like(upper.gradients[0])
        for weight, gradient in zip(weights.tolist(), upper.gradients, strict=True):
            if weight:  # a lone objective's path is that of the objective, bit for bit
                step += weight * gradient
        sizes = [parameter.numel() for parameter in parameters]
        for parameter, part in zip(parameters, torch.split(step, sizes), strict=True):
            parameter.grad = part.view_as(parameter)
        self.adam.step()
        for loss, value, weight in zip(method.upper, upper.losses, weights, strict=True):
            found.add(f"upper_{loss.name}", value)
            found.add(f"weight_{loss.name}", weight)

    def _upper_gradients(self, below: Batch, above: Batch, rate: float, parameters: Sequence[Tensor]) -> UpperGradients:
        method, config, buffers = self.method, self.method.config, list(self.supernet.buffers())
        seed = int(torch.randint(2**62, (), generator=self._drawn, device=self.device))

        def value(loss: LevelLoss, batch: Batch, number: int, attack: bool = True) -> Tensor:
            """The same random numbers whenever it is asked for."""
            self.supernet.generator = torch.Generator(self.device).manual_seed(derive_seed(seed, number))
            if attack:
                batch = self._prepared(loss, batch, self.supernet.generator)
            return loss(self._forward(self.architecture()), self.probabilities(), batch)

        uppers = [partial(value, loss, above, number) for number, loss in enumerate(method.upper)]
        try:
            if config.order == 1:
                return direct_gradient(uppers, self._weights, parameters, buffers)
            attacked = self._prepared(method.lower, below, self._drawn)  # once, so that the lower loss stays the same
            return unrolled_gradient(
                partial(value, method.lower, attacked, len(uppers), attack=False), uppers, self._weights, parameters,
                rate, momentum_buffers_of(self.optimiser, self._weights), config.search_momentum,
                config.search_weight_decay, config.hessian, buffers,
            )  # fmt: skip
        finally:
            self.supernet.generator = self._drawn

    def _prepared(self, loss: LevelLoss, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch with what is attacked of it; running statistics and weights are left alone."""
        with torch.no_grad():
            mixture = self.architecture()
        with untouched(self.supernet):
            return loss.prepare(self._forward(mixture), batch, generator)

    def _forward(self, mixture: Mixture) -> Callable[[Tensor], Tensor]:
        def forward(images: Tensor) -> Tensor:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
                logits: Tensor = self.supernet(images, mixture)
            return logits

        return forward

    def _kept(self, keep: int) -> Operations:
        """The strongest operations of every edge, in the order of `PRIMITIVES`; the first of equals."""
        chosen = self.probabilities().detach().sort(dim=2, descending=True, stable=True).indices[:, :, :keep]
        return tuple(tuple(tuple(sorted(edge)) for edge in cell) for cell in chosen.tolist())


class _Means:
    """Running means of named values, kept on their device until they are asked for."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: Counter[str] = Counter()

    def add(self, name: str, value: Tensor) -> None:
        value = value.detach().double()
        self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._counts[name] += 1

    def mean(self, name: str) -> float:
        return float(self._sums[name]) / self._counts[name]

    def means(self) -> dict[str, float]:
        return {name: self.mean(name) for name in self._sums}


def _skips(genotype: Genotype) -> int:
    return sum(operation == "skip_connect" for operation, _ in genotype.normal)


def _without_weakest_skip(alpha: Tensor, genotype: Genotype) -> Tensor:
    """(edges, 8) alpha of the normal cell in which `none` has taken over the weakest skip_connect of its nodes."""
    edges, first = [], 0
    for node in range(len(genotype.normal) // 2):
        pairs = genotype.normal[2 * node : 2 * node + 2]
        edges += [first + source for operation, source in pairs if operation == "skip_connect"]
        first += node + 2
    changed = alpha.detach().double().clone()
    weights = changed.log_softmax(dim=1)[edges, SKIP]
    weakest = edges[int(weights.argmin())]
    changed[weakest, 0] = torch.logaddexp(changed[weakest, 0], changed[weakest, SKIP])
    changed[weakest, SKIP] = -torch.inf
    return changed
