"""Counts of any module against hand-derived numbers, torch's flop counter and an independent count by hooks."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from evonas.costs import CostTable, count_macs, count_params, layer_costs
from evonas.spaces import SPACES, PhaseSpace


class Attention(nn.Module):
    """(1, C, H, W) -> (1, C, H, W) by two batched matrix products and one plain one."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.randn(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(2)  # (1, C, N)
        weights = torch.bmm(flat.transpose(1, 2), flat).softmax(dim=-1)  # (1, N, N)
        mixed = torch.matmul(flat @ weights, torch.eye(flat.shape[-1]))[0]
        return (self.mix @ mixed).view_as(x)


class Classifier(nn.Module):
    def __init__(self, features: nn.Module, channels: int, n_classes: int) -> None:
        super().__init__()
        self.features, self.linear = features, nn.Linear(channels, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.features(x).mean(dim=(2, 3)))
        return logits


def mixed_network() -> nn.Module:
    """Grouped, depthwise, dilated, strided, asymmetric and biased convolutions, BN, pooling."""
    return Classifier(
        nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=True),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 12, 3, groups=4, bias=False),
            nn.Conv2d(12, 12, 5, groups=12, padding=4, dilation=2),
            nn.MaxPool2d(2),
            nn.Conv2d(12, 6, (1, 3), padding=(0, 1)),
            nn.Dropout(),
        ),
        channels=6,
        n_classes=5,
    )


def macs_by_hooks(module: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """Multiply-adds of every call of a Conv2d or Linear, from the shapes of its output and its weight."""
    total = 0

    def count(layer: nn.Module, _: object, output: Tensor) -> None:
        nonlocal total
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        total += output.numel() * layer.weight[0].numel()

    handles = [m.register_forward_hook(count) for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        module.eval()(torch.zeros(1, *image_shape))
    for handle in handles:
        handle.remove()
    return total


def half_of_flop_counter(module: nn.Module, image_shape: tuple[int, int, int]) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module.eval()(torch.zeros(1, *image_shape))
    return float(counter.get_total_flops() / 2)


def test_convolutions_by_hand() -> None:
    network = mixed_network()
    # outputs: 8 x 16 x 16, 12 x 14 x 14, 12 x 14 x 14, pooled to 7 x 7, 6 x 7 x 7, 5
    macs = 8 * 256 * 27 + 12 * 196 * (2 * 9) + 12 * 196 * 25 + 6 * 49 * (12 * 3) + 6 * 5
    assert count_macs(network, (3, 32, 32)) == macs
    params = (8 * 27 + 8) + 16 + 12 * 18 + (12 * 25 + 12) + (6 * 36 + 6) + 35
    assert count_params(network) == params


def test_matrix_products_by_hand() -> None:
    # N = 16 places, C = 4 channels: N C N, C N N and C N N of the batched ones, C C N of the plain one
    assert count_macs(Attention(4), (4, 4, 4)) == 3 * 4 * 16 * 16 + 4 * 4 * 16
    assert count_params(Attention(4)) == 16


@pytest.mark.parametrize(
    ("build", "image_shape"),
    [
        (mixed_network, (3, 32, 32)),
        (mixed_network, (3, 21, 33)),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(48, 7), nn.Linear(7, 7, bias=False)), (3, 4, 4)),
        (lambda: nn.ConvTranspose2d(3, 5, 3, stride=2), (3, 8, 8)),
        (lambda: Classifier(nn.Sequential(nn.Conv2d(3, 4, 3), Attention(4)), 4, 3), (3, 8, 8)),
        (lambda: PhaseSpace().build(PhaseSpace().designs()["dense"]), (3, 32, 32)),
    ],
)
def test_macs_are_half_of_the_flop_counter(build: Callable[[], nn.Module], image_shape: tuple[int, int, int]) -> None:
    network = build()
    assert count_macs(network, image_shape) == half_of_flop_counter(network, image_shape) > 0


@pytest.mark.parametrize("image_shape", [(3, 32, 32), (3, 21, 33)])
def test_macs_are_those_counted_by_hooks(image_shape: tuple[int, int, int]) -> None:
    network = mixed_network()
    assert count_macs(network, image_shape) == macs_by_hooks(network, image_shape)


@pytest.mark.parametrize("seed", range(4))
def test_hooks_of_others_see_all_of_a_phase_network(seed: int) -> None:
    """Counting tools that hook layers give the same, so a network computes with its layers, not past them."""
    space = PhaseSpace(phases=2, nodes=5, channels=4)
    genome = space.sample(1, np.random.default_rng(seed))[0]
    network = space.build(genome)
    assert macs_by_hooks(network, (3, 32, 32)) == count_macs(network) == space.cost(genome).macs


def test_a_layer_called_twice_costs_twice_and_has_its_parameters_once() -> None:
    shared = nn.Conv2d(3, 3, 1, bias=False)
    network = nn.Sequential(shared, nn.ReLU(), shared)
    assert count_macs(network, (3, 4, 4)) == 2 * 9 * 16
    assert count_params(network) == 9


def test_frozen_parameters_and_buffers_are_no_parameters() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    assert count_params(network) == 16 + 8
    network[0].weight.requires_grad_(False)
    assert count_params(network) == 4 + 8
    assert count_macs(network, (3, 2, 2)) == 12 * 4  # frozen weights still multiply


def test_a_module_without_parameters_costs_nothing() -> None:
    assert count_params(nn.ReLU()) == 0
    assert count_macs(nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)), (3, 8, 8)) == 0


def test_double_precision_networks_are_counted_too() -> None:
    assert count_macs(mixed_network().double()) == count_macs(mixed_network())


def test_the_mode_of_every_part_and_all_statistics_stay() -> None:
    network = mixed_network().train()
    parts = list(network.modules())
    parts[3].eval()  # a part that was frozen on purpose
    parts[5].eval()
    modes = [part.training for part in parts]
    assert len(set(modes)) == 2
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    count_macs(network)
    assert [part.training for part in parts] == modes
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_the_mode_stays_when_the_network_fails() -> None:
    network = mixed_network().train()
    with pytest.raises(RuntimeError, match="channels"):
        count_macs(network, (4, 32, 32))
    assert all(part.training for part in network.modules())


COSTS = [[1, 10, 100], [2, 20, 200]]


def test_table_by_hand() -> None:
    table = CostTable(COSTS)
    assert table.of([0, 0]) == 3
    assert table.of(np.array([2, 1])) == 120
    assert isinstance(table.of([2, 1]), int)
    probability = torch.tensor([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]], dtype=torch.float64)
    assert table.expected(probability).item() == 0.5 + 2.5 + 25 + 20
    assert table.expected(probability).shape == ()


def test_the_gradient_of_the_expectation_is_the_table() -> None:
    probability = torch.full((2, 3), 1 / 3, requires_grad=True)
    CostTable(COSTS).expected(probability).backward()
    assert probability.grad is not None
    assert probability.grad.tolist() == COSTS


@pytest.mark.lengthy
@settings(max_examples=50, deadline=None)
@given(
    st.integers(1, 6).flatmap(
        lambda choices: st.lists(
            st.tuples(st.lists(st.integers(0, 2**40), min_size=choices, max_size=choices), st.integers(0, choices - 1)),
            min_size=1,
            max_size=8,
        )
    )
)
def test_a_certain_choice_costs_exactly_what_it_costs(slots: list[tuple[list[int], int]]) -> None:
    costs, choice = [row for row, _ in slots], [chosen for _, chosen in slots]
    table = CostTable(costs)
    exact = sum(row[chosen] for row, chosen in slots)
    assert table.of(choice) == exact
    certain = nn.functional.one_hot(torch.tensor(choice), len(costs[0])).double()
    assert table.expected(certain).item() == exact  # integers below 2^53 are exact in double precision


def test_table_of_an_array_that_must_not_be_written() -> None:
    """As arrays come out of an object store."""
    costs = np.array(COSTS)
    costs.setflags(write=False)
    assert CostTable(costs).expected(torch.ones(2, 3)).item() == 333


@pytest.mark.parametrize("cost", [5, [1, 2, 3], [[[1]]]])
def test_a_table_has_slots_and_choices(cost: object) -> None:
    with pytest.raises(ValueError, match=r"expected costs of shape \(slots, choices\), got"):
        CostTable(cost)  # type: ignore[arg-type]


@pytest.mark.parametrize("choice", [[0], [0, 1, 2], 0, [[0, 1]]])
def test_a_choice_has_one_entry_a_slot(choice: object) -> None:
    with pytest.raises(ValueError, match=r"expected a choice of shape \(2,\), got"):
        CostTable(COSTS).of(choice)  # type: ignore[arg-type]


@pytest.mark.parametrize("choice", [[0, 3], [-1, 0]])
def test_a_choice_stays_inside_the_table(choice: list[int]) -> None:
    with pytest.raises(ValueError, match="expected choices 0 to 2, got"):
        CostTable(COSTS).of(choice)


def test_probabilities_have_the_shape_of_the_table() -> None:
    with pytest.raises(ValueError, match=r"expected probabilities of shape \(2, 3\), got \(3, 2\)"):
        CostTable(COSTS).expected(torch.ones(3, 2))


@pytest.mark.parametrize("fastpath", [True, False])
def test_attention_is_counted_although_torch_fuses_it(fastpath: bool) -> None:
    """Four tokens of width 8: in-projection 4 x 8 x 24, scores and sums 2 x 4 x 4 x 8, out-projection 4 x 8 x 8."""

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, images: Tensor) -> Tensor:
            tokens = images.flatten(2).transpose(1, 2)  # (B, 4, 8)
            attended: Tensor = self.attention(tokens, tokens, tokens, need_weights=False)[0]
            return attended

    before = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(fastpath)
        assert count_macs(Attention(), (8, 2, 2)) == 4 * 8 * 24 + 2 * 4 * 4 * 8 + 4 * 8 * 8
        assert torch.backends.mha.get_fastpath_enabled() is fastpath
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def test_layers_by_hand() -> None:
    """Products of a module's own count for it; those of layers inside it do not."""
    module = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1, groups=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))
    found = layer_costs(module, (3, 8, 8))
    assert [(layer.name, layer.kind, layer.shape, layer.params, layer.macs) for layer in found] == [
        ("0", "Conv2d 3x3 /2", (4, 4, 4), 112, 3 * 4 * 9 * 16),
        ("1", "ReLU", (4, 4, 4), 0, 0),
        ("2", "Flatten", (64,), 0, 0),
        ("3", "Linear", (5,), 64 * 5 + 5, 64 * 5),
    ]
    inner = layer_costs(nn.Sequential(Attention(3), nn.Conv2d(3, 3, 1, groups=3, bias=False)), (3, 4, 4))
    assert [(layer.kind, layer.params, layer.macs) for layer in inner] == [
        ("Attention", 9, count_macs(Attention(3), (3, 4, 4))),
        ("Conv2d 1x1 in 3 groups", 3, 48),
    ]


def test_a_layer_that_is_used_twice_counts_once_and_works_twice() -> None:
    shared = nn.Conv2d(2, 2, 1, bias=False)
    found = layer_costs(nn.Sequential(shared, nn.ReLU(), shared), (2, 4, 4))
    assert [(layer.kind, layer.params, layer.macs) for layer in found] == [("ReLU", 0, 0), ("Conv2d 1x1", 4, 128)]


@pytest.mark.lengthy
@pytest.mark.parametrize("name", SPACES)
def test_layers_add_up_to_the_costs_of_the_network(name: str) -> None:
    space = SPACES[name]()
    genome = space.canonical(space.sample(1, np.random.default_rng(7))[0])
    network = space.build(genome)
    training, hooks = network.training, [len(part._forward_hooks) for part in network.modules()]
    found = layer_costs(network)
    assert (sum(layer.params for layer in found), sum(layer.macs for layer in found)) == tuple(space.cost(genome))
    assert (network.training, [len(part._forward_hooks) for part in network.modules()]) == (training, hooks)
