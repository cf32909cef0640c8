"""Cost of a network: trainable parameters and multiply-adds, counted on any module or looked up."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["CostTable", "LayerCost", "count_macs", "count_params", "evaluating", "layer_costs"]


def count_params(module: "nn.Module") -> int:
    """Number of trainable parameters; a shared parameter counts once."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def count_macs(module: "nn.Module", image_shape: Sequence[int] = (3, 32, 32)) -> int:
    """Multiply-adds of convolutions, linear layers and matrix products in one forward pass of one image.

    Counted on the operators that torch dispatches, for any kind of layer: half of `torch.utils.flop_counter`, which
    counts a multiply-add as two. Not counted: biases, normalisation, activations, pooling, and recurrent layers that
    torch runs as one operator.

    Args:
        image_shape: (C, H, W).
    """
    return _counted(module, image_shape)


class LayerCost(NamedTuple):
    """A layer in one forward pass of one image; all layers of a module add up to its costs."""

    name: str
    """Path in the module; empty for the module itself."""
    kind: str
    """Its class, with kernel, stride and groups where it has them."""
    shape: tuple[int, ...]
    """(C, H, W) or (C,) of its last output; empty for a layer that no image goes through."""
    params: int
    """Its own trainable parameters, without those of layers inside it; shared ones count where they are first."""
    macs: int
    """Its own multiply-adds, without those of layers inside it."""


def layer_costs(module: "nn.Module", image_shape: Sequence[int] = (3, 32, 32)) -> list[LayerCost]:
    """Layers in the order in which an image leaves them: those without layers inside, and those with own costs.

    For people, by module; `evonas.ship.layers_of` counts the operators below them, for time.

    Args:
        image_shape: (C, H, W).
    """
    layers = _Layers(module)
    hooks = [part.register_forward_pre_hook(layers.enter) for part in layers.names]
    hooks += [part.register_forward_hook(layers.leave) for part in layers.names]
    try:
        _counted(module, image_shape, layers)
    finally:
        for hook in hooks:
            hook.remove()
    return layers.costs()


class _Layers:
    """Outputs and multiply-adds of a module's layers during one pass."""

    def __init__(self, module: "nn.Module") -> None:
        self.names = {part: name for name, part in module.named_modules()}
        self.shapes: dict[Any, tuple[int, ...]] = {}
        self.macs: dict[Any, int] = dict.fromkeys(self.names, 0)
        self.flops: Callable[[], int]
        """Twice the multiply-adds of the pass so far."""
        self._inside: list[tuple[int, list[int]]] = []
        """Layers that have begun: multiply-adds before each, and those of the layers inside it."""

    def enter(self, part: Any, inputs: Any) -> None:
        self._inside.append((self.flops() // 2, []))

    def leave(self, part: Any, inputs: Any, output: Any) -> None:
        before, others = self._inside.pop()
        whole = self.flops() // 2 - before
        self.macs[part] += whole - sum(others)
        if self._inside:
            self._inside[-1][1].append(whole)
        first = output[0] if isinstance(output, tuple | list) else output
        self.shapes.pop(part, None)  # it moves to the end
        self.shapes[part] = tuple(getattr(first, "shape", ()))[1:]

    def costs(self) -> list[LayerCost]:
        params, seen = {}, set[int]()
        for part in self.names:
            fresh = [each for each in part.parameters(recurse=False) if each.requires_grad and id(each) not in seen]
            seen.update(map(id, fresh))
            params[part] = sum(each.numel() for each in fresh)
        order = [*self.shapes, *(part for part in self.names if part not in self.shapes and params[part])]
        return [
            LayerCost(self.names[part], _kind_of(part), self.shapes.get(part, ()), params[part], self.macs[part])
            for part in order
            if params[part] or self.macs[part] or not [*part.children()]
        ]


def _kind_of(part: Any) -> str:
    """`Conv2d 3x3 /2 in 8 groups`."""
    words = [type(part).__name__]
    kernel, stride = (getattr(part, name, None) for name in ("kernel_size", "stride"))
    if kernel:
        words.append("x".join(map(str, kernel)) if isinstance(kernel, tuple) else f"{kernel}x{kernel}")
    stride = stride[0] if isinstance(stride, tuple) else stride
    words += [f"/{stride}"] if isinstance(stride, int) and stride > 1 else []
    groups = getattr(part, "groups", 1)
    words += [f"in {groups} groups"] if isinstance(groups, int) and groups > 1 else []
    return " ".join(words)


def _counted(module: "nn.Module", image_shape: Sequence[int], layers: _Layers | None = None) -> int:
    """Multiply-adds of one pass; `layers` sees them add up."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    parameter = next(module.parameters(), torch.empty(0))
    image = torch.zeros(1, *image_shape, device=parameter.device, dtype=parameter.dtype)
    fused_attention = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one operator, unknown to the counter
    try:
        with (
            evaluating(module),
            sdpa_kernel(SDPBackend.MATH),
            FlopCounterMode(display=False) as counter,
            torch.enable_grad(),
        ):
            if layers is not None:
                layers.flops = counter.get_total_flops
            module(image)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused_attention)
    return int(counter.get_total_flops()) // 2


@contextlib.contextmanager
def evaluating(module: "nn.Module") -> Iterator[None]:
    """Context in which every part of a module is in eval mode; afterwards each has the mode that it had."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


class CostTable:
    """Additive costs of one choice per slot, exact for choices and expected for probabilities.

    Args:
        cost: (slots, choices) cost of every choice in every slot.
    """

    def __init__(self, cost: npt.ArrayLike) -> None:
        self.cost = np.array(cost)
        if self.cost.ndim != 2:
            raise ValueError(f"expected costs of shape (slots, choices), got {self.cost.shape}")

    def of(self, choice: npt.ArrayLike) -> int:
        """Exact cost of a (slots,) choice."""
        values = np.asarray(choice)
        chosen = values.astype(np.int64)
        if not np.array_equal(chosen, values):
            raise ValueError(f"expected whole numbers as choices, got {values.tolist()}")
        if chosen.shape != self.cost.shape[:1]:
            raise ValueError(f"expected a choice of shape {self.cost.shape[:1]}, got {chosen.shape}")
        if chosen.size and not (chosen.min() >= 0 and chosen.max() < self.cost.shape[1]):
            raise ValueError(f"expected choices 0 to {self.cost.shape[1] - 1}, got {chosen.tolist()}")
        return int(self.cost[np.arange(len(chosen)), chosen].sum())

    def expected(self, probability: "Tensor") -> "Tensor":
        """() expected cost under (slots, choices) probabilities, differentiable in them."""
        import torch

        if probability.shape != self.cost.shape:
            raise ValueError(f"expected probabilities of shape {self.cost.shape}, got {tuple(probability.shape)}")
        return (probability * torch.as_tensor(self.cost).to(probability)).sum()
