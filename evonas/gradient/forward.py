"""A supernet as losses see it: images in, logits out, with its weights and its architecture as they now are."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from evonas.certify.recording import in_eval_mode
from evonas.gradient.architecture import Mixture
from evonas.gradient.supernet import DartsSupernet

__all__ = ["Forward", "SupernetForward", "settled"]

Forward = Callable[[Tensor], Tensor]
"""(B, C, H, W) images -> (B, K) logits of the supernet with its weights and its architecture as they now are."""


@dataclass(frozen=True, eq=False)
class SupernetForward:
    """A `Forward` in the supernet's own mode, in float32 or under autocast."""

    supernet: DartsSupernet
    mixture: Mixture
    precision: str
    """fp32 or bf16."""

    def __call__(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            logits: Tensor = self.supernet(images, self.mixture)
        return logits

    @contextlib.contextmanager
    def settled(self) -> Iterator[Forward]:
        """See `settled`."""
        kept = [
            (part, name, buffer)
            for part in self.supernet.modules()
            for name, buffer in part.named_buffers(recurse=False)
        ]
        try:
            for part, name, buffer in kept:  # passes in train mode may change these before the graph is gone through
                setattr(part, name, buffer.clone())
            with in_eval_mode(self.supernet):
                yield lambda images: self.supernet(images, self.mixture)
        finally:
            for part, name, buffer in kept:
                setattr(part, name, buffer)


def settled(forward: Forward) -> contextlib.AbstractContextManager[Forward]:
    """Within, a `Forward` whose answer to an image depends on no other image, and on nothing drawn, in float32.

    Batch normalisation takes its running statistics and leaves them alone; modes are put back, whatever happens. Of a
    function that has no way to settle, it is the function itself.
    """
    own = getattr(forward, "settled", None)
    return contextlib.nullcontext(forward) if own is None else own()
