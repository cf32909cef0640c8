"""ExecuTorch's files for phones and boards, lowered to XNNPACK where it is there."""

import importlib.util
from typing import Any

import torch
from torch import Tensor, nn

from evonas.ship.format import LARGEST_BATCH, Format, Sent, example_of

__all__ = ["PTE"]

XNNPACK = "executorch.backends.xnnpack.partition.xnnpack_partitioner"


class _Program(nn.Module):
    """A program run by ExecuTorch's own runtime; without gradients."""

    def __init__(self, data: bytes) -> None:
        from executorch.runtime import Runtime

        super().__init__()
        self.program: Any = Runtime.get().load_program(data)
        self.method: Any = self.program.load_method("forward")

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.method.execute([images.detach().contiguous()])[0].clone()
        return logits


def _write(sent: Sent) -> bytes:
    from executorch.exir import to_edge_transform_and_lower

    batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
    example = example_of(sent, LARGEST_BATCH)  # of an example of two it reserves memory for 15
    program = torch.export.export(sent.plain(), (example,), dynamic_shapes=({0: batch},))
    lowered = to_edge_transform_and_lower(program, partitioner=_partitioners())
    written: bytes = lowered.to_executorch().buffer
    return written


def _partitioners() -> list[Any]:
    """XNNPACK's, where this build of ExecuTorch has it; else none: its portable kernels."""
    if importlib.util.find_spec("executorch.backends.xnnpack") is None:
        return []
    return [importlib.import_module(XNNPACK).XnnpackPartitioner()]


PTE = Format(
    "ExecuTorch",
    _write,
    _Program,
    f"a program of ExecuTorch, up to {LARGEST_BATCH} images at once",
    ("executorch",),
    "executorch",
)
