"""Crossover and mutation of phase bitstrings: whole blocks (RoCo-NAS, III-C), or bits (reference of NSGA-Net)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from evonas.errors import ConfigurationError
from evonas.types import Genome

__all__ = ["PHASE_OPERATORS", "NsganetOperators", "PhaseOperators", "RocoOperators"]


class PhaseOperators(Protocol):
    """Crossover and mutation of (n_genes,) genomes of `phases` equal parts; arguments stay unchanged."""

    def crossover(self, a: Genome, b: Genome, rng: np.random.Generator) -> tuple[Genome, Genome]: ...
    def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome: ...


@dataclass(frozen=True)
class RocoOperators:
    """RoCo-NAS, III-C: children inherit computational blocks; a mutation touches one block."""

    phases: int

    def crossover(self, a: Genome, b: Genome, rng: np.random.Generator) -> tuple[Genome, Genome]:
        """Each phase from either parent with equal probability; the second child is the complement.

        With two or more phases, each parent contributes at least one.
        """
        takes_b = rng.random(self.phases) < 0.5
        if self.phases > 1 and (takes_b.all() or not takes_b.any()):
            takes_b[rng.integers(self.phases)] ^= True
        mask = np.repeat(takes_b, len(a) // self.phases)
        return np.where(mask, b, a), np.where(mask, a, b)

    def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
        """Flip each bit of one random phase with probability 1 / (bits of a phase), at least one in any case."""
        length = len(genome) // self.phases
        flips = rng.random(length) < 1 / length
        if not flips.any():
            flips[rng.integers(length)] = True
        start = rng.integers(self.phases) * length
        child = genome.copy()
        child[start : start + length] ^= flips
        return child


@dataclass(frozen=True)
class NsganetOperators:
    """Operators of the reference of NSGA-Net: two-point crossover over all bits, and rare flips.

    Its polynomial mutation (eta 3) triggers with probability 1 / length for each bit, but after rounding only 15.7% of
    the triggered mutations flip the bit.
    """

    phases: int
    rate: float = 0.157
    """Expected flips of a child: each bit flips with probability rate / length."""

    def __post_init__(self) -> None:
        if not 0 <= self.rate < math.inf:
            raise ConfigurationError(f"expected a finite mutation rate >= 0, got {self.rate}")

    def crossover(self, a: Genome, b: Genome, rng: np.random.Generator) -> tuple[Genome, Genome]:
        """Swap the segment between two distinct cuts in 1..length - 1, or behind the cut if there is only one."""
        length = len(a)
        cuts = np.sort(rng.choice(np.arange(1, length), size=min(2, length - 1), replace=False))
        inside = np.arange(length) >= cuts[0]
        if len(cuts) > 1:
            inside &= np.arange(length) < cuts[1]
        return np.where(inside, b, a), np.where(inside, a, b)

    def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
        flips = rng.random(len(genome)) < self.rate / len(genome)
        return genome ^ flips


PHASE_OPERATORS: dict[str, Callable[[int, float | None], PhaseOperators]] = {
    "roco": lambda phases, rate: RocoOperators(phases),
    "nsganet": lambda phases, rate: NsganetOperators(phases) if rate is None else NsganetOperators(phases, rate),
}
"""Name -> function of (phases, mutation rate or None for the default) -> operators."""
