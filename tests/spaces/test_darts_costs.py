"""Lookup tables of DARTS's operations: published sums, built operations, and counts by hand."""

import pytest
import torch

from evonas.costs import CostTable, count_macs, count_params
from evonas.errors import ConfigurationError
from evonas.networks.darts import GENOTYPES, DartsNetwork, cell_places
from evonas.networks.darts_operations import PRIMITIVES, operation
from evonas.spaces.darts_costs import edges, operation_costs, paper_flops


def test_edges_are_in_dartss_order() -> None:
    assert edges(4)[:5] == ((2, 0), (2, 1), (3, 0), (3, 1), (3, 2))
    assert edges(4)[5:9] == ((4, 0), (4, 1), (4, 2), (4, 3))
    assert edges(4)[9:] == ((5, 0), (5, 1), (5, 2), (5, 3), (5, 4))
    assert [len(edges(nodes)) for nodes in (1, 2, 3, 4, 5)] == [2, 5, 9, 14, 20]


@pytest.mark.parametrize(
    ("channels", "layers", "affine", "expected"),
    [(36, 20, True, ["2.358", "6.604", "0.211"]), (16, 8, False, ["0.229", "0.668", "0.041"])],
)
def test_expected_parameters_of_all_edges(channels: int, layers: int, affine: bool, expected: list[str]) -> None:
    """In millions, all edges of all cells: uniform probabilities, separable 5x5 everywhere, skip connections."""
    costs = operation_costs(channels, layers, affine)
    table = CostTable(costs.params.reshape(28, 8))
    uniform = torch.full((28, 8), 1 / 8, dtype=torch.float64)
    found = [float(table.expected(uniform)), table.of([5] * 28), table.of([3] * 28)]
    assert [f"{count / 1e6:.3f}" for count in found] == expected


@pytest.mark.lengthy
@pytest.mark.parametrize(
    ("channels", "layers", "affine", "nodes", "size", "stem"),
    [(4, 3, True, 4, 8, "cifar"), (6, 8, False, 2, 16, "cifar"), (2, 5, True, 3, 32, "imagenet")],
)
def test_tables_are_those_of_built_operations(
    channels: int, layers: int, affine: bool, nodes: int, size: int, stem: str
) -> None:
    costs = operation_costs(channels, layers, affine, nodes, size, stem)
    places = cell_places(channels, layers, nodes, nodes, stem)
    assert costs.params.shape == costs.macs.shape == costs.flops.shape == (2, len(edges(nodes)), 8)
    for kind in (0, 1):
        for edge, (_, state) in enumerate(edges(nodes)):
            for choice, name in enumerate(PRIMITIVES):
                params = macs = 0
                for place in places:
                    if place.reduction == bool(kind):
                        stride = 2 if place.reduction and state < 2 else 1
                        part = operation(name, place.channels, stride, affine)
                        side = size // place.size * stride
                        params += count_params(part)
                        macs += count_macs(part, (place.channels, side, side))
                found = (costs.params[kind, edge, choice], costs.macs[kind, edge, choice])
                assert found == (params, macs), (kind, edge, name)


def test_flops_by_hand() -> None:
    """Three cells on images of 8x8: a normal one of 4 channels on 64 positions, reduction cells of 8 channels on 16 and
    of 16 on 4. Per position, separable: 2 (C + C^2 + w^2 C + 2 C), dilated: half of that; a skip connection that
    halves: C^2 + 2 C; average pooling: C."""
    flops = operation_costs(4, 3, image_size=8).flops
    dilated = {w: [c + c * c + w * w * c + 2 * c for c in (4, 8, 16)] for w in (3, 5)}
    assert dilated[3] == [64, 160, 448]
    assert dilated[5] == [128, 288, 704]
    skip = 16 * (64 + 16) + 4 * (256 + 32)
    halved = [
        0,
        0,
        8 * 16 + 16 * 4,
        skip,
        2 * (160 * 16 + 448 * 4),
        2 * (288 * 16 + 704 * 4),
        160 * 16 + 448 * 4,
        288 * 16 + 704 * 4,
    ]
    for edge, (_, state) in enumerate(edges(4)):
        assert flops[0, edge].tolist() == [0, 0, 4 * 64, 0, 128 * 64, 256 * 64, 64 * 64, 128 * 64]
        assert flops[1, edge].tolist() == [*halved[:3], skip if state < 2 else 0, *halved[4:]]


def test_tables_are_shared_and_cannot_be_changed() -> None:
    costs = operation_costs(4, 3)
    assert operation_costs(4, 3) is costs
    for table in (costs.params, costs.macs, costs.flops):
        with pytest.raises(ValueError, match="read-only"):
            table[0, 0, 4] = 0


@pytest.mark.parametrize(
    ("stem", "size", "multiple"), [("cifar", 30, 4), ("cifar", 0, 4), ("imagenet", 28, 32), ("imagenet", 200, 32)]
)
def test_images_that_cannot_be_halved_are_refused(stem: str, size: int, multiple: int) -> None:
    with pytest.raises(ConfigurationError, match=f"^expected image_size to be a multiple of {multiple}, got {size}$"):
        operation_costs(4, 3, image_size=size, stem=stem)


@pytest.mark.lengthy
@pytest.mark.parametrize(
    ("name", "millions", "flops"),
    [("DARTS_V2", 539, 539_086_464), ("PDARTS", 543, 542_597_760), ("PC_DARTS_cifar", 568, 567_785_088)],
)
def test_flops_of_the_papers_tables(name: str, millions: int, flops: int) -> None:
    """E2RNAS (second version), Tables I and III."""
    network = DartsNetwork(GENOTYPES[name]).train()
    assert paper_flops(network) == flops
    assert round(flops / 1e6) == millions
    assert network.training
    assert not any(part._forward_hooks for part in network.modules())
