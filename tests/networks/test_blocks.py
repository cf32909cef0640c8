"""Building blocks: weights from a seed of their own."""

import pytest
import torch
from torch import nn

from evonas.networks.blocks import seeded


def layer() -> nn.Module:
    return nn.Linear(3, 2)


def test_initial_weights_follow_from_the_seed_alone() -> None:
    torch.manual_seed(5)
    expected = layer()
    torch.manual_seed(77)
    found, other = seeded(layer, 5), seeded(layer, 6)
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), expected.parameters(), strict=True))
    assert not torch.equal(next(found.parameters()), next(other.parameters()))


def test_torchs_own_generator_is_as_before() -> None:
    state = torch.get_rng_state()
    seeded(layer, 5)
    assert torch.equal(torch.get_rng_state(), state)

    def broken() -> nn.Module:
        layer()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        seeded(broken, 5)
    assert torch.equal(torch.get_rng_state(), state)


def test_seeds_as_large_as_ours_are_taken() -> None:
    assert seeded(layer, 2**63 - 1) is not None  # of derive_seed, at most
