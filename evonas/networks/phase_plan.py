"""Plans of networks of phases: connections, channels and sizes; no torch."""

import functools
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

__all__ = ["PhaseGraph", "PhasePlan", "plan_phases"]


@dataclass(frozen=True)
class PhaseGraph:
    """Connections of one phase. Node 0 is the phase's input; nodes 1..n are 3x3 convolutions."""

    node_inputs: tuple[tuple[int, ...], ...]
    """For each of the nodes 1..n its inputs, ascending; () marks an inactive node, which has no module."""
    output_inputs: tuple[int, ...]
    """Inputs of the phase's output, ascending."""

    @cached_property
    def n_active(self) -> int:
        """Number of nodes that have a module."""
        return sum(bool(inputs) for inputs in self.node_inputs)

    @cached_property
    def merges(self) -> tuple[tuple[int, int], ...]:
        """(node, number of inputs) for every node that merges several inputs; the output is node n + 1."""
        read = enumerate((*self.node_inputs, self.output_inputs), start=1)
        return tuple((node, len(inputs)) for node, inputs in read if len(inputs) > 1)


class PhasePlan(NamedTuple):
    """Channels and sizes of a phase in its network."""

    in_channels: int
    out_channels: int
    kernel_size: int
    """Kernel size of the first convolution, which has no padding; 0: no first convolution."""
    size: int
    """Height and width inside the phase."""


@functools.lru_cache(typed=True)
def plan_phases(n_active: int, channels: int, in_channels: int, image_size: int) -> tuple[PhasePlan, ...]:
    """Channels and map sizes of `n_active` phases: channels double from phase to phase, sizes halve between them.

    The first convolution of the first phase is 3x3 without padding, so 32x32 images give maps of 30, 15, 7, 3, 1.

    Raises:
        ValueError: the image is too small for `n_active` phases.
    """
    if not isinstance(channels, int | np.integer) or channels < 1:
        raise ValueError(f"expected a whole number of channels >= 1, got {channels!r}")
    plan: list[PhasePlan] = []
    size, width = image_size, in_channels
    for position in range(n_active):
        out_channels = channels * 2**position
        kernel_size = 0 if width == out_channels else (1 if position else 3)
        size = (size // 2 if position else size) - max(kernel_size - 1, 0)
        if size < 1:
            raise ValueError(
                f"expected at most {position} active phases for {image_size}x{image_size} images, got {n_active}"
            )
        plan.append(PhasePlan(width, out_channels, kernel_size, size))
        width = out_channels
    return tuple(plan)
