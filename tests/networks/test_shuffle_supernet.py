"""Weights that networks share: the same logits as networks that hold copies, and nothing touched but what is used."""

from collections.abc import Sequence
from functools import cache
from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
import torch
from helpers import randomised
from torch import Tensor, nn

from evonas.networks.shuffle import BLOCKS, ShuffleBlock, ShuffleNetwork, Unit
from evonas.networks.shuffle_supernet import ShuffleSupernet, share_weights
from evonas.spaces import ShuffleSpace

SMALL = ShuffleSpace(width=1 / 6, depth=0.1)
"""A stem of 4 channels and 6 places."""
FULL = ShuffleSpace()


@cache
def shared(space: ShuffleSpace) -> ShuffleSupernet:
    """A supernet that no test may change."""
    return randomised(space.supernet())


def supernet() -> ShuffleSupernet:
    return randomised(SMALL.supernet())


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def source_name(space: ShuffleSpace, genome: npt.NDArray[np.int64], name: str) -> str:
    """Where the supernet keeps what a network calls `name`."""
    part, _, rest = name.partition(".")
    if part != "blocks":
        return name
    place, _, rest = rest.partition(".")
    return f"choices.{place}.{genome[int(place)]}.{rest}"


def first(wide: Tensor, shape: Sequence[int]) -> Tensor:
    for dimension, length in enumerate(shape):
        wide = wide.narrow(dimension, 0, length)
    return wide


def stand_alone(space: ShuffleSpace, genome: npt.NDArray[np.int64], weights: dict[str, Tensor]) -> ShuffleNetwork:
    """A network with weights of its own: copies of the first entries along each dimension of the supernet's."""
    with torch.device("meta"):
        network = space.build(genome)
    network.to_empty(device="cpu")
    with torch.no_grad():
        for name, value in network.state_dict().items():
            value.copy_(first(weights[source_name(space, genome, name)], value.shape))
    return network.eval()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("space", "genomes", "size"),
    [
        (SMALL, 12, 16),
        (SMALL, 200, 16),
        (ShuffleSpace(width=1 / 6, depth=0.1, intermediate=2), 10, 16),
        (FULL, 4, 32),
    ],
    ids=["small", "small, 200", "2S", "full"],
)
def test_logits_are_those_of_a_network_that_holds_copies(space: ShuffleSpace, genomes: int, size: int) -> None:
    weights = shared(space).state_dict()
    pixels = torch.rand(2, 3, size, size)
    found = []
    with torch.no_grad():
        for genome in space.sample(genomes, np.random.default_rng(0)):
            logits = shared(space).network(space.units(genome))(pixels)
            torch.testing.assert_close(logits, stand_alone(space, genome, weights)(pixels), rtol=1e-5, atol=1e-5)
            found.append(logits)
    apart = torch.stack(found).std(dim=0)
    assert float(apart.min()) > 1e-3  # networks differ
    assert all(float(logits.std(dim=0).max()) > 1e-3 for logits in found)  # and see their images


@pytest.mark.slow
def test_every_choice_of_every_place_at_every_ratio() -> None:
    """Each parameter and buffer of a block is the first entries of the widest one's; at ratio 2.0 it is the whole."""
    space, whole = SMALL, shared(SMALL)
    assert [len(choices) for choices in whole.choices] == [6, 22, 6, 22, 6, 22]  # type: ignore[arg-type]
    for number, (place, last) in enumerate(zip(space.plan.places, space.upper, strict=False)):
        for block, ratio in product(range(last + 1), range(10)):
            genome = np.zeros(12, dtype=np.int64)
            genome[number], genome[6 + number] = block, ratio
            unit = space.units(genome)[number]
            with torch.device("meta"):
                narrow = ShuffleBlock(place, unit)
            wide = whole.choices[number][block]  # type: ignore[index]
            share_weights(narrow, wide, own_statistics=False)
            kept = wide.state_dict()
            assert narrow.state_dict().keys() == kept.keys()
            for name, value in narrow.state_dict().items():
                expected = first(kept[name], value.shape)
                assert torch.equal(value, expected), (number, block, ratio, name)
                assert value.data_ptr() == kept[name].data_ptr()
                assert ratio < 9 or value.shape == kept[name].shape


@pytest.mark.lengthy
def test_nothing_is_copied() -> None:
    whole = supernet()
    genome = SMALL.sample(1, np.random.default_rng(1))[0]
    kept = whole.state_dict()
    for name, value in whole.network(SMALL.units(genome)).state_dict().items():
        assert value.data_ptr() == kept[source_name(SMALL, genome, name)].data_ptr()


@pytest.mark.lengthy
@pytest.mark.parametrize("own_statistics", [False, True])
def test_training_changes_exactly_the_slices_that_are_used(own_statistics: bool) -> None:
    whole = supernet().train()
    before = state(whole)
    genome = np.array([1, 9, 4, 19, 0, 12, 3, 4, 0, 6, 2, 5])
    network = whole.network(SMALL.units(genome), own_statistics)
    assert network.training
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    network(torch.rand(4, 3, 32, 32)).square().sum().backward()
    optimiser.step()

    used = {source_name(SMALL, genome, name): value for name, value in network.state_dict().items()}
    trained = {source_name(SMALL, genome, name) for name, _ in network.named_parameters()}
    after = state(whole)
    for name, old in before.items():
        if name not in used:
            assert torch.equal(after[name], old), name
            continue
        part = tuple(slice(length) for length in used[name].shape)
        rest = torch.ones_like(old, dtype=torch.bool)
        rest[part] = False
        assert torch.equal(after[name][rest], old[rest]), name
        if name in trained:
            assert not torch.equal(after[name][part], old[part]), name
            assert torch.equal(after[name][part], used[name]), name
        elif own_statistics:
            assert torch.equal(after[name], old), name
        else:
            assert not torch.equal(after[name][part], old[part]), name


@pytest.mark.lengthy
def test_statistics_of_its_own_are_reset_and_leave_the_supernet_alone() -> None:
    whole = supernet()
    before = state(whole)
    network = whole.network(SMALL.units(SMALL.upper), own_statistics=True)
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    assert norms
    for norm in norms:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert not norm.running_mean.any()
        assert (norm.running_var == 1).all()
        assert norm.num_batches_tracked == 0
    network.train()(torch.rand(4, 3, 32, 32))
    assert all(norm.num_batches_tracked == 1 for norm in norms)
    assert all(torch.equal(value, before[name]) for name, value in whole.state_dict().items())


@pytest.mark.lengthy
def test_networks_take_the_mode_of_their_supernet() -> None:
    whole, units = supernet(), SMALL.units(SMALL.upper)
    assert not any(part.training for part in whole.eval().network(units).modules())
    assert all(part.training for part in whole.train().network(units).modules())


@pytest.mark.lengthy
def test_normalisation_comes_first_in_every_network() -> None:
    mean, deviation = (0.25, 0.5, 0.125), (0.5, 0.25, 2.0)
    bare = supernet()
    normalising = SMALL.supernet(normalization=(mean, deviation)).eval()
    normalising.load_state_dict({**normalising.state_dict(), **bare.state_dict()})
    images = torch.rand(2, 3, 32, 32)
    outside = (images - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(deviation).view(3, 1, 1)
    units = SMALL.units(SMALL.upper)
    assert torch.equal(normalising.network(units)(images), bare.network(units)(outside))
    assert not torch.equal(normalising.network(units)(images), bare.network(units)(images))


def test_classes_and_channels_of_images() -> None:
    whole = SMALL.supernet(n_classes=4, in_channels=1)
    assert whole.network(SMALL.units(SMALL.upper))(torch.rand(2, 1, 32, 32)).shape == (2, 4)


@pytest.mark.lengthy
def test_what_a_supernet_has_no_weights_for_is_a_clear_error() -> None:
    whole, units = supernet(), SMALL.units(SMALL.upper)
    wide = [*units[:-1], Unit(units[-1].kind, units[-1].mid + 1)]
    with pytest.raises(ValueError, match=r"^expected at most .* weights of the supernet, got a network of"):
        whole.network(wide)
    with pytest.raises(ValueError, match=r"^expected one of the choices of its place, got S\+NE\+SE k3$"):
        whole.network([Unit(BLOCKS[6], 4), *units[1:]])
    with pytest.raises(NotImplementedError, match=r"supernet.network\(units\)"):
        whole(torch.rand(1, 3, 32, 32))
