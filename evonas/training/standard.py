"""Plain training: cross-entropy on clean images."""

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["standard"]


def standard(network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """() mean cross-entropy of a batch, float32."""
    return functional.cross_entropy(network(images).float(), labels)
