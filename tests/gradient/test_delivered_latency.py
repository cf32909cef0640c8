"""Latencies of delivered networks, against the table's prediction of networks that are built."""

import itertools
import math
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from evonas.errors import ConfigurationError
from evonas.gradient import DeliveredCost, DeliveredLatency, darts, derive_genotype
from evonas.gradient.architecture import SupernetPlan, one_hot
from evonas.gradient.derived import log_odds
from evonas.networks.darts import Genotype
from evonas.networks.darts_operations import PRIMITIVES
from evonas.ship import LatencyTable, layers_of, operation_times
from evonas.ship.latency_measuring import network_of, subject_of
from evonas.spaces import DartsSpace
from evonas.spaces.darts_costs import OperationTimes

ONE, TWO = DartsSpace(4, 3, nodes=1, image_size=8), DartsSpace(4, 5, nodes=2, image_size=8)
CLASSES = 7


@cache
def tables() -> dict[DartsSpace, LatencyTable]:
    return {space: drawn_table(space) for space in (ONE, TWO)}


def drawn_table(space: DartsSpace) -> LatencyTable:
    """A table of all layers of a space, whose times are drawn: predictions are sums of any times."""
    covers = [layers_of(network_of(space, genome, CLASSES), 8) for genome in space.cover()]
    layers, rng = sorted(set(itertools.chain(*covers))), np.random.default_rng(0)
    return LatencyTable(
        subject=subject_of(space, CLASSES, 8),
        processor="drawn",
        torch="",
        layers={layer: float(time) for layer, time in zip(layers, rng.uniform(0.01, 0.3, len(layers)), strict=True)},
        scale=1.1,
        overhead=0.002,
        calibrated_on=0,
        tested_on=0,
        median_error=0.0,
        p95_error=0.0,
        slowest=0.0,
    )


def held(space: DartsSpace, limit: float, within: float = 0.01) -> DeliveredLatency:
    return DeliveredLatency(
        limit=limit,
        channels=space.channels,
        layers=space.layers,
        nodes=space.nodes,
        image_size=8,
        n_classes=CLASSES,
        within=within,
        times=operation_times(tables()[space], space, CLASSES),
    )


def predicted(space: DartsSpace, genotype: Genotype) -> float:
    """Milliseconds of the built network by the table."""
    network = network_of(space, space.from_genotype(genotype), CLASSES)
    return tables()[space].predict(layers_of(network, 8))


@cache
def cells(nodes: int) -> list[tuple[tuple[str, int], ...]]:
    into = [
        [
            ((a, i), (b, j))
            for i, j in itertools.combinations(range(2 + node), 2)
            for a, b in itertools.product(PRIMITIVES[1:], repeat=2)
        ]
        for node in range(nodes)
    ]
    return [tuple(itertools.chain(*each)) for each in itertools.product(*into)]


@cache
def all_of_one_node() -> dict[Genotype, float]:
    """All 2,401 networks of one node -> milliseconds by the table; 98 are built, each with one plain cell."""
    plain = cells(1)[0]
    rest = predicted(ONE, Genotype(plain, (2,), plain, (2,)))
    normal = {cell: predicted(ONE, Genotype(cell, (2,), plain, (2,))) for cell in cells(1)}
    reduce = {cell: predicted(ONE, Genotype(plain, (2,), cell, (2,))) for cell in cells(1)}
    return {
        Genotype(left, (2,), right, (2,)): normal[left] + reduce[right] - rest
        for left, right in itertools.product(normal, reduce)
    }


def odds_of(genotype: Genotype) -> torch.Tensor:
    mixture = one_hot(SupernetPlan(nodes=len(genotype.normal) // 2), genotype)
    weights = torch.stack([mixture.normal, mixture.reduce])
    weights[..., 0] = 1 - weights.sum(dim=2)
    return log_odds(weights)


@pytest.mark.lengthy
def test_at_weights_of_0_and_1_it_is_the_tables_prediction_of_every_network_of_one_node() -> None:
    least, most = min(all_of_one_node().values()), max(all_of_one_node().values())
    latency = held(ONE, (least + most) / 2)
    assert latency.sizes == pytest.approx((least, most), rel=1e-12)
    for genotype, milliseconds in all_of_one_node().items():
        assert latency.of(genotype) == pytest.approx(milliseconds, rel=1e-12)
    for genotype in list(all_of_one_node())[::200]:
        found = predicted(ONE, genotype)
        assert latency.of(genotype) == pytest.approx(found, rel=1e-12)
        assert float(latency.expected(odds_of(genotype), 0.02)) == pytest.approx(found, rel=1e-9)


@pytest.mark.lengthy
def test_so_it_is_of_networks_of_two_nodes() -> None:
    for genome in TWO.sample(25, np.random.default_rng(0)):
        genotype = TWO.genotype(genome)
        found = predicted(TWO, genotype)
        latency = held(TWO, found, within=0.0)
        assert latency.of(genotype) == pytest.approx(found, rel=1e-12)
        assert float(latency.expected(odds_of(genotype))) == pytest.approx(found, rel=1e-9)


def test_the_expectation_is_the_sum_over_all_networks_and_its_gradient_is_right() -> None:
    """Every network of one node is as probable under even weights."""
    latency = held(ONE, sum(held_range()) / 2)
    even = torch.full((2, 2, 8), 1 / 8, dtype=torch.float64)
    mean = math.fsum(all_of_one_node().values()) / 2401
    assert float(latency.expected(log_odds(even))) == pytest.approx(mean, rel=1e-12)
    alpha = torch.randn(2, 2, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a: latency.expected(log_odds(a.softmax(dim=2)), 0.5), alpha)


def held_range() -> tuple[float, float]:
    return min(all_of_one_node().values()), max(all_of_one_node().values())


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
@pytest.mark.lengthy
def test_the_strongest_of_all_networks_within_the_limit_is_delivered(share: float) -> None:
    """Alone, and beside parameters; times of one node are told apart by a tenth of the tolerance."""
    (least, most), space = held_range(), ONE
    latency = held(space, least + share * (most - least), within=0.03)
    odds = log_odds(torch.randn(2, 2, 8, generator=torch.Generator().manual_seed(1)).double().softmax(dim=2))
    params = {each: space.cost(space.from_genotype(each), CLASSES).params / 1e6 for each in all_of_one_node()}
    within = {each for each, ms in all_of_one_node().items() if abs(ms - latency.limit) <= 0.03 * latency.limit}
    weakest = min(within, key=lambda each: strength(odds, each))
    kept = _in_order(latency.kept(_any_outside(within), odds))
    assert kept in within
    assert latency.holds(kept)
    assert strength(odds, kept) == pytest.approx(max(strength(odds, each) for each in within))
    assert latency.kept(weakest, odds) is weakest
    size = DeliveredCost(
        limit=params[weakest], channels=4, layers=3, nodes=1, image_size=8, n_classes=CLASSES, within=0.03
    )
    both = {each for each in within if size.holds(each)}
    kept = _in_order(size.kept(_any_outside(within), odds, None, (latency,)))
    assert strength(odds, kept) == pytest.approx(max(strength(odds, each) for each in both))
    assert kept in both


def _any_outside(within: set[Genotype]) -> Genotype:
    return next(each for each in all_of_one_node() if each not in within)


def _in_order(genotype: Genotype) -> Genotype:
    """With the pairs of its only node in the order of their inputs."""
    normal, reduce = (tuple(sorted(cell, key=lambda pair: pair[1])) for cell in (genotype.normal, genotype.reduce))
    return replace(genotype, normal=normal, reduce=reduce)


def strength(odds: torch.Tensor, genotype: Genotype) -> float:
    chosen = enumerate((genotype.normal, genotype.reduce))
    return sum(float(odds[cell, edge, PRIMITIVES.index(name)]) for cell, pairs in chosen for name, edge in pairs)


def test_a_limit_in_the_range_of_full_cells_is_held() -> None:
    """Four nodes, whose times are too many for an enumeration; times drawn at random."""
    drawn = np.random.default_rng(0).uniform(0.0, 5.0, (2, 14, 8))
    drawn[..., 0] = 0.0
    times = OperationTimes("0" * 16, 10.0, tuple(tuple(map(tuple, cell)) for cell in drawn.tolist()))
    alpha = torch.randn(2, 14, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    derived = derive_genotype(*alpha)
    for limit in (30.0, 50.0, 70.0):
        latency = DeliveredLatency(limit=limit, times=times)
        kept = latency.kept(derived, log_odds(alpha.softmax(dim=2)))
        assert latency.holds(kept)
        assert abs(latency.of(kept) - limit) <= 0.01 * limit


def test_limits_out_of_reach_are_refused_when_the_times_are_known() -> None:
    least, most = held_range()
    asked = DeliveredLatency(limit=2 * most, channels=4, layers=3, nodes=1, image_size=8, n_classes=CLASSES)
    method = replace(darts(), nodes=1, upper=(asked,))
    times = operation_times(tables()[ONE], ONE, CLASSES)
    message = rf"latency of the delivered network in \[{least:.6f}, {most:.6f}\] ms, .* 4 channels and 3 cells, got"
    with pytest.raises(ConfigurationError, match=message):
        method.timed(times)
    with pytest.raises(ConfigurationError, match="expected times of the operations for a latency, got none"):
        method.identity()


def test_skip_connections_of_the_normal_cell_are_limited_beside_a_latency() -> None:
    """The strongest network within the limit of those with one skip_connect at most, by an enumeration."""
    alpha = torch.randn(2, 2, 8, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    alpha[..., PRIMITIVES.index("skip_connect")] += 4
    odds = log_odds(alpha.softmax(dim=2))
    skipping = derive_genotype(*alpha)
    limit = 1.2 * all_of_one_node()[_in_order(skipping)]
    latency = held(ONE, limit, within=0.1)
    within = [genotype for genotype, time in all_of_one_node().items() if abs(time - limit) <= 0.1 * limit]
    few = [genotype for genotype in within if [name for name, _ in genotype.normal].count("skip_connect") <= 1]
    assert len(few) < len(within)
    for allowed, most in ((few, 1), (within, None)):
        kept = latency.kept(skipping, odds, most)
        assert strength(odds, kept) == pytest.approx(max(strength(odds, each) for each in allowed))
        assert latency.holds(kept)


def test_a_latency_and_a_size_that_no_network_has_together_are_refused() -> None:
    """The lightest network is none of the slowest."""
    size: dict[str, Any] = {"channels": 4, "layers": 3, "nodes": 1, "image_size": 8, "n_classes": CLASSES}
    params = {genotype: ONE.cost(ONE.from_genotype(genotype), CLASSES).params for genotype in all_of_one_node()}
    lightest, slowest = min(params.values()) / 1e6, 0.999 * held_range()[1]
    asked = (DeliveredCost(limit=lightest, **size), DeliveredLatency(limit=slowest, **size))
    times = operation_times(tables()[ONE], ONE, CLASSES)
    message = rf"got L = {lightest:g} and latency = {slowest:g}; the nearest one has \d\.\d+M parameters and \d\.\d+ ms"
    with pytest.raises(ConfigurationError, match=message):
        replace(darts(), nodes=1, upper=asked).timed(times)


def test_the_identity_names_the_table_and_no_times() -> None:
    latency = held(ONE, sum(held_range()) / 2)
    told = replace(darts(), nodes=1, upper=(latency,)).identity()
    assert told["upper"]["latency_loss"]["times"] == {"table": tables()[ONE].fingerprint}
    assert told["held"] == ["latency"]
    usual = replace(darts(), upper=(DeliveredCost(limit=2.1),)).identity()["upper"]["params_loss"]
    assert "times" not in usual


def test_a_table_of_other_networks_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="the network is of another space, width or image size"):
        operation_times(tables()[ONE], replace(ONE, channels=6), CLASSES)
