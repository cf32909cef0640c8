"""A supernet as losses see it: from images to logits, with its current weights and architecture."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evonas.certify.recording import in_eval_mode
from evonas.gradient.architecture import Mixture
from evonas.gradient.supernet import DartsSupernet

__all__ = ["Forward", "ForwardNetwork", "SupernetForward", "edge_shares", "eval_mode"]

Forward = Callable[[Tensor], Tensor]
"""(B, C, H, W) images -> (B, K) logits of the supernet with its current weights and architecture."""


@dataclass(frozen=True, eq=False)
class SupernetForward:
    """A `Forward` in the current mode of the supernet, in float32 or under autocast."""

    supernet: DartsSupernet
    mixture: Mixture
    precision: str
    """fp32 or bf16."""

    def __call__(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            logits: Tensor = self.supernet(images, self.mixture)
        return logits

    @contextlib.contextmanager
    def eval_mode(self) -> Iterator[Forward]:
        """See `eval_mode`."""
        buffers = [
            (part, name, buffer)
            for part in self.supernet.modules()
            for name, buffer in part.named_buffers(recurse=False)
        ]
        try:
            for part, name, buffer in buffers:  # a pass in train mode may change these before the backward pass
                setattr(part, name, buffer.clone())
            with in_eval_mode(self.supernet):
                yield lambda images: self.supernet(images, self.mixture)
        finally:
            for part, name, buffer in buffers:
                setattr(part, name, buffer)


class ForwardNetwork(nn.Module):
    """A `Forward` as a network that training recipes take: modes, weights and statistics are the supernet's own.

    A plain function, without a supernet, has none of them.
    """

    def __init__(self, forward: Forward) -> None:
        super().__init__()
        self.answers = forward
        self.supernet: nn.Module | None = getattr(forward, "supernet", None)
        self.training = self.supernet is None or self.supernet.training

    def forward(self, images: Tensor) -> Tensor:
        return self.answers(images)


def eval_mode(forward: Forward) -> contextlib.AbstractContextManager[Forward]:
    """A context with a `Forward` in eval mode: logits depend on no other image and on no random number, in float32.

    Batch normalisation uses its running statistics without changing them; modes are restored on exit, also by an error.
    A plain function, without a method `eval_mode`, stands for itself.
    """
    own = getattr(forward, "eval_mode", None)
    return contextlib.nullcontext(forward) if own is None else own()


def edge_shares(forward: Forward) -> Tensor | None:
    """(2, edges) shares of the edges into each node, in normal and reduction cells (PC-DARTS); None without any.

    A plain function, without a `mixture`, has none.
    """
    mixture: Mixture | None = getattr(forward, "mixture", None)
    return None if mixture is None else mixture.edge_shares
