"""DARTS's networks: published counts to the unit, where cells stand, what they compute, drop-path, auxiliary heads."""

import re
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from evonas.attacks import inference_copy
from evonas.costs import count_macs, count_params
from evonas.networks.darts import GENOTYPES, Cell, CellPlace, DartsNetwork, DropPath, Genotype, cell_places
from evonas.networks.darts_operations import FactorizedReduce, ReluConvBN

THREE_NODES = Genotype(
    normal=(
        ("dil_conv_3x3", 1),
        ("skip_connect", 0),
        ("sep_conv_3x3", 2),
        ("avg_pool_3x3", 2),
        ("max_pool_3x3", 3),
        ("skip_connect", 1),
    ),
    normal_concat=(4, 2),
    reduce=(
        ("skip_connect", 0),
        ("max_pool_3x3", 1),
        ("dil_conv_5x5", 1),
        ("skip_connect", 2),
        ("skip_connect", 3),
        ("sep_conv_5x5", 0),
    ),
    reduce_concat=(2, 3, 4),
)
"""Three nodes, not all of them in the normal cell's output, one that reads the same state twice."""


def small(genotype: Genotype = THREE_NODES, channels: int = 4, layers: int = 4, **settings: Any) -> DartsNetwork:
    return DartsNetwork(genotype, channels, layers, **settings)


def settled(network: DartsNetwork) -> DartsNetwork:
    """In double precision and eval mode, with statistics that are not those of the start."""
    network.double().train()
    for _ in range(3):
        network(torch.rand(8, 3, 16, 16, dtype=torch.float64))
    return network.eval()


@pytest.mark.lengthy
@pytest.mark.parametrize(
    ("name", "millions"), [("DARTS_V2", "528.36"), ("PDARTS", "532.17"), ("PC_DARTS_cifar", "556.67")]
)
def test_published_macs(name: str, millions: str) -> None:
    assert f"{count_macs(DartsNetwork(GENOTYPES[name])) / 1e6:.2f}" == millions


@pytest.mark.lengthy
def test_the_auxiliary_head_adds_its_parameters() -> None:
    with_head = DartsNetwork(GENOTYPES["DARTS_V2"], auxiliary=True)
    assert count_params(with_head) == 3_349_342 + 476_426
    head = 576 * 128 + 256 + 128 * 768 * 4 + 1536 + 7690  # 576 channels: 4 nodes of 4 x 36
    assert head == 476_426


def separable(channels: int) -> int:
    """Of a depthwise 3x3 and a pointwise convolution and their batch normalisation."""
    return 9 * channels + channels**2 + 2 * channels


def test_parameters_for_imagenet_by_hand() -> None:
    """DARTS's second-order cells, 48 channels, 14 cells: 4.7M (Liu et al., 2019, Table 3). Reduction cells are 4 and 9.

    A normal cell has five separable convolutions of two parts each and a dilated one of one; a reduction cell pools
    its inputs and has nothing else with weights.
    """
    stem = (3 * 24 * 9 + 48) + (24 * 48 * 9 + 96) + (48 * 48 * 9 + 96)
    cells = [
        (48, 48, 48),
        (48, 192, 48),
        (192, 192, 48),
        (192, 192, 48),
        (192, 192, 96),
        (192, 384, 96),
        (384, 384, 96),
        (384, 384, 96),
        (384, 384, 96),
        (384, 384, 192),
        (384, 768, 192),
        (768, 768, 192),
        (768, 768, 192),
        (768, 768, 192),
    ]
    inputs = sum((before_last + last) * c + 4 * c for before_last, last, c in cells)
    nodes = 11 * sum(separable(c) for number, (_, _, c) in enumerate(cells) if number not in (4, 9))
    classifier = 769 * 1000
    network = DartsNetwork(GENOTYPES["DARTS_V2"], 48, 14, 1000, stem="imagenet")
    assert count_params(network) == stem + inputs + nodes + classifier
    assert f"{count_params(network) / 1e6:.2f}" == "4.72"  # E2RNAS (second version), Table V


def test_images_of_224() -> None:
    network = DartsNetwork(THREE_NODES, 4, 5, n_classes=6, stem="imagenet", auxiliary=True)
    shapes: list[tuple[int, ...]] = []
    parts = [network.stem, network.second_stem, *network.cells]
    for part in parts:
        part.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape)))
    logits, auxiliary = network(torch.rand(2, 3, 224, 224)), network.forward_auxiliary(torch.rand(2, 3, 224, 224))[1]
    assert logits.shape == auxiliary.shape == (2, 6)
    assert shapes[:7] == [
        (2, 4, 56, 56),
        (2, 4, 28, 28),
        (2, 8, 28, 28),
        (2, 24, 14, 14),
        (2, 16, 14, 14),
        (2, 48, 7, 7),
        (2, 32, 7, 7),
    ]


def test_stems_and_heads_layer_by_layer() -> None:
    def layers(part: nn.Module) -> list[str]:
        leaves = [leaf for leaf in part.modules() if not list(leaf.children())]
        return [
            f"{leaf.in_channels}-{leaf.out_channels} k{leaf.kernel_size[0]} /{leaf.stride[0]}"
            if isinstance(leaf, nn.Conv2d)
            else type(leaf).__name__
            for leaf in leaves
        ]

    cifar = DartsNetwork(THREE_NODES, 4, 6, 7, auxiliary=True, in_channels=1)
    assert layers(cifar.stem) == ["1-12 k3 /1", "BatchNorm2d"]
    assert layers(cifar.second_stem) == ["Identity"]
    pool, conv = "AvgPool2d", ["48-128 k1 /1", "BatchNorm2d", "ReLU"]  # cell 4 has 3 nodes of 16 channels
    last = ["Flatten", "Linear"]
    assert cifar.auxiliary is not None
    assert layers(cifar.auxiliary) == ["ReLU", pool, *conv, "128-768 k2 /1", "BatchNorm2d", "ReLU", *last]
    imagenet = DartsNetwork(THREE_NODES, 4, 6, 7, auxiliary=True, stem="imagenet")
    assert layers(imagenet.stem) == ["3-2 k3 /2", "BatchNorm2d", "ReLU", "2-4 k3 /2", "BatchNorm2d"]
    assert layers(imagenet.second_stem) == ["ReLU", "4-4 k3 /2", "BatchNorm2d"]
    assert imagenet.auxiliary is not None
    assert layers(imagenet.auxiliary) == ["ReLU", pool, *conv, "128-768 k2 /1", "ReLU", *last]
    for head, stride in ((cifar.auxiliary, 3), (imagenet.auxiliary, 2)):
        assert isinstance(head[1], nn.AvgPool2d)
        assert (head[1].kernel_size, head[1].stride, head[1].count_include_pad) == (5, stride, False)


def test_where_cells_stand() -> None:
    places = cell_places(36, 20)
    assert [number for number, place in enumerate(places) if place.reduction] == [6, 13]
    assert [number for number, place in enumerate(places) if place.after_reduction] == [7, 14]
    assert [place.channels for place in places] == [36] * 6 + [72] * 7 + [144] * 7
    assert [place.size for place in places] == [1] * 6 + [2] * 7 + [4] * 7
    assert [place.last for place in places] == [108, *[144] * 6, *[288] * 7, *[576] * 6]
    assert [place.before_last for place in places] == [108, 108, *[144] * 6, *[288] * 7, *[576] * 5]
    assert [number for number, place in enumerate(cell_places(16, 8)) if place.reduction] == [2, 5]
    assert cell_places(6, 3, 2, 3) == (
        CellPlace(18, 18, 6, False, False, 1),
        CellPlace(18, 12, 12, True, False, 2),
        CellPlace(12, 36, 24, True, True, 4),
    )
    assert cell_places(6, 2, 2, 3, "imagenet") == (
        CellPlace(6, 6, 12, True, True, 16),
        CellPlace(6, 36, 24, True, True, 32),
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"channels": 0}, "expected a whole number of channels >= 1, got 0"),
        ({"channels": 4.0}, "expected a whole number of channels >= 1, got 4.0"),
        ({"layers": 0}, "expected a whole number of layers >= 1, got 0"),
        ({"layers": True}, "expected a whole number of layers >= 1, got True"),
        ({"channels": 5, "stem": "imagenet"}, "expected an even number of channels with the stem 'imagenet', got 5"),
    ],
)
def test_a_senseless_network_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        small(**settings)


def test_an_unknown_stem_is_refused() -> None:
    with pytest.raises(KeyError, match=r"unknown stem 'image_net'; did you mean imagenet\? known: cifar, imagenet"):
        small(stem="image_net")


def test_a_cell_adds_and_concatenates_as_its_genotype_says() -> None:
    for reduction, pairs, concat in ((False, THREE_NODES.normal, (4, 2)), (True, THREE_NODES.reduce, (2, 3, 4))):
        cell = Cell(pairs, concat, CellPlace(6, 10, 4, reduction, True, 1)).double().eval()
        assert isinstance(cell.preprocess0, FactorizedReduce)
        assert isinstance(cell.preprocess1, ReluConvBN)
        before_last, last = (torch.randn(2, c, s, s, dtype=torch.float64) for c, s in ((6, 16), (10, 8)))
        op, s0, s1 = cell.operations, cell.preprocess0(before_last), cell.preprocess1(last)
        if reduction:
            s2 = op[0](s0) + op[1](s1)
            s3 = op[2](s1) + op[3](s2)
            s4 = op[4](s3) + op[5](s0)
            expected = torch.cat([s2, s3, s4], dim=1)
        else:
            s2 = op[0](s1) + op[1](s0)
            s3 = op[2](s2) + op[3](s2)
            s4 = op[4](s3) + op[5](s1)
            expected = torch.cat([s4, s2], dim=1)
        assert torch.equal(cell(before_last, last), expected)


def test_a_network_gives_each_cell_the_two_before_it() -> None:
    network = settled(small(n_classes=5, normalization=((0.25, 0.5, 0.125), (0.5, 0.25, 2.0))))
    images = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    means, deviations = torch.tensor([0.25, 0.5, 0.125]), torch.tensor([0.5, 0.25, 2.0])
    stem = network.stem((images - means.view(3, 1, 1)) / deviations.view(3, 1, 1))
    first = network.cells[0](stem, stem)
    second = network.cells[1](stem, first)
    third = network.cells[2](first, second)
    last = network.cells[3](second, third)
    assert [maps.shape[1:] for maps in (stem, first, second, third, last)] == [
        (12, 16, 16),
        (8, 16, 16),
        (24, 8, 8),
        (48, 4, 4),
        (32, 4, 4),
    ]
    expected = network.classifier(last.mean(dim=(2, 3)))
    torch.testing.assert_close(network(images), expected, rtol=1e-12, atol=1e-12)


def test_auxiliary_logits_read_the_cell_at_two_thirds() -> None:
    network = small(layers=6, n_classes=5, auxiliary=True).train()
    assert network.tapped == 4
    logits, auxiliary = network.forward_auxiliary(torch.rand(4, 3, 32, 32))
    assert logits.shape == auxiliary.shape == (4, 5)
    auxiliary.square().sum().backward()
    used = [any(part.grad is not None for part in cell.parameters()) for cell in network.cells]
    assert used == [True] * 5 + [False]
    network.eval()
    images = torch.rand(4, 3, 32, 32)
    assert torch.equal(network(images), network.forward_auxiliary(images)[0])
    network.train()
    assert torch.equal(network(images), network.forward_auxiliary(images)[0])


def test_auxiliary_logits_need_their_head() -> None:
    network = small()
    assert network.auxiliary is None
    with pytest.raises(ValueError, match="expected a network with an auxiliary head, got one without; build it with"):
        network.forward_auxiliary(torch.rand(1, 3, 32, 32))


def test_drop_path_keeps_the_mean() -> None:
    """4,000 images kept with chance 0.7: the share lies within five deviations, and what is kept is divided by 0.7."""
    drop = DropPath(0.3, torch.Generator().manual_seed(0))
    maps = torch.rand(4000, 2, 3, 3) + 0.5
    dropped = drop(maps)
    kept = dropped.flatten(1).any(dim=1)
    torch.testing.assert_close(dropped[kept], maps[kept] / 0.7)
    assert not dropped[~kept].any()
    assert abs(int(kept.sum()) - 2800) < 5 * (4000 * 0.3 * 0.7) ** 0.5


def test_drop_path_is_its_generators() -> None:
    maps = torch.rand(64, 2, 3, 3)
    state = torch.get_rng_state()
    first, again, other = (DropPath(0.5, torch.Generator().manual_seed(seed))(maps) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)
    generator = torch.Generator().manual_seed(1)
    before = generator.get_state()
    assert DropPath(0.0, generator)(maps) is maps
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("probability", [-0.1, 1.0, float("nan")])
def test_a_senseless_drop_path_is_refused(probability: float) -> None:
    with pytest.raises(ValueError, match=r"^expected a probability of drop-path in \[0, 1\), got"):
        DropPath(probability, torch.Generator())


def test_a_network_drops_every_edge_but_identities_and_only_in_training() -> None:
    network, generator = small(layers=4), torch.Generator().manual_seed(0)
    images = torch.rand(8, 3, 16, 16)
    bare = network.eval()(images)
    network.drop_path = DropPath(0.4, generator)
    assert torch.equal(network(images), bare)
    assert torch.equal(generator.get_state(), torch.Generator().manual_seed(0).get_state())
    network.train()(images)
    # Two cells of each kind; a normal one has two identities among its six operations, a reduction one, too, because
    # its skip_connect from input 0 is no identity.
    twin = torch.Generator().manual_seed(0)
    for _ in range(2 * 4 + 2 * 4):
        torch.rand(8, generator=twin)
    assert torch.equal(generator.get_state(), twin.get_state())
    assert "drop_path" not in str(network.state_dict().keys())


def test_a_dropped_edge_is_left_out_of_its_cell() -> None:
    pairs = (("sep_conv_3x3", 0), ("skip_connect", 1))
    cell = Cell(pairs, (2,), CellPlace(4, 4, 4, False, False, 1)).eval()
    maps = torch.randn(32, 4, 8, 8)
    s0, s1 = cell.preprocess0(maps), cell.preprocess1(maps)
    found = cell(maps, maps, DropPath(0.5, torch.Generator().manual_seed(3)))
    kept = torch.rand(32, generator=torch.Generator().manual_seed(3)) < 0.5
    assert 0 < int(kept.sum()) < 32
    expected = torch.where(kept[:, None, None, None], cell.operations[0](s0) / 0.5 + s1, s1)
    torch.testing.assert_close(found, expected)


def test_memory_layout_does_not_matter() -> None:
    network = small(GENOTYPES["PDARTS"]).double().train()
    images = torch.rand(3, 3, 16, 16, dtype=torch.float64)
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        moved = network.to(memory_format=layout)
        logits = moved(images.clone(memory_format=layout))
        found.append([logits, *torch.autograd.grad(logits.square().sum(), list(network.parameters()))])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


def test_gradients_are_those_of_the_function() -> None:
    """First and second ones, also where a state is read by many edges."""
    cell = Cell(THREE_NODES.normal, (2, 3, 4), CellPlace(3, 3, 2, False, False, 1)).double().train()
    maps = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: cell(x, x), (maps,), fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x: cell(x, x), (maps,), fast_mode=True)


def test_functional_transforms() -> None:
    network = settled(small(layers=3, n_classes=4))
    images = torch.rand(3, 3, 8, 8, dtype=torch.float64)

    def of_one(image: Tensor) -> Tensor:
        logits: Tensor = torch.func.functional_call(network, dict(network.named_parameters()), image[None])
        return logits[0]

    by_transform = torch.func.vmap(torch.func.jacrev(of_one))(images)  # (3, 4, 3, 8, 8)
    asking = images.clone().requires_grad_()
    logits = network(asking)
    by_hand = [torch.autograd.grad(logits[:, k].sum(), asking, retain_graph=True)[0] for k in range(4)]
    torch.testing.assert_close(by_transform, torch.stack(by_hand, dim=1), rtol=1e-8, atol=1e-12)


@pytest.mark.lengthy
def test_a_fast_copy_gives_the_same_logits() -> None:
    """Its normalisations are folded, but for those behind two convolutions side by side."""
    network = settled(small(GENOTYPES["PC_DARTS_cifar"], layers=6)).float()
    images = torch.rand(4, 3, 16, 16)
    fast = inference_copy(network)
    torch.testing.assert_close(fast(images), network(images), rtol=1e-4, atol=1e-5)
    left = sum(isinstance(part, nn.BatchNorm2d) for part in fast.modules())
    assert left == sum(isinstance(part, FactorizedReduce) for part in network.modules()) == 2


def test_weights_travel_in_a_file(tmp_path: Path) -> None:
    network, other = settled(small(auxiliary=True)).float(), small(auxiliary=True).eval()
    safetensors.torch.save_file(network.state_dict(), tmp_path / "weights.safetensors")
    other.load_state_dict(safetensors.torch.load_file(tmp_path / "weights.safetensors"))
    images = torch.rand(2, 3, 16, 16)
    assert torch.equal(network(images), other(images))


def test_a_genotype_keeps_tuples() -> None:
    assert THREE_NODES.normal[0] == ("dil_conv_3x3", 1)
    assert (THREE_NODES.normal_concat, THREE_NODES.reduce_concat) == ((4, 2), (2, 3, 4))
    lists: list[Any] = [list(THREE_NODES.normal), [4, 2], [list(pair) for pair in THREE_NODES.reduce], range(2, 5)]
    assert Genotype(*lists) == THREE_NODES
    assert hash(THREE_NODES) is not None
    assert set(GENOTYPES) == {"DARTS_V1", "DARTS_V2", "PC_DARTS_cifar", "PC_DARTS_image", "PDARTS"}


GOOD = (("skip_connect", 0), ("sep_conv_3x3", 1))


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (5, "expected (operation, input) pairs in the normal cell, got 5"),
        ([("skip_connect", 0), "sep_conv_3x3"], "expected (operation, input) pairs in the normal cell, got ["),
        ([("skip_connect", 0.5), GOOD[1]], "expected (operation, input) pairs in the normal cell, got ["),
        ([("skip_connect", float("nan")), GOOD[1]], "expected (operation, input) pairs in the normal cell, got ["),
        ([("skip_connect", float("inf")), GOOD[1]], "expected (operation, input) pairs in the normal cell, got ["),
        ([(0, "skip_connect"), GOOD[1]], "expected (operation, input) pairs in the normal cell, got ["),
        ([], "expected two (operation, input) pairs per node in the normal cell, got 0"),
        ([*GOOD, GOOD[0]], "expected two (operation, input) pairs per node in the normal cell, got 3"),
        ([*GOOD, ("none", 0), GOOD[0]], "expected an operation of max_pool_3x3, avg_pool_3x3, skip_connect, "),
        ([*GOOD, (["a"], 0), GOOD[0]], "expected an operation of max_pool_3x3, avg_pool_3x3, skip_connect, "),
        ([GOOD[0], ("sep_conv_3x3", 2)], "expected an input 0 to 1 of node 2 of the normal cell, got 2"),
        ([*GOOD, ("skip_connect", -1), GOOD[0]], "expected an input 0 to 2 of node 3 of the normal cell, got -1"),
    ],
)
def test_a_bad_cell_is_refused(cell: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}") as raised:
        Genotype(cell, (2,), GOOD, (2,))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("concat", [[], [1, 2], [4], [2, 2], 2, ["a"]])
def test_a_bad_output_is_refused(concat: Any) -> None:
    with pytest.raises(ValueError, match=r"^expected reduce_concat to be different nodes of 2 to 3, got .+$"):
        Genotype(GOOD, (2,), GOOD * 2, concat)
