"""The strongest cells of a size, against all cells one by one."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from evonas.errors import ConfigurationError
from evonas.gradient import DeliveredCost, Method, darts, derive_genotype
from evonas.gradient.budget import genotype_within
from evonas.gradient.derived import log_odds
from evonas.networks.darts import Genotype
from evonas.networks.darts_operations import PRIMITIVES
from evonas.spaces import DartsSpace
from evonas.spaces.darts_costs import operation_costs

TABLE = operation_costs(36, 20).params


def drawn(edges: int, seed: int) -> torch.Tensor:
    return torch.randn(2, edges, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("least", "most"), [(0, 10**9), (40_000, 60_000), (1_000, 1_100), (10**9, 10**9)])
def test_it_is_the_best_of_all(least: int, most: int) -> None:
    """Cells of one node: 2,401 pairs of cells, of which the nearest count where none is in the range."""
    costs, odds = operation_costs(8, 5, nodes=1).params, log_odds(drawn(2, 0).softmax(dim=2)).numpy()
    found = genotype_within(odds, costs, least, most)
    best = None
    for names in itertools.product(range(1, 8), repeat=4):
        at = ((0, 0, 1, 1), (0, 1, 0, 1), names)
        cost, score = int(costs[at].sum()), float(odds[at].sum())
        beyond = 0.0 if least <= cost <= most else abs(cost - (least + most) / 2)
        if best is None or (beyond, -score) < best[:2]:
            best = beyond, -score, names
    assert best is not None
    cells = [{edge: PRIMITIVES.index(name) for name, edge in cell} for cell in (found.normal, found.reduce)]
    kept = [cell[edge] for cell in cells for edge in (0, 1)]
    assert tuple(kept) == best[2]


def test_in_an_endless_range_it_is_the_derived_one() -> None:
    for seed in range(5):
        alpha = drawn(14, seed)
        assert genotype_within(log_odds(alpha.softmax(dim=2)).numpy(), TABLE, 0, 1e12) == derive_genotype(*alpha)


@pytest.mark.parametrize("limit", [1.4, 2.1, 3.3, 5.0])
def test_a_size_is_kept_and_cells_that_have_it_stay(limit: float) -> None:
    size, space = DeliveredCost(limit=limit), DartsSpace()
    for seed in range(2):
        alpha = drawn(14, seed)
        odds, derived = log_odds(alpha.softmax(dim=2)), derive_genotype(*alpha)
        kept = size.kept(derived, odds)
        assert abs(space.cost(space.from_genotype(kept)).params / 1e6 - limit) <= 0.01 * limit
        assert size.kept(kept, odds) == kept
        own = DeliveredCost(limit=size.of(derived), within=0.0)
        assert own.kept(derived, odds) is derived
        assert size.changed(derived, derived) == 0
        assert size.changed(derived, kept) > 0


@pytest.mark.parametrize("limit", [250.0, 400.0, 600.0])
def test_multiply_adds_are_kept(limit: float) -> None:
    macs, space = DeliveredCost(kind="macs", limit=limit), DartsSpace()
    for seed in range(2):
        alpha = drawn(14, seed)
        kept = macs.kept(derive_genotype(*alpha), log_odds(alpha.softmax(dim=2)))
        assert abs(space.cost(space.from_genotype(kept)).macs / 1e6 - limit) <= 0.01 * limit


def test_two_limits_are_kept_at_once_by_the_best_of_all() -> None:
    """All 2,401 networks of one node, one by one."""
    costs, odds = operation_costs(8, 5, nodes=1), log_odds(drawn(2, 3).softmax(dim=2)).numpy()
    tables, at = np.stack([costs.params, costs.macs]), ((0, 0, 1, 1), (0, 1, 0, 1))
    sums = {
        names: ([int(table[(*at, names)].sum()) for table in tables], float(odds[(*at, names)].sum()))
        for names in itertools.product(range(1, 8), repeat=4)
    }
    middle = sums[4, 5, 6, 1][0]
    least, most = [0.9 * each for each in middle], [1.1 * each for each in middle]
    within = {names: score for names, (both, score) in sums.items() if _in(both, least, most)}
    assert 1 < len(within) < sum(least[0] <= both[0] <= most[0] for both, _ in sums.values())
    found = genotype_within(odds, tables, least, most)
    cells = [{edge: PRIMITIVES.index(name) for name, edge in cell} for cell in (found.normal, found.reduce)]
    assert tuple(cell[edge] for cell in cells for edge in (0, 1)) == max(within, key=within.__getitem__)


def _in(values: list[int], least: list[float], most: list[float]) -> bool:
    return all(low <= value <= high for low, value, high in zip(least, values, most, strict=True))


def test_limits_that_no_network_meets_together_are_refused() -> None:
    def held(flops: float) -> Method:
        return replace(darts(), upper=(DeliveredCost(limit=2.5), DeliveredCost(kind="macs", limit=flops)))

    method, space = held(390.0), DartsSpace()
    assert method.identity()["held"] == ["params", "macs"]
    alpha = drawn(14, 0)
    first, *others = method.limits
    kept = first.kept(derive_genotype(*alpha), log_odds(alpha.softmax(dim=2)), None, others)
    params, macs = space.cost(space.from_genotype(kept))
    assert [params / 1e6, macs / 1e6] == pytest.approx([2.5, 390.0], rel=0.01)
    message = r"got L = 2.5 and F = 300; the nearest one has 2\.\d+M parameters and 3\d\d\.\d+M multiply"
    with pytest.raises(ConfigurationError, match=message):
        held(300.0)


def test_skip_connections_of_the_normal_cell_are_limited() -> None:
    alpha = drawn(14, 0)
    alpha[..., PRIMITIVES.index("skip_connect")] += 5
    odds = log_odds(alpha.softmax(dim=2)).numpy()

    def skips(genotype: Genotype) -> list[int]:
        return [sum(name == "skip_connect" for name, _ in cell) for cell in (genotype.normal, genotype.reduce)]

    least, most = 100_000.0, 3_000_000.0
    assert skips(genotype_within(odds, TABLE, least, most))[0] > 2
    limited = genotype_within(odds, TABLE, least, most, max_skips=2)
    assert skips(limited)[0] == 2
    assert skips(limited)[1] > 2
    assert np.isfinite(odds).all()
