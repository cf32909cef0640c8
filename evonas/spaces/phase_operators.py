"""How phase bitstrings mate: whole computational blocks (RoCo-NAS, III-C), or bits (NSGA-Net's reference)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from evonas.errors import ConfigurationError
from evonas.types import Genome

__all__ = ["PHASE_OPERATORS", "NsganetOperators", "PhaseOperators", "RocoOperators"]


class PhaseOperators(Protocol):
    """Crossover and mutation of (n_genes,) genomes of `phases` equal parts; the arguments are never changed."""

    def crossover(self, a: Genome, b: Genome, rng: np.random.Generator) -> tuple[Genome, Genome]: ...
    def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome: ...


@dataclass(frozen=True)
class RocoOperators:
    """RoCo-NAS, III-C: children inherit computational blocks; a mutation touches one block."""

    phases: int

    def crossover(self, a: Genome, b: Genome, rng: np.random.Generator) -> tuple[Genome, Genome]:
        """Each phase from either parent with equal chance; the second child gets the other one.

        With two phases or more, each parent gives at least one phase.
        """
        takes_b = rng.random(self.phases) < 0.5
        if self.phases > 1 and (takes_b.all() or not takes_b.any()):
            takes_b[rng.integers(self.phases)] ^= True
        mask = np.repeat(takes_b, len(a) // self.phases)
        return np.where(mask, b, a), np.where(mask, a, b)

    def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
        """Each bit of one random phase flips with chance 1 / (bits of a phase), and at least one does."""
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
    """NSGA-Net's reference: two-point crossover over all bits, and few flips.

    Its polynomial mutation (eta 3) is triggered with chance 1 / length a bit, but rounding lets only 15.7% of the
    triggered ones flip the bit.
    """

    phases: int
    rate: float = 0.157
    """Expected flips of a child: each bit flips with chance rate / length."""

    def __post_init__(self) -> None:
        if not 0 <= self.rate < math.inf:
            raise ConfigurationError(f"expected a finite mutation rate >= 0, got {self.rate}")

    def crossover(self, a: Genome, b: Genome, rng: np.random.Generator) -> tuple[Genome, Genome]:
        """Swap the segment between two distinct cuts in 1..length - 1 (one cut where there is only one)."""
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
"""Name -> operators of (phases, mutation rate or None for their own)."""
