"""Networks: plain modules from images in [0, 1] to logits. They know no genomes."""

from evonas.networks.phase import PhaseGraph, PhaseNetwork

__all__ = ["PhaseGraph", "PhaseNetwork"]
