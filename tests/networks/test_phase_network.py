"""Phase networks: hand-derived sizes, and an independent implementation of NSGA-Net's residual macro decoder."""

from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from evonas.costs import count_macs, count_params
from evonas.networks import PhaseGraph, PhaseNetwork
from evonas.networks.blocks import Normalize, conv_bn_relu
from evonas.networks.phase import plan_phases
from evonas.spaces import PhaseSpace

CHAIN_OF_TWO = PhaseGraph(node_inputs=((0,), (1,)), output_inputs=(2,))
RESIDUAL_OF_TWO = PhaseGraph(node_inputs=((0,), (1,)), output_inputs=(0, 2))


# An independent decoder: bits -> dict graph -> network. It shares no code with evonas.


def reference_graph(bits: list[int], n: int) -> dict[int, list[int]] | None:
    """Node -> what it reads, for every used node and the output n + 1; None for an inactive phase."""
    *connection_bits, residual = bits
    if 1 not in connection_bits:
        return None
    reads: dict[int, list[int]] = {1: []}
    rest = iter(connection_bits)
    for i in range(2, n + 1):
        reads[i] = [j for j in range(1, i) if next(rest)]
    without_inputs = {i for i in reads if not reads[i]}
    without_outputs = {i for i in reads if not any(i in sources for sources in reads.values())}
    output = [0] if residual else []
    for i in range(1, n + 1):
        if i in without_outputs and i not in without_inputs:
            output.append(i)
        if i in without_inputs and i not in without_outputs:
            reads[i] = [0]
        if i in without_inputs and i in without_outputs:
            del reads[i]
    return {**reads, n + 1: output}


class Reference(nn.Module):
    """Modules in the order first conv, nodes, 1x1 merges (output last), output BN of each phase; then linear."""

    def __init__(self, graphs: list[dict[int, list[int]]], width: int, n_classes: int, in_channels: int) -> None:
        super().__init__()
        self.graphs = graphs
        self.macs = 0
        self.parts = nn.ModuleList()
        previous = in_channels
        for k, graph in enumerate(graphs):
            c = width * 2**k
            part = nn.ModuleDict()
            if previous != c:
                part["first"] = nn.Conv2d(previous, c, 3 if k == 0 else 1, bias=False)
            *nodes, output = sorted(graph)
            for i in nodes:
                part[f"conv{i}"] = nn.Conv2d(c, c, 3, padding=1, bias=False)
                part[f"bn{i}"] = nn.BatchNorm2d(c)
            for i in sorted(graph):
                if len(graph[i]) > 1:
                    part[f"merge{i}"] = nn.Conv2d(len(graph[i]) * c, c, 1, bias=False)
            part[f"bn{output}"] = nn.BatchNorm2d(c)
            self.parts.append(part)
            previous = c
        self.linear = nn.Linear(previous, n_classes)

    def conv(self, module: nn.Module, x: Tensor) -> Tensor:
        assert isinstance(module, nn.Conv2d)
        y: Tensor = module(x)
        (size, _), (_, c_out, height, width) = module.kernel_size, y.shape
        self.macs += size * size * x.shape[1] * c_out * height * width
        return y

    def forward(self, x: Tensor) -> Tensor:
        self.macs = 0
        for k, (graph, part) in enumerate(zip(self.graphs, self.parts, strict=True)):
            assert isinstance(part, nn.ModuleDict)
            if k > 0:
                x = functional.max_pool2d(x, 2, 2)
            known = {0: self.conv(part["first"], x) if "first" in part else x}
            output = max(graph)
            for i in sorted(graph):
                x = known[graph[i][0]]
                if len(graph[i]) > 1:
                    x = self.conv(part[f"merge{i}"], torch.cat([known[j] for j in graph[i]], dim=1))
                if i != output:
                    x = self.conv(part[f"conv{i}"], x)
                known[i] = functional.relu(part[f"bn{i}"](x))
            x = known[output]
        x = functional.avg_pool2d(x, x.shape[-1]).flatten(1)
        self.macs += x.shape[1] * self.linear.out_features
        logits: Tensor = self.linear(x)
        return logits


CASES = list(product((1, 3, 5), range(2, 9), range(3)))
"""(phases, nodes, case) of 63 random genomes."""


def drawn(phases: int, nodes: int, case: int) -> tuple[PhaseSpace, npt.NDArray[np.int64], int]:
    """A space, a genome of it and a number of classes; sparse genomes have inactive phases and isolated nodes."""
    rng = np.random.default_rng([phases, nodes, case])
    space = PhaseSpace(phases=phases, nodes=nodes, channels=int(rng.choice([3, 4, 6])))  # 3: no first convolution
    genome = (rng.random(space.n_genes) < rng.choice([0.15, 0.5, 0.85])).astype(np.int64)
    return space, genome, int(rng.integers(2, 12))


@pytest.mark.lengthy
@pytest.mark.parametrize(("phases", "nodes", "case"), CASES)
def test_equals_the_independent_decoder(phases: int, nodes: int, case: int) -> None:
    space, genome, n_classes = drawn(phases, nodes, case)
    graphs = [reference_graph(bits.tolist(), nodes) for bits in genome.reshape(phases, -1)]
    reference = Reference([graph for graph in graphs if graph], space.channels, n_classes, 3).double()
    network = space.build(genome, n_classes=n_classes).double()

    torch.manual_seed(case)
    for module in reference.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean, module.running_var):
                assert tensor is not None
                tensor.copy_(torch.rand_like(tensor) + 0.2)
    own, theirs = network.state_dict(), reference.state_dict()
    assert [tuple(t.shape) for t in own.values()] == [tuple(t.shape) for t in theirs.values()]
    network.load_state_dict(dict(zip(own, theirs.values(), strict=True)))

    images = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        # double precision: only the order of the sums in the pooled mean may differ
        torch.testing.assert_close(network.eval()(images), reference.eval()(images), rtol=1e-11, atol=1e-11)
    assert count_params(network) == sum(p.numel() for p in reference.parameters())
    assert count_macs(network) == reference.macs
    assert space.cost(genome, n_classes=n_classes) == (count_params(reference), reference.macs)


def test_random_cases_reach_every_part_of_the_decoder() -> None:
    seen: set[object] = set()
    for phases, nodes, case in CASES:
        space, genome, _ = drawn(phases, nodes, case)
        for bits in genome.reshape(phases, -1).tolist():
            graph = reference_graph(bits, nodes)
            seen.add("inactive" if graph is None else "active")
            if graph is not None:
                seen.add("isolated" if len(graph) < nodes + 1 else "all nodes")
                seen |= {("output" if i == nodes + 1 else "node", min(len(reads), 2)) for i, reads in graph.items()}
        seen.add("no first convolution" if space.channels == 3 else "first convolution")
    assert seen == {
        "inactive",
        "active",
        "isolated",
        "all nodes",
        "no first convolution",
        "first convolution",
        ("node", 1),
        ("node", 2),
        ("output", 1),
        ("output", 2),
    }


def test_no_phase_is_a_classifier_on_the_mean_colour() -> None:
    network = PhaseNetwork([])
    images = torch.rand(2, 3, 32, 32)
    assert count_params(network) == 40  # 3 x 10 weights, 10 biases
    assert count_macs(network) == 30
    expected = images.mean(dim=(2, 3)) @ network.classifier.weight.T + network.classifier.bias
    torch.testing.assert_close(network(images), expected)


def test_two_nodes_by_hand() -> None:
    # first convolution 9 x 3 x 16 = 432; two nodes of 9 x 16^2 = 2304 weights and a BN of 32; output BN 32;
    # classifier 170. All maps are 30 x 30.
    assert count_params(PhaseNetwork([CHAIN_OF_TWO])) == 432 + 2 * (2304 + 32) + 32 + 170
    assert count_macs(PhaseNetwork([CHAIN_OF_TWO])) == 900 * (432 + 2 * 2304) + 160
    # the residual bit makes the output merge two inputs: a 1x1 convolution of 2 x 16^2 = 512 weights
    assert count_params(PhaseNetwork([RESIDUAL_OF_TWO])) == 5306 + 512
    assert count_macs(PhaseNetwork([RESIDUAL_OF_TWO])) == 4_536_160 + 900 * 512


def test_an_inactive_node_has_no_module() -> None:
    with_isolated = PhaseGraph(node_inputs=((), (0,), (), (2,)), output_inputs=(4,))
    assert with_isolated.n_active == 2
    assert count_params(PhaseNetwork([with_isolated])) == count_params(PhaseNetwork([CHAIN_OF_TWO]))


def test_graph_names_its_merges() -> None:
    graph = PhaseGraph(node_inputs=((0,), (1,), (1, 2)), output_inputs=(0, 3))
    assert list(graph.merges) == [(3, 2), (4, 2)]
    assert list(CHAIN_OF_TWO.merges) == []


def test_maps_shrink_from_30_to_1_and_widths_double() -> None:
    plan = plan_phases(5, channels=16, in_channels=3, image_size=32)
    assert [place.size for place in plan] == [30, 15, 7, 3, 1]
    assert [(place.in_channels, place.out_channels) for place in plan] == [
        (3, 16),
        (16, 32),
        (32, 64),
        (64, 128),
        (128, 256),
    ]
    assert [place.kernel_size for place in plan] == [3, 1, 1, 1, 1]


def test_no_first_convolution_where_the_width_stays() -> None:
    plan = plan_phases(2, channels=3, in_channels=3, image_size=32)
    assert [(place.kernel_size, place.size) for place in plan] == [(0, 32), (1, 16)]
    network = PhaseNetwork([CHAIN_OF_TWO], channels=3)
    # two nodes of 9 x 3^2 weights and a BN of 6; output BN 6; classifier 3 x 10 + 10: no weight is dead
    assert count_params(network) == 2 * (81 + 6) + 6 + 40
    assert count_macs(network) == 32 * 32 * 2 * 81 + 30


def test_more_phases_than_the_image_allows_is_an_error_that_counts() -> None:
    with pytest.raises(ValueError, match=r"at most 5 active phases for 32x32 images, got 6"):
        PhaseNetwork([CHAIN_OF_TWO] * 6, channels=4)


def test_grey_images_and_other_sizes() -> None:
    network = PhaseNetwork([CHAIN_OF_TWO] * 2, channels=4, n_classes=7, in_channels=1, image_size=28).eval()
    assert network(torch.rand(3, 1, 28, 28)).shape == (3, 7)


def test_normalization_is_the_first_layer() -> None:
    mean, deviation = (0.1, 0.2, 0.3), (0.5, 1.0, 2.0)
    bare = PhaseNetwork([RESIDUAL_OF_TWO], channels=4).eval()
    network = PhaseNetwork([RESIDUAL_OF_TWO], channels=4, normalization=(mean, deviation)).eval()
    network.load_state_dict(bare.state_dict(), strict=False)
    images = torch.rand(2, 3, 32, 32)
    outside = (images - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(deviation).view(3, 1, 1)
    assert torch.equal(network(images), bare(outside))
    assert count_params(network) == count_params(bare)


def test_normalize_by_hand_and_its_errors() -> None:
    pixel = torch.tensor([0.5, 0.25, 1.0]).view(1, 3, 1, 1)
    assert Normalize((0.5, 0.0, 0.5), (1.0, 0.5, 0.25))(pixel).flatten().tolist() == [0.0, 0.5, 2.0]
    with pytest.raises(ValueError, match="one mean and one deviation > 0 a channel"):
        Normalize((0.5,), (0.5, 0.5))
    with pytest.raises(ValueError, match="deviation > 0"):
        Normalize((0.5, 0.5), (0.5, 0.0))


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_conv_bn_relu_keeps_the_size_and_has_no_bias(kernel_size: int) -> None:
    block = conv_bn_relu(2, 5, kernel_size)
    output = block(torch.randn(2, 2, 9, 9))
    assert output.shape == (2, 5, 9, 9)
    assert output.min() == 0
    assert count_params(block) == kernel_size**2 * 10 + 10


def test_images_are_never_changed_and_gradients_reach_every_weight() -> None:
    network = PhaseNetwork([RESIDUAL_OF_TWO] * 2, channels=4)
    images = torch.rand(4, 3, 32, 32)
    before = images.clone()
    network(images).square().sum().backward()
    assert torch.equal(images, before)
    assert all(parameter.grad is not None for parameter in network.parameters())
