"""Separable CMA-ES on many problems at once."""

import math

import torch
from torch import Tensor

__all__ = ["SeparableCMA"]

TREND_RATE = 0.3
"""Learning rate of the smoothed rank difference that adapts the step size."""


class SeparableCMA:
    """CMA-ES with a diagonal covariance (Ros and Hansen, 2008) on B problems side by side; scores are minimised.

    Time and memory are linear in the genes; a full covariance of the 3,072 values of an image is quadratic. Weights
    and learning rates are those of Hansen's tutorial (2016), except that the rates of the covariance are (D + 2) / 3
    times as large. The step size follows two-point adaptation (Hansen, Atamna and Auger, 2014): from the second
    generation on, two individuals lie ahead of the mean and behind it, along its last move. The step size grows if the
    one ahead ranks better, and shrinks otherwise. In thousands of genes most of a move is noise, and a further step in
    its direction shows which part is not.

    Points are clipped to the bounds for scoring, but updates use the unclipped samples: a gene that is best at its
    bound moves on until nearly all of its samples are clipped there, which finds corners sooner than updates from
    clipped points. The mean may leave the bounds by half their width, so that it can come back.

    The first individual of a generation is the mean itself, which often scores better than any sample because it
    carries no sampling noise. Updates ignore it.

    Args:
        mean: (B, D) start, within the bounds.
        sigma: initial step size, in units of the genes.
        low, high: (B, D) bounds; None: unbounded.
        individuals: NP, number of points scored in a generation: the mean and at least 4 samples.
        generator: on the device of `mean`.
    """

    def __init__(
        self,
        mean: Tensor,
        sigma: float,
        low: Tensor | None,
        high: Tensor | None,
        individuals: int,
        generator: torch.Generator,
    ) -> None:
        self.generator = generator
        self.individuals = individuals
        self.mean = mean
        self._low, self._high = low, high
        self._sigma = torch.full_like(mean[:, :1], sigma)  # (B, 1)
        self._trend = torch.zeros_like(self._sigma)  # > 0 where the step size should grow
        self._variance = torch.ones_like(mean)  # (B, D) diagonal of C
        self._path = torch.zeros_like(mean)
        self._move: Tensor | None = None  # (B, D) last move of the mean
        self._samples = mean[:, None]  # (B, NP - 1, D), not clipped
        self._set_constants(mean.shape[1])

    def _set_constants(self, genes: int) -> None:
        parents = (self.individuals - 1) // 2
        rank = torch.arange(1, parents + 1, device=self.mean.device, dtype=self.mean.dtype)
        weights = math.log(parents + 0.5) - rank.log()
        self._weights = weights / weights.sum()  # (P,) for the better half of the samples, best first
        mass = float(1 / self._weights.square().sum())
        self._mass = mass  # variance-effective number of parents
        self._path_rate = (4 + mass / genes) / (genes + 4 + 2 * mass / genes)
        one = 2 / ((genes + 1.3) ** 2 + mass)
        many = 2 * (mass - 2 + 1 / mass) / ((genes + 2) ** 2 + mass)
        faster = (genes + 2) / 3
        self._rank_one_rate = min(1.0, one * faster)
        self._rank_many_rate = min(1 - self._rank_one_rate, max(0.0, many * faster))

    def ask(self) -> Tensor:
        """(B, NP, D) points within the bounds, to be scored next."""
        problems, genes = self.mean.shape
        shape = (problems, self.individuals - 1, genes)
        samples = torch.randn(shape, generator=self.generator, device=self.mean.device, dtype=self.mean.dtype)
        samples.mul_((self._sigma * self._variance.sqrt())[:, None]).add_(self.mean[:, None])
        if self._move is not None:
            length = (self._move.square() / self._variance).sum(dim=1, keepdim=True).sqrt()  # a sample has sqrt(D)
            ahead = self._move * (self._sigma * math.sqrt(genes) / length.clamp_min(1e-30))
            samples[:, 0], samples[:, 1] = self.mean + ahead, self.mean - ahead
        self._samples = samples
        return self._clipped(torch.cat([self.mean[:, None], samples], dim=1), 0.0)

    def tell(self, scores: Tensor) -> None:
        """Update from the (B, NP) scores of the points that `ask` returned last."""
        scores = scores[:, 1:]
        best = scores.topk(len(self._weights), dim=1, largest=False).indices  # ascending scores
        chosen = self._samples.gather(1, best[..., None].expand(-1, -1, self.mean.shape[1]))
        steps = chosen.sub_(self.mean[:, None]).div_(self._sigma[:, None])  # (B, P, D)
        step = torch.einsum("p,bpd->bd", self._weights, steps)
        spread = torch.einsum("p,bpd->bd", self._weights, steps.square_())
        mean = self._clipped((self.mean + self._sigma * step)[:, None], 0.5)[:, 0]
        self._adapt_variance(step, spread)
        if self._move is not None:
            self._adapt_sigma(scores)
        if self._low is not None and self._high is not None:  # unlimited, deviations above twice the box would grow on
            widest = (2 * (self._high - self._low) / self._sigma).square().clamp_min(1e-20)
            self._variance = torch.minimum(self._variance, widest)
        self._move = mean - self.mean
        self.mean = mean

    def _adapt_variance(self, step: Tensor, spread: Tensor) -> None:
        """Update the covariance from the mean step and the mean squared step, each (B, D) in units of sigma."""
        rate, one, many = self._path_rate, self._rank_one_rate, self._rank_many_rate
        self._path = (1 - rate) * self._path + math.sqrt(rate * (2 - rate) * self._mass) * step
        variance = (1 - one - many) * self._variance + one * self._path.square() + many * spread
        self._variance = variance.clamp_min(1e-20)

    def _adapt_sigma(self, scores: Tensor) -> None:
        """Update the step size from (B, NP - 1) scores, the first two of the points ahead of the mean and behind it."""
        ahead, behind = ((scores < scores[:, i, None]).sum(dim=1, keepdim=True) for i in (0, 1))  # ranks
        gained = (behind - ahead).to(self._trend.dtype)
        self._trend = (1 - TREND_RATE) * self._trend + TREND_RATE * gained / (scores.shape[1] - 1)
        self._sigma = self._sigma * torch.exp(self._trend / math.sqrt(self.mean.shape[1]))

    def _clipped(self, points: Tensor, slack: float) -> Tensor:
        """Clip (B, n, D) points, in place, to the bounds widened by `slack` times their width on each side."""
        if self._low is None or self._high is None:
            return points
        margin = slack * (self._high - self._low)
        low, high = (self._low - margin)[:, None], (self._high + margin)[:, None]
        return torch.minimum(torch.maximum(points, low, out=points), high, out=points)

    def keep(self, problems: Tensor) -> None:
        """Drop all problems except these: indices or a (B,) mask."""
        for name in ("mean", "_sigma", "_trend", "_variance", "_path", "_samples"):
            setattr(self, name, getattr(self, name)[problems])
        self._move = None if self._move is None else self._move[problems]
        if self._low is not None and self._high is not None:
            self._low, self._high = self._low[problems], self._high[problems]
