"""The exact unrolled gradient of a real supernet against differences of the unrolled loss itself."""

import pytest
import torch
from plain_supernet import drawn, made
from torch import Tensor
from torch.nn import functional

from evonas.gradient.architecture import Architecture
from evonas.gradient.bilevel import direct_gradient, unrolled_gradient
from evonas.gradient.supernet import DartsSupernet, SupernetPlan

RATE, MOMENTUM, DECAY = 0.1, 0.9, 3e-4
STEP = 1e-7
"""Of one architecture variable: so short that no ReLU and no maximum changes sides, or one in very many."""
ALLOWED = 1e-7
"""Rounding: some 1e-15 of a loss of about 2, by twice the step."""
PLANS = {
    "darts": SupernetPlan(channels=4, layers=3, nodes=2),
    "pcdarts": SupernetPlan(channels=8, layers=3, nodes=2, partial=4, edge_normalisation=True),
}


class Problem:
    """Two batches, and a momentum that is not zero."""

    def __init__(self, plan: SupernetPlan) -> None:
        self.supernet: DartsSupernet = made(plan)
        self.architecture: Architecture = drawn(plan)
        self.weights, self.alphas = list(self.supernet.parameters()), list(self.architecture.parameters())
        draw = torch.Generator().manual_seed(5)
        self.train, self.validation = (
            (torch.rand(4, 3, 8, 8, generator=draw, dtype=torch.float64), torch.randint(10, (4,), generator=draw))
            for _ in range(2)
        )
        self.moments = [0.1 * torch.randn(w.shape, generator=draw, dtype=torch.float64) for w in self.weights]

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        return functional.cross_entropy(self.supernet(batch[0], self.architecture()), batch[1])

    def unrolled_loss(self) -> float:
        """Of the validation batch, with the weights that one step on the training batch gives."""
        before = [weight.detach().clone() for weight in self.weights]
        slopes = torch.autograd.grad(self.loss(self.train), self.weights)
        with torch.no_grad():
            for weight, slope, moment in zip(self.weights, slopes, self.moments, strict=True):
                weight.sub_(RATE * (MOMENTUM * moment + slope + DECAY * weight))
            found = float(self.loss(self.validation))
            for weight, value in zip(self.weights, before, strict=True):
                weight.copy_(value)
        return found

    def difference(self, number: int) -> float:
        """Of the unrolled loss by one variable of all, counted through."""
        sizes = [alpha.numel() for alpha in self.alphas]
        which = next(i for i in range(len(sizes)) if number < sum(sizes[: i + 1]))
        variable = self.alphas[which].detach().view(-1)[number - sum(sizes[:which])]
        middle, ends = variable.clone(), []
        for side in (STEP, -STEP):
            variable.copy_(middle + side)
            ends.append(self.unrolled_loss())
        variable.copy_(middle)
        return (ends[0] - ends[1]) / (2 * STEP)


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.slow
def test_exact_is_the_derivative_of_the_unrolled_loss(name: str) -> None:
    problem = Problem(PLANS[name])

    def train_loss() -> Tensor:
        return problem.loss(problem.train)

    def validation_loss() -> Tensor:
        return problem.loss(problem.validation)

    found = unrolled_gradient(
        train_loss,
        [validation_loss],
        problem.weights,
        problem.alphas,
        RATE,
        problem.moments,
        MOMENTUM,
        DECAY,
        hessian="exact",
    ).gradients[0]
    direct = direct_gradient([validation_loss], problem.weights, problem.alphas).gradients[0]
    chosen = torch.randperm(len(found), generator=torch.Generator().manual_seed(1))[:6].tolist()
    differences = torch.tensor([problem.difference(number) for number in chosen], dtype=torch.float64)
    assert float((found[chosen] - differences).abs().max()) < ALLOWED
    assert float((found - direct)[chosen].abs().median()) > 100 * ALLOWED  # the step matters here
