"""Networks of NAS-Bench-201: their parts, and a cell computed by hand."""

from typing import Any

import pytest
import torch
from helpers import randomised
from torch import nn
from torch.nn import functional

from evonas.errors import ConfigurationError, UnknownNameError
from evonas.networks import NasBench201Network
from evonas.networks.nasbench201_plan import EDGES, live_edges


def test_edges_on_no_path_are_not_built() -> None:
    names = ("nor_conv_3x3", "none", "skip_connect", "skip_connect", "none", "none")  # node 1 leads to 2, 2 nowhere
    assert live_edges(names) == (False, False, False, True, False, False)
    network = NasBench201Network(names, channels=2, cells=1)
    assert not any(isinstance(each, nn.Conv2d) for name, each in network.named_modules() if ".edges." in name)
    assert live_edges(["nor_conv_1x1"] * 6) == (True,) * 6
    assert live_edges(["none"] * 6) == (False,) * 6


def test_a_cell_adds_up_its_edges() -> None:
    """Every edge by torch's own functions, in the order ReLU, convolution, normalisation."""
    names = ("nor_conv_3x3", "avg_pool_3x3", "nor_conv_1x1", "skip_connect", "nor_conv_3x3", "avg_pool_3x3")
    network = randomised(NasBench201Network(names, channels=2, cells=1).double())
    cell: Any = network.body[0]
    maps = torch.randn(2, 2, 8, 8, dtype=torch.float64)

    def edge(name: str, read: torch.Tensor, start: int, end: int) -> torch.Tensor:
        if name == "skip_connect":
            return read
        if name == "avg_pool_3x3":  # padding does not count
            summed = functional.avg_pool2d(read, 3, 1, 1, divisor_override=1)
            return summed / functional.avg_pool2d(torch.ones_like(read), 3, 1, 1, divisor_override=1)
        conv: Any
        norm: Any
        _, conv, norm = cell.get_submodule(f"edges.{start}-{end}").children()
        found = functional.conv2d(functional.relu(read), conv.weight, padding=conv.weight.shape[-1] // 2)
        shape = (1, -1, 1, 1)
        scaled = (found - norm.running_mean.view(shape)) / (norm.running_var.view(shape) + 1e-5).sqrt()
        return scaled * norm.weight.view(shape) + norm.bias.view(shape)

    nodes = [maps]
    for node in (1, 2, 3):
        reads = [(start, name) for (start, end), name in zip(EDGES, names, strict=True) if end == node]
        nodes.append(torch.stack([edge(name, nodes[start], start, node) for start, name in reads]).sum(dim=0))
    torch.testing.assert_close(cell(maps), nodes[3], rtol=1e-12, atol=1e-12)


def test_stages_double_channels_and_halve_maps() -> None:
    network = NasBench201Network(["skip_connect"] * 6, channels=4, cells=2)
    shapes = []
    for part in network.body:
        part.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape[1:])))
    network.eval()(torch.rand(1, 3, 32, 32))
    stages = ((4, 32, 32), (8, 16, 16), (16, 8, 8))
    assert shapes == [stages[0]] * 2 + [stages[1]] * 3 + [stages[2]] * 3


def test_a_block_between_stages_is_residual() -> None:
    network = randomised(NasBench201Network(["none"] * 6, channels=2, cells=1).double())
    block: Any = network.body[1]
    maps = torch.randn(2, 2, 8, 8, dtype=torch.float64)
    pooled = functional.avg_pool2d(maps, 2)
    shortcut = functional.conv2d(pooled, block.shortcut[1].weight)
    torch.testing.assert_close(block(maps), shortcut + block.residual(maps), rtol=1e-12, atol=1e-12)
    assert [tuple(part.weight.shape) for part in block.modules() if isinstance(part, nn.Conv2d)] == [
        (4, 2, 3, 3),
        (4, 4, 3, 3),
        (4, 2, 1, 1),
    ]


def test_wrong_cells_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="expected an operation for each of 6 edges, got 5"):
        NasBench201Network(["none"] * 5)
    with pytest.raises(UnknownNameError, match="unknown operation 'nor_conv_5x5'; did you mean nor_conv_3x3"):
        NasBench201Network(["nor_conv_5x5"] * 6)
