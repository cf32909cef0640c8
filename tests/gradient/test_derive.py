"""Cells by hand, against the rule written out, and in ties that a rounded softmax would break."""

import math
import random
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from evonas.gradient.bilevel import derive_genotype
from evonas.networks.darts import Genotype
from evonas.networks.darts_operations import PRIMITIVES

Pairs = tuple[tuple[str, int], ...]


def alphas(entries: dict[tuple[int, str], float], edges: int = 14) -> Tensor:
    """Zero but for some (edge, operation)."""
    values = torch.zeros(edges, 8, dtype=torch.float64)
    for (edge, name), value in entries.items():
        values[edge, PRIMITIVES.index(name)] = value
    return values


def softmax(values: Sequence[float]) -> list[float]:
    exponentials = [math.exp(value - max(values)) for value in values]
    return [each / math.fsum(exponentials) for each in exponentials]


def written_out(alpha: list[list[float]], beta: list[float] | None) -> Pairs:
    """The rule word by word; weights that differ by rounding alone count as equal."""
    gene, start, node = [], 0, 0
    while start < len(alpha):
        inputs = node + 2
        shares = softmax(beta[start : start + inputs]) if beta else [1.0] * inputs
        weights = [
            [round(weight * share, 11) for weight in softmax(row)]
            for row, share in zip(alpha[start : start + inputs], shares, strict=True)
        ]
        edges = sorted(range(inputs), key=lambda j: -max(weights[j][k] for k in range(8) if k != 0))
        for j in edges[:2]:
            best = None
            for k in range(1, 8):
                if best is None or alpha[start + j][k] > alpha[start + j][best]:
                    best = k
            assert best is not None
            gene.append((PRIMITIVES[best], j))
        start, node = start + inputs, node + 1
    return tuple(gene)


def test_all_equal_takes_the_first_of_everything() -> None:
    pairs, nodes = (("max_pool_3x3", 0), ("max_pool_3x3", 1)) * 4, (2, 3, 4, 5)
    assert derive_genotype(torch.zeros(14, 8), torch.full((14, 8), 7.0)) == Genotype(pairs, nodes, pairs, nodes)


def test_by_hand() -> None:
    node_2 = {(1, "sep_conv_3x3"): 2.0, (0, "none"): 5.0}  # input 1 is stronger, and `none` only weakens input 0
    node_3 = {(3, "dil_conv_5x5"): 1.0, (4, "skip_connect"): 3.0}  # input 2, then 1
    node_4 = {(5, "avg_pool_3x3"): 1.0, (8, "sep_conv_5x5"): 1.0}  # a tie of inputs 0 and 3
    node_5 = {(9, "none"): -9.0, (11, "none"): -1.0}  # less of `none` is more of the rest
    normal = alphas(node_2 | node_3 | node_4 | node_5)
    genotype = derive_genotype(normal, torch.zeros(14, 8))
    assert genotype.normal[:2] == (("sep_conv_3x3", 1), ("max_pool_3x3", 0))
    assert genotype.normal[2:4] == (("skip_connect", 2), ("dil_conv_5x5", 1))
    assert genotype.normal[4:6] == (("avg_pool_3x3", 0), ("sep_conv_5x5", 3))
    assert genotype.normal[6:] == (("max_pool_3x3", 0), ("max_pool_3x3", 2))
    assert genotype.reduce == (("max_pool_3x3", 0), ("max_pool_3x3", 1)) * 4
    assert derive_genotype(torch.zeros(14, 8), normal).reduce == genotype.normal


def test_edge_shares_multiply_per_node() -> None:
    normal = alphas({(0, "skip_connect"): 1.0, (2, "sep_conv_3x3"): 1.0})
    beta = torch.zeros(14)
    beta[1], beta[3], beta[4] = 3.0, 0.5, 9.0
    beta[5:9] += 100.0  # the same for a whole node: no difference
    genotype = derive_genotype(normal, torch.zeros(14, 8), beta, None)
    # exp(1) / (7 + e) = 0.28 against exp(3) / 8: the share wins; on edge 3, exp(0.5) / 8 = 0.21 does not
    assert genotype.normal[:4] == (("max_pool_3x3", 1), ("skip_connect", 0), ("max_pool_3x3", 2), ("sep_conv_3x3", 0))
    assert genotype.normal[4:] == genotype.reduce[4:] == (("max_pool_3x3", 0), ("max_pool_3x3", 1)) * 2
    assert derive_genotype(torch.zeros(14, 8), normal, None, beta).reduce == genotype.normal


@pytest.mark.parametrize(("edges", "nodes"), [(2, 1), (5, 2), (9, 3), (14, 4), (20, 5)])
def test_rows_say_how_many_nodes_there_are(edges: int, nodes: int) -> None:
    genotype = derive_genotype(torch.zeros(edges, 8), torch.zeros(14, 8))
    assert len(genotype.normal) == 2 * nodes
    assert genotype.normal_concat == tuple(range(2, 2 + nodes))
    assert len(genotype.reduce) == 8


def draws(rng: random.Random, n: int, grid: float, equal: bool) -> list[float]:
    """Multiples of `grid`, few enough that many are equal, or all different."""
    return [grid * rng.randint(-2, 2) if equal else rng.gauss(0, grid) for _ in range(n)]


@pytest.mark.lengthy
@pytest.mark.parametrize("trials", [150, pytest.param(700, marks=pytest.mark.slow)])
@pytest.mark.parametrize("with_beta", [False, True])
def test_against_the_rule_written_out(with_beta: bool, trials: int) -> None:
    """Rows are repeated, shuffled within themselves and, with shares, between each other: many weights are equal."""
    rng = random.Random(with_beta)
    ties = 0
    for trial in range(trials):
        grid = rng.choice([2**-10, 0.5, 1.0, 2.0])  # binary fractions: sums and differences of the draws are exact
        cells = []
        for _ in range(2):
            rows = [draws(rng, 8, grid, equal=trial % 3 > 0) for _ in range(14)]
            for _ in range(rng.randint(0, 10)):
                source, target = rng.randrange(14), rng.randrange(14)
                rows[target] = rows[source][:1] + rng.sample(rows[source][1:], 7)
                ties += 1
            cells.append(rows)
        betas = [draws(rng, 14, grid, equal=trial % 3 > 0) if with_beta else None for _ in range(2)]
        expected = [written_out(rows, beta) for rows, beta in zip(cells, betas, strict=True)]
        shares = [torch.tensor(beta, dtype=torch.float64) if beta else None for beta in betas]
        found = derive_genotype(*(torch.tensor(rows, dtype=torch.float64) for rows in cells), *shares)
        assert [found.normal, found.reduce] == expected
    assert ties > 3.5 * trials


def test_the_order_within_a_row_does_not_break_a_tie() -> None:
    """The same numbers in another order: their softmax sums differ in the last bit for most orders."""
    rng = random.Random(4)
    broken = 0
    for _ in range(200):
        row = [rng.uniform(-1, 1) for _ in range(7)] + [1.0]
        other = [*rng.sample(row[:7], 7), 1.0]
        broken += sum(map(math.exp, other)) < sum(map(math.exp, row))  # the plain rule would put edge 1 first
        cell = torch.tensor([row, other], dtype=torch.float64)
        assert derive_genotype(cell, cell).normal == (("dil_conv_5x5", 0), ("dil_conv_5x5", 1))
    assert broken > 20


def test_a_share_that_all_but_makes_up_for_a_row() -> None:
    """Three operations each: e^40 / (e^40 + 2) with share 1, against 1 / 3 with share e^b, b about log 3."""
    cell = torch.full((2, 8), -math.inf, dtype=torch.float64)
    cell[:, 1:4] = 0.0
    cell[0, 3] = 40.0
    for share, first in ((math.log(3) - 1e-12, 0), (math.log(3) + 1e-12, 1)):
        beta = torch.tensor([0.0, share], dtype=torch.float64)
        assert derive_genotype(cell, cell, beta).normal[0][1] == first


def test_a_row_that_is_shifted_as_a_whole_ties() -> None:
    cell = torch.tensor([[5.0, -1.5, 0.0, 0.25, 5.0, 5.0, -math.inf, 3.0]] * 2, dtype=torch.float64)
    cell[1] += 0.25
    assert derive_genotype(cell, cell, torch.zeros(2)).normal == (("sep_conv_3x3", 0), ("sep_conv_3x3", 1))


@pytest.mark.parametrize("scale", [50.0, 1e3, 1e30, 1e300])
def test_where_the_softmax_saturates_the_larger_weight_still_wins(scale: float) -> None:
    """1 - 7 exp(-scale) and 1 - 7 exp(-2 scale) are both 1 in floating point."""
    cell = alphas({(0, "sep_conv_3x3"): scale, (1, "sep_conv_5x5"): 2 * scale}, edges=2)
    assert derive_genotype(cell, cell).normal == (("sep_conv_5x5", 1), ("sep_conv_3x3", 0))
    weak = alphas({(0, "none"): 2 * scale, (1, "none"): scale}, edges=2)  # both weights are 0
    weak[:, 2] = 1.0
    assert derive_genotype(weak, weak).normal == (("avg_pool_3x3", 1), ("avg_pool_3x3", 0))
    same = alphas({(0, "dil_conv_3x3"): scale, (1, "skip_connect"): scale}, edges=2)
    assert derive_genotype(same, same).normal == (("dil_conv_3x3", 0), ("skip_connect", 1))


def test_the_ends_of_the_range() -> None:
    cell = alphas({(0, "none"): -1.7e308, (0, "dil_conv_5x5"): 1.7e308, (1, "none"): 1.7e308}, edges=2)
    cell[1, 1:] = -1.7e308
    beta = torch.tensor([-1.7e308, 1.7e308], dtype=torch.float64)  # both are e^-1.7e308 to first order
    assert derive_genotype(cell, cell).normal == (("dil_conv_5x5", 0), ("max_pool_3x3", 1))
    assert derive_genotype(cell, cell, beta).normal == (("max_pool_3x3", 1), ("dil_conv_5x5", 0))


def test_weights_that_differ_by_less_than_a_float_can_say() -> None:
    """Between equal rows, one entry is one unit in the last place larger."""
    cell = torch.tensor([[0.3] * 8] * 2, dtype=torch.float64)
    cell[1, 0] = math.nextafter(0.3, 0)  # less of `none`
    assert derive_genotype(cell, cell).normal == (("max_pool_3x3", 1), ("max_pool_3x3", 0))
    tiny = alphas({(0, "dil_conv_5x5"): 60.0, (1, "dil_conv_5x5"): 60.0, (1, "none"): -1e-15}, edges=2)
    assert derive_genotype(tiny, tiny).normal == (("dil_conv_5x5", 1), ("dil_conv_5x5", 0))


def test_operations_that_an_edge_does_not_have_are_never_taken() -> None:
    cell = alphas({(0, "max_pool_3x3"): -math.inf, (0, "none"): -math.inf, (1, "none"): 3.0}, edges=2)
    assert derive_genotype(cell, cell).normal == (("avg_pool_3x3", 0), ("max_pool_3x3", 1))


def test_parameters_in_a_graph_are_taken_and_single_precision_means_its_own_values() -> None:
    alpha = torch.nn.Parameter(1e-3 * torch.randn(14, 8, generator=torch.Generator().manual_seed(0)))
    assert derive_genotype(alpha, alpha) == derive_genotype(alpha.double(), alpha.detach().clone())


@pytest.mark.parametrize(
    ("alpha", "message"),
    [
        (torch.zeros(13, 8), r"alpha_reduce of shape \(2 \+ 3 \+ ..., 8\), e.g. \(14, 8\), got \(13, 8\)"),
        (torch.zeros(14, 7), r"got \(14, 7\)"),
        (torch.zeros(0, 8), r"got \(0, 8\)"),
        (torch.zeros(14), r"got \(14,\)"),
        (torch.zeros(2, 8, 1), r"got \(2, 8, 1\)"),
        (alphas({(4, "none"): math.nan}), "expected alpha_reduce to be finite.* at 4"),
        (alphas({(4, "dil_conv_3x3"): math.nan}), "at 4"),
        (alphas({(2, "skip_connect"): math.inf}), "at 2"),
        (alphas({(3, name): -math.inf for name in PRIMITIVES[1:]}), "at 3"),
    ],
)
def test_bad_alphas_are_refused(alpha: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        derive_genotype(torch.zeros(14, 8), alpha)


@pytest.mark.parametrize("beta", [torch.zeros(13), torch.zeros(14, 1), torch.full((14,), math.nan)])
def test_bad_betas_are_refused(beta: Tensor) -> None:
    with pytest.raises(ValueError, match=r"expected beta_normal of shape \(14,\) and finite"):
        derive_genotype(torch.zeros(14, 8), torch.zeros(14, 8), beta)
