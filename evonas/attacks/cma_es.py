"""Separable CMA-ES of many problems at once."""

import math

import torch
from torch import Tensor

__all__ = ["SeparableCMA"]


class SeparableCMA:
    """CMA-ES with a diagonal covariance (Ros and Hansen, 2008), for B problems side by side; scores are minimised.

    Time and memory are linear in the genes, where a full covariance of an image's 3,072 values is quadratic.
    Constants are those of Hansen's tutorial (2016), the learning rates of the covariance (D + 2) / 3 times as large.

    Points are clipped to the bounds to be scored, and learned from where they were drawn: a gene that does best at its
    bound moves on until nearly all its samples are clipped there, which finds corners sooner than learning from
    clipped points does. The mean may leave the bounds by half their width, so that it can come back.

    The first of a generation's individuals is the mean itself: in thousands of genes it is often better than any
    sample, since the samples' own noise is gone. It is not learned from.

    Args:
        mean: (B, D) start, within the bounds.
        sigma: start of the step size, in units of the genes.
        low, high: (B, D) bounds, or None for an unbounded problem.
        individuals: NP, what is scored in a generation: the mean and at least 4 samples.
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
        self._variance = torch.ones_like(mean)  # (B, D) diagonal of C
        self._sigma_path = torch.zeros_like(mean)
        self._path = torch.zeros_like(mean)
        self._generation = 0
        self._samples = mean[:, None]  # (B, NP - 1, D), not clipped
        self._set_constants(mean.shape[1])

    def _set_constants(self, genes: int) -> None:
        parents = (self.individuals - 1) // 2
        rank = torch.arange(1, parents + 1, device=self.mean.device, dtype=self.mean.dtype)
        weights = math.log(parents + 0.5) - rank.log()
        self._weights = weights / weights.sum()  # (P,) of the better half of the samples, best first
        mass = float(1 / self._weights.square().sum())
        self._mass = mass  # variance-effective number of parents
        self._sigma_rate = (mass + 2) / (genes + mass + 5)
        self._damping = 1 + 2 * max(0.0, math.sqrt((mass - 1) / (genes + 1)) - 1) + self._sigma_rate
        self._path_rate = (4 + mass / genes) / (genes + 4 + 2 * mass / genes)
        one = 2 / ((genes + 1.3) ** 2 + mass)
        many = 2 * (mass - 2 + 1 / mass) / ((genes + 2) ** 2 + mass)
        faster = (genes + 2) / 3
        self._rank_one_rate = min(1.0, one * faster)
        self._rank_many_rate = min(1 - self._rank_one_rate, max(0.0, many * faster))
        self._expected_norm = math.sqrt(genes) * (1 - 1 / (4 * genes) + 1 / (21 * genes**2))

    def ask(self) -> Tensor:
        """(B, NP, D) points within the bounds to be scored next."""
        problems, genes = self.mean.shape
        shape = (problems, self.individuals - 1, genes)
        samples = torch.randn(shape, generator=self.generator, device=self.mean.device, dtype=self.mean.dtype)
        samples.mul_((self._sigma * self._variance.sqrt())[:, None]).add_(self.mean[:, None])
        self._samples = samples
        points = torch.cat([self.mean[:, None], samples], dim=1)
        return self._clipped(points, 0.0)

    def tell(self, scores: Tensor) -> None:
        """(B, NP) scores of what `ask` gave last."""
        best = scores[:, 1:].topk(len(self._weights), dim=1, largest=False).indices  # ascending scores
        chosen = self._samples.gather(1, best[..., None].expand(-1, -1, self.mean.shape[1]))
        steps = chosen.sub_(self.mean[:, None]).div_(self._sigma[:, None])  # (B, P, D)
        step = torch.einsum("p,bpd->bd", self._weights, steps)
        spread = torch.einsum("p,bpd->bd", self._weights, steps.square_())
        self._generation += 1
        self.mean = self._clipped((self.mean + self._sigma * step)[:, None], 0.5)[:, 0]
        self._adapt(step, spread)

    def _adapt(self, step: Tensor, spread: Tensor) -> None:
        """Paths, variances and step size from the mean step and the mean squared step, each (B, D)."""
        rate = self._sigma_rate
        self._sigma_path = (1 - rate) * self._sigma_path + math.sqrt(rate * (2 - rate) * self._mass) * (
            step / self._variance.sqrt()
        )
        norm = self._sigma_path.norm(dim=1, keepdim=True)  # (B, 1)
        grown = math.sqrt(1 - (1 - rate) ** (2 * self._generation))
        stalled = norm / grown >= (1.4 + 2 / (step.shape[1] + 1)) * self._expected_norm  # the step size lags behind
        rate = self._path_rate
        push = torch.where(stalled, torch.zeros_like(step), math.sqrt(rate * (2 - rate) * self._mass) * step)
        self._path = (1 - rate) * self._path + push
        one, many = self._rank_one_rate, self._rank_many_rate
        kept = 1 - one - many + stalled * (one * rate * (2 - rate))
        self._variance = (kept * self._variance + one * self._path.square() + many * spread).clamp_min(1e-20)
        self._sigma = self._sigma * torch.exp(self._sigma_rate / self._damping * (norm / self._expected_norm - 1))

    def _clipped(self, points: Tensor, slack: float) -> Tensor:
        """(B, n, D) points, in place, no farther outside the bounds than `slack` times their width."""
        if self._low is None or self._high is None:
            return points
        margin = slack * (self._high - self._low)
        low, high = (self._low - margin)[:, None], (self._high + margin)[:, None]
        return torch.minimum(torch.maximum(points, low, out=points), high, out=points)

    def keep(self, problems: Tensor) -> None:
        """Go on with these problems alone: indices or a (B,) mask."""
        for name in ("mean", "_sigma", "_variance", "_sigma_path", "_path", "_samples"):
            setattr(self, name, getattr(self, name)[problems])
        if self._low is not None and self._high is not None:
            self._low, self._high = self._low[problems], self._high[problems]
