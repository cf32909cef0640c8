"""Cost of a network: trainable parameters and multiply-adds, counted on any module or looked up."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["CostTable", "count_macs", "count_params", "evaluating"]


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
