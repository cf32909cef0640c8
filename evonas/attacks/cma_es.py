"""Separable CMA-ES of many problems at once."""

import math

import torch
from torch import Tensor

__all__ = ["SeparableCMA"]

TREND_RATE = 0.3


class SeparableCMA:
    """CMA-ES with a diagonal covariance (Ros and Hansen, 2008), for B problems side by side; scores are minimised.

    Time and memory are linear in the genes, where a full covariance of an image's 3,072 values is quadratic. Weights
    and learning rates are those of Hansen's tutorial (2016), the covariance's (D + 2) / 3 times as large. The step
    size follows two-point adaptation (Hansen, Atamna and Auger, 2014): from the second generation on two individuals
    lie before and behind the mean, in the direction of its last move; which of them ranks higher makes the step size
    grow or shrink. In thousands of genes most of a move is noise, and going on in its direction tells what is not.

    Points are clipped to the bounds to be scored, and learned from where they were drawn: a gene that does best at its
    bound moves on until nearly all its samples are clipped there, which finds corners sooner than learning from
    clipped points does. The mean may leave the bounds by half their width, so that it can come back.

    The first of a generation's individuals is the mean itself, which is often better than any sample, since the
    samples' own noise is gone. It is not learned from.

    Args:
        mean: (B, D) start, within the bounds.
        sigma: start of the step size, in units of the genes.
        low, high: (B, D) bounds, or None for an unbounded problem.
        individuals: NP, what is scored in a generation: the mean and at least 4 others.
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
        self._move: Tensor | None = None  # (B, D) of the mean, last
        self._samples = mean[:, None]  # (B, NP - 1, D), not clipped
        self._set_constants(mean.shape[1])

    def _set_constants(self, genes: int) -> None:
        parents = (self.individuals - 1) // 2
        rank = torch.arange(1, parents + 1, device=self.mean.device, dtype=self.mean.dtype)
        weights = math.log(parents + 0.5) - rank.log()
        self._weights = weights / weights.sum()  # (P,) of the better half of the samples, best first
        mass = float(1 / self._weights.square().sum())
        self._mass = mass  # variance-effective number of parents
        self._path_rate = (4 + mass / genes) / (genes + 4 + 2 * mass / genes)
        one = 2 / ((genes + 1.3) ** 2 + mass)
        many = 2 * (mass - 2 + 1 / mass) / ((genes + 2) ** 2 + mass)
        faster = (genes + 2) / 3
        self._rank_one_rate = min(1.0, one * faster)
        self._rank_many_rate = min(1 - self._rank_one_rate, max(0.0, many * faster))

    def ask(self) -> Tensor:
        """(B, NP, D) points within the bounds to be scored next."""
        problems, genes = self.mean.shape
        shape = (problems, self.individuals - 1, genes)
        samples = torch.randn(shape, generator=self.generator, device=self.mean.device, dtype=self.mean.dtype)
        samples.mul_((self._sigma * self._variance.sqrt())[:, None]).add_(self.mean[:, None])
        if self._move is not None:
            length = (self._move.square() / self._variance).sum(dim=1, keepdim=True).sqrt()  # of a sample: sqrt(D)
            ahead = self._move * (self._sigma * math.sqrt(genes) / length.clamp_min(1e-30))
            samples[:, 0], samples[:, 1] = self.mean + ahead, self.mean - ahead
        self._samples = samples
        return self._clipped(torch.cat([self.mean[:, None], samples], dim=1), 0.0)

    def tell(self, scores: Tensor) -> None:
        """(B, NP) scores of what `ask` gave last."""
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
        if self._low is not None and self._high is not None:  # no deviation above twice the box: else it grows for ever
            widest = (2 * (self._high - self._low) / self._sigma).square().clamp_min(1e-20)
            self._variance = torch.minimum(self._variance, widest)
        self._move = mean - self.mean
        self.mean = mean

    def _adapt_variance(self, step: Tensor, spread: Tensor) -> None:
        """From the mean step and the mean squared step in units of sigma, each (B, D)."""
        rate, one, many = self._path_rate, self._rank_one_rate, self._rank_many_rate
        self._path = (1 - rate) * self._path + math.sqrt(rate * (2 - rate) * self._mass) * step
        variance = (1 - one - many) * self._variance + one * self._path.square() + many * spread
        self._variance = variance.clamp_min(1e-20)

    def _adapt_sigma(self, scores: Tensor) -> None:
        """From the (B, NP - 1) scores, of which the first two are those ahead of the mean and behind it."""
        ahead, behind = ((scores < scores[:, i, None]).sum(dim=1, keepdim=True) for i in (0, 1))  # ranks
        self._trend = (1 - TREND_RATE) * self._trend + TREND_RATE * (behind - ahead) / (scores.shape[1] - 1)
        self._sigma = self._sigma * torch.exp(self._trend / math.sqrt(self.mean.shape[1]))

    def _clipped(self, points: Tensor, slack: float) -> Tensor:
        """(B, n, D) points, in place, no farther outside the bounds than `slack` times their width."""
        if self._low is None or self._high is None:
            return points
        margin = slack * (self._high - self._low)
        low, high = (self._low - margin)[:, None], (self._high + margin)[:, None]
        return torch.minimum(torch.maximum(points, low, out=points), high, out=points)

    def keep(self, problems: Tensor) -> None:
        """Go on with these problems alone: indices or a (B,) mask."""
        for name in ("mean", "_sigma", "_trend", "_variance", "_path", "_samples"):
            setattr(self, name, getattr(self, name)[problems])
        self._move = None if self._move is None else self._move[problems]
        if self._low is not None and self._high is not None:
            self._low, self._high = self._low[problems], self._high[problems]
