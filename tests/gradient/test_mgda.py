"""One direction out of several gradients: normalisations by hand, vanishing gradients, and what descends."""

import math

import pytest
import torch
from torch import Tensor

from evonas.gradient.mgda import NORMALISATIONS, SOLVERS, mgda_weights, normalise
from evonas.gradient.min_norm import min_norm_weights


def slopes(gradients: Tensor, weights: Tensor) -> Tensor:
    """(m,) by how much each loss changes, to first order, along minus the weighted sum."""
    return -(gradients.double() @ (weights @ gradients.double()))


def test_normalisations_by_hand() -> None:
    gradients, losses = torch.tensor([[3.0, 4.0], [0.0, -2.0]]), torch.tensor([2.0, 0.5])
    assert normalise(gradients, losses, "none").tolist() == [[3.0, 4.0], [0.0, -2.0]]
    assert normalise(gradients, losses, "l2").flatten().tolist() == pytest.approx([0.6, 0.8, 0.0, -1.0])
    assert normalise(gradients, losses, "loss").tolist() == [[1.5, 2.0], [0.0, -4.0]]
    assert normalise(gradients, losses, "loss+").flatten().tolist() == pytest.approx([0.3, 0.4, 0.0, -2.0])
    assert normalise(gradients, losses, "l2").dtype == torch.float64


def test_a_negative_loss_does_not_turn_its_gradient_round() -> None:
    gradients, losses = torch.tensor([[4.0, 0.0]]), torch.tensor([-2.0])
    assert normalise(gradients, losses, "loss").tolist() == [[2.0, 0.0]]
    assert normalise(gradients, losses, "loss+").tolist() == [[0.5, 0.0]]


@pytest.mark.parametrize("how", NORMALISATIONS)
def test_what_is_zero_divides_nothing(how: str) -> None:
    gradients, losses = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]]), torch.tensor([2.0, 0.0, 0.0])
    found = normalise(gradients, losses, how)  # type: ignore[arg-type]
    assert found[0].tolist() == found[2].tolist() == [0.0, 0.0]
    assert found[1].tolist() == pytest.approx([0.6, 0.8] if how in ("l2", "loss+") else [3.0, 4.0])


@pytest.mark.parametrize("scale", [1e-310, 1e-200, 1e200, 1e308])
def test_l2_of_any_scale(scale: float) -> None:
    gradients = torch.tensor([[scale, scale], [1.0, 0.0]], dtype=torch.float64)
    expected = [math.sqrt(0.5), math.sqrt(0.5), 1.0, 0.0]
    assert normalise(gradients, torch.ones(2), "l2").flatten().tolist() == pytest.approx(expected, abs=1e-12)


def test_of_two_gradients_of_which_the_second_vanishes_gamma_is_exactly_one() -> None:
    gradients, losses = torch.tensor([[0.3, -1.7, 0.2], [0.0, 0.0, 0.0]]), torch.tensor([1.3, 1.0])
    assert min_norm_weights(gradients).tolist() == [0.0, 1.0]  # Eq. 11 alone would stand still
    for how in NORMALISATIONS:
        assert mgda_weights(gradients, losses, how).tolist() == [1.0, 0.0]
        assert mgda_weights(gradients.flip(0), losses, how).tolist() == [0.0, 1.0]


def test_what_vanishes_is_left_out_unless_all_do() -> None:
    gradients = torch.tensor([[2.0, 0.0], [0.0, 0.0], [0.0, 1.0], [-0.0, 0.0]])
    losses = torch.ones(4)
    assert mgda_weights(gradients, losses).tolist() == pytest.approx([0.2, 0.0, 0.8, 0.0])
    assert mgda_weights(gradients, losses, "l2", applied_to="normalised").tolist() == pytest.approx([0.25, 0, 0.5, 0])
    for how in NORMALISATIONS:
        for applied_to in ("raw", "normalised"):
            assert mgda_weights(torch.zeros(4, 3), losses, how, applied_to=applied_to).tolist() == [0.25] * 4


def test_weights_are_solved_on_the_normalised_gradients() -> None:
    gradients, losses = torch.tensor([[10.0, 0.0], [0.0, 0.1]]), torch.tensor([4.0, 1.0])
    assert mgda_weights(gradients, losses, "l2").tolist() == pytest.approx([0.5, 0.5])
    assert mgda_weights(gradients, losses, "loss").tolist() == pytest.approx([0.01 / 6.26, 6.25 / 6.26])
    assert mgda_weights(gradients, losses, "loss+").tolist() == pytest.approx([16 / 17, 1 / 17])
    applied = mgda_weights(gradients, losses, "loss+", applied_to="normalised")
    assert applied.tolist() == pytest.approx([16 / 17 / 40, 1 / 17 / 0.1])


@pytest.mark.lengthy
@pytest.mark.parametrize("how", NORMALISATIONS)
def test_weights_applied_to_what_they_were_solved_on_descend_on_every_loss(how: str) -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        lengths = 10 ** (6 * torch.rand(5, 1, generator=generator) - 3)
        gradients = (torch.randn(5, 30, generator=generator) + 0.3) * lengths
        gradients[3] = 0
        losses = torch.rand(5, generator=generator) + 0.1
        weights = mgda_weights(gradients, losses, how, applied_to="normalised")  # type: ignore[arg-type]
        change = slopes(gradients, weights)
        assert float(change[[0, 1, 2, 4]].max()) < 0
        assert change[3] == 0


def test_weights_of_normalised_gradients_do_not_always_descend_on_the_raw_losses() -> None:
    gradients, losses = torch.tensor([[10.0, 0.0], [-0.6, 0.8]], dtype=torch.float64), torch.ones(2)
    raw = mgda_weights(gradients, losses, "l2")  # [0.5, 0.5]: the direction (4.7, 0.4)
    assert slopes(gradients, raw).tolist() == pytest.approx([-47.0, 2.5])
    assert float(slopes(gradients, mgda_weights(gradients, losses, "l2", applied_to="normalised")).max()) < 0
    assert float(slopes(gradients, mgda_weights(gradients, losses, "none")).max()) < 0
    assert float(slopes(gradients, torch.tensor([0.5, 0.5]).double()).max()) > 0  # equal weights do not, either


def test_raw_weights_of_no_normalisation_are_the_shortest_combination() -> None:
    gradients = torch.randn(4, 9, generator=torch.Generator().manual_seed(5))
    for applied_to in ("raw", "normalised"):
        weights = mgda_weights(gradients, torch.rand(4), applied_to=applied_to)
        assert torch.equal(weights, min_norm_weights(gradients))


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver(solver: str) -> None:
    gradients = torch.tensor([[2.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    assert mgda_weights(gradients, torch.ones(3), solver=solver).tolist() == pytest.approx([0.2, 0.0, 0.8])


def test_what_makes_no_sense_is_refused() -> None:
    gradients, losses = torch.ones(2, 3), torch.ones(2)
    with pytest.raises(KeyError, match="unknown solver 'newton'; known: exact, frank_wolfe"):
        mgda_weights(gradients, losses, solver="newton")
    with pytest.raises(ValueError, match="expected a normalisation of none, l2, loss, loss\\+, got 'l1'"):
        mgda_weights(gradients, losses, "l1")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'raw' or 'normalised', got 'both'"):
        mgda_weights(gradients, losses, applied_to="both")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"m losses, got \(2, 3\) and \(3,\)"):
        mgda_weights(gradients, torch.ones(3))
    with pytest.raises(ValueError, match="expected finite losses"):
        mgda_weights(gradients, torch.tensor([1.0, math.nan]), "loss")
    for how in NORMALISATIONS:
        with pytest.raises(ValueError, match="expected finite gradients"):
            mgda_weights(torch.tensor([[1.0, math.inf], [math.nan, 1.0]]), losses, how)
