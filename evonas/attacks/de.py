"""Differential evolution on many problems at once."""

import torch
from torch import Tensor

__all__ = ["DifferentialEvolution", "de_population"]


def de_population(population: int, genes: int) -> int:
    """Population size of one problem: `population` rounded down to a multiple of `genes`, at least `genes` and 5.

    Kotyan and Vargas (2019): max(1, 400 // genes) for each gene.
    """
    return max(5, max(1, population // genes) * genes)


class DifferentialEvolution:
    """best/1/bin with crossover rate 1 (Storn and Price, 1997) on B problems side by side; scores are minimised.

    Starts from a Latin hypercube. In every generation each problem draws one scale factor from U(0.5, 1). A trial is
    the best individual plus the scaled difference of two individuals besides its parent; genes outside the cube are
    drawn anew. A trial replaces its parent unless it is worse. Scores arrive for a whole generation at a time, so the
    best individual changes between generations only.

    Args:
        problems, individuals, genes: B, NP >= 4 and D.
        generator: all tensors are on its device.
    """

    def __init__(self, problems: int, individuals: int, genes: int, generator: torch.Generator) -> None:
        self.generator = generator
        strata = self._uniform(problems, genes, individuals).argsort(dim=2)  # along contiguous memory
        start = self._uniform(problems, genes, individuals).add_(strata).div_(individuals)
        self._trials = start.transpose(1, 2).contiguous()  # (B, NP, D)
        self._population = self._trials
        self._scores: Tensor | None = None  # (B, NP)

    def ask(self) -> Tensor:
        """(B, NP, D) points of the unit cube, to be scored next."""
        if self._scores is not None:
            self._trials = self._mutants(self._scores)
        return self._trials

    def tell(self, scores: Tensor) -> None:
        """Update from the (B, NP) scores of the points that `ask` returned last."""
        if self._scores is None:
            self._scores = scores
            return
        better = scores <= self._scores
        self._scores = torch.where(better, scores, self._scores)
        self._population = torch.where(better[..., None], self._trials, self._population)

    def keep(self, problems: Tensor) -> None:
        """Drop all problems except these: indices or a (B,) mask."""
        self._population, self._trials = self._population[problems], self._trials[problems]
        if self._scores is not None:
            self._scores = self._scores[problems]

    def _mutants(self, scores: Tensor) -> Tensor:
        problems, individuals, genes = self._population.shape
        best = self._at(scores.argmin(dim=1, keepdim=True))  # (B, 1, D)
        scale = self._uniform(problems, 1, 1).mul_(0.5).add_(0.5)
        first, second = self._two_besides_parent(problems, individuals)
        trials = self._at(first).sub_(self._at(second)).mul_(scale).add_(best)
        outside = (trials < 0) | (trials > 1)
        return torch.where(outside, self._uniform(problems, individuals, genes), trials)

    def _two_besides_parent(self, problems: int, individuals: int) -> tuple[Tensor, Tensor]:
        """(B, NP) indices each: two different individuals besides the parent, uniform over all pairs."""
        parent = torch.arange(individuals, device=self.generator.device)
        first = self._below(individuals - 1, problems, individuals)
        first += first >= parent
        second = self._below(individuals - 2, problems, individuals)
        second += second >= torch.minimum(first, parent)
        second += second >= torch.maximum(first, parent)
        return first, second

    def _at(self, chosen: Tensor) -> Tensor:
        """(B, n) indices -> (B, n, D) individuals."""
        return self._population[torch.arange(len(chosen), device=chosen.device)[:, None], chosen]

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator, device=self.generator.device, dtype=torch.float32)

    def _below(self, limit: int, *shape: int) -> Tensor:
        return torch.randint(limit, shape, generator=self.generator, device=self.generator.device)
