"""How phase genomes mate: exact laws of what may change, and the distributions with fixed seeds."""

from collections import Counter
from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from evonas.spaces import PhaseSpace
from evonas.spaces.phase_operators import PHASE_OPERATORS, NsganetOperators

ROCO = PhaseSpace()
NSGANET = PhaseSpace(operators="nsganet")

seeds = st.integers(0, 2**32 - 1)


def chi_square(observed: list[int], expected: list[float]) -> bool:
    """Whether counts are within the 0.999 quantile of the chi-square statistic of their expectation."""
    statistic = sum((o - e) ** 2 / e for o, e in zip(observed, expected, strict=True))
    return bool(statistic < chi2.ppf(0.999, len(observed) - 1))


def test_roco_is_the_default() -> None:
    assert sorted(PHASE_OPERATORS) == ["nsganet", "roco"]
    assert PhaseSpace().operators == "roco"


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(1, 5), st.integers(2, 8))
def test_roco_crossover_exchanges_whole_phases_and_each_parent_gives_one(seed: int, phases: int, nodes: int) -> None:
    space = PhaseSpace(phases=phases, nodes=nodes)
    zeros, ones = np.zeros(space.n_genes, dtype=np.int64), space.upper
    first, second = space.crossover(zeros, ones, np.random.default_rng(seed))
    from_ones = first.reshape(phases, -1)
    assert (from_ones == from_ones[:, :1]).all()  # a phase comes from one parent
    assert np.array_equal(second, 1 - first)  # the second child gets the rest
    if phases > 1:
        assert 0 < from_ones[:, 0].sum() < phases


def test_roco_crossover_takes_each_mixture_equally_often() -> None:
    rng = np.random.default_rng(0)
    zeros = np.zeros(48, dtype=np.int64)
    draws = [tuple(ROCO.crossover(zeros, ROCO.upper, rng)[0][::16].tolist()) for _ in range(3000)]
    counts = Counter(draws)
    # Each of the 6 mixtures: 1/8 drawn, and 2/8 all-or-none of which a third becomes each of three: 1/8 + 1/24 = 1/6.
    assert len(counts) == 6
    assert chi_square(list(counts.values()), [500.0] * 6)


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(1, 5), st.integers(2, 8))
def test_roco_mutation_changes_exactly_one_phase(seed: int, phases: int, nodes: int) -> None:
    space = PhaseSpace(phases=phases, nodes=nodes)
    rng = np.random.default_rng(seed)
    genome = space.sample(1, rng)[0]
    changed = (space.mutate(genome, rng) != genome).reshape(phases, -1).any(axis=1)
    assert changed.sum() == 1


def test_roco_mutation_flips_as_many_bits_as_it_says() -> None:
    n, length = 6000, 16
    rng = np.random.default_rng(1)
    zeros = np.zeros(48, dtype=np.int64)
    children = np.array([ROCO.mutate(zeros, rng) for _ in range(n)])
    # Flips are binomial (16, 1/16), and none becomes one.
    binomial = [comb(length, k) * (1 / length) ** k * (1 - 1 / length) ** (length - k) for k in range(length + 1)]
    chances = [binomial[0] + binomial[1], binomial[2], binomial[3], sum(binomial[4:])]
    flips = children.sum(axis=1)
    observed = [int((flips == k).sum()) for k in (1, 2, 3)] + [int((flips >= 4).sum())]
    assert chi_square(observed, [n * chance for chance in chances])
    # Each phase and, by symmetry, each bit equally often. Flips of different bits of a child are nearly independent
    # and each of chance (1 + (15/16)^16) / 48, so each count is compared with its own deviation, 48 of them: 4.5.
    phase = children.reshape(n, 3, 16).any(axis=2).sum(axis=0)
    assert chi_square(phase.tolist(), [n / 3] * 3)
    chance = (1 + (15 / 16) ** 16) / 48
    deviation = (n * chance * (1 - chance)) ** 0.5
    assert np.abs(children.sum(axis=0) - n * chance).max() < 4.5 * deviation


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(1, 4), st.integers(2, 8))
def test_nsganet_crossover_swaps_one_inner_segment(seed: int, phases: int, nodes: int) -> None:
    space = PhaseSpace(phases=phases, nodes=nodes, operators="nsganet")
    zeros = np.zeros(space.n_genes, dtype=np.int64)
    first, second = space.crossover(zeros, space.upper, np.random.default_rng(seed))
    assert np.array_equal(second, 1 - first)
    assert first[0] == 0  # the first cut is at 1 at the earliest
    assert first.any()
    if space.n_genes > 2:
        assert first[-1] == 0  # the last cut is at length - 1 at the latest
        assert np.abs(np.diff(first)).sum() == 2
    else:
        assert first.tolist() == [0, 1]


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_nsganet_children_hold_both_parents_bits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = NSGANET.sample(2, rng)
    c, d = NSGANET.crossover(a, b, rng)
    assert np.array_equal(np.sort([a, b], axis=0), np.sort([c, d], axis=0))  # at each place the same two bits


def test_nsganet_cuts_are_uniform_pairs() -> None:
    space = PhaseSpace(phases=3, nodes=2, operators="nsganet")  # 6 genes: cuts are 2 of 1..5
    rng = np.random.default_rng(2)
    zeros = np.zeros(6, dtype=np.int64)
    counts = Counter(tuple(space.crossover(zeros, space.upper, rng)[0].tolist()) for _ in range(3000))
    expected = {tuple(int(a <= i < b) for i in range(6)) for a, b in combinations(range(1, 6), 2)}
    assert set(counts) == expected
    assert chi_square([counts[key] for key in sorted(expected)], [300.0] * 10)


def test_default_rate_is_the_references_effective_one() -> None:
    # Polynomial mutation with eta 3 of the value 0 in [-0.5, 1.5], rounded: with u uniform and v = 2 (1 - u) for
    # u > 1/2 the step is 2 (1 - (v + (1 - v) 0.25^4)^(1/4)), above 1/2 where v + (1 - v) 0.25^4 < 0.75^4.
    effective = 0.5 * (0.75**4 - 0.25**4) / (1 - 0.25**4)
    assert NsganetOperators(phases=3).rate == round(effective, 3) == 0.157


@pytest.mark.parametrize(("rate", "expected"), [(None, 0.157), (1.5, 1.5)])
def test_nsganet_mutation_flips_its_rate(rate: float | None, expected: float) -> None:
    space = PhaseSpace(operators="nsganet", mutation_rate=rate)
    n, length = 8000, space.n_genes
    rng = np.random.default_rng(3)
    zeros = np.zeros(length, dtype=np.int64)
    children = np.array([space.mutate(zeros, rng) for _ in range(n)])
    chance = expected / length
    deviation = (n * length * chance * (1 - chance)) ** 0.5  # of a sum of independent flips
    assert abs(children.sum() - n * expected) < 3.3 * deviation  # passed by chance in 1 run of 1,000
    per_bit = (n * chance * (1 - chance)) ** 0.5
    assert np.abs(children.sum(axis=0) - n * chance).max() < 4.5 * per_bit


def test_nsganet_rate_at_its_ends() -> None:
    rng = np.random.default_rng(4)
    never = PhaseSpace(operators="nsganet", mutation_rate=0.0)
    always = PhaseSpace(operators="nsganet", mutation_rate=48.0)  # each bit with chance 48 / 48
    for genome in never.sample(50, rng):
        assert np.array_equal(never.mutate(genome, rng), genome)
        assert np.array_equal(always.mutate(genome, rng), 1 - genome)
