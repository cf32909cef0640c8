"""The canonical genome: equal for exactly the genomes of the same network. Truth is brute force over permutations."""

from functools import cache
from itertools import combinations, permutations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evonas.spaces import PhaseSpace

Genome = npt.NDArray[np.int64]


def pairs_of(nodes: int) -> list[tuple[int, int]]:
    """(predecessor, node), counted from 0, in the order of the bits."""
    return [(before, node) for node in range(1, nodes) for before in range(node)]


@cache
def relabelled_weights(nodes: int) -> npt.NDArray[np.uint64]:
    """(nodes!, pairs) the bit that each connection sets in the adjacency matrix after each permutation."""
    names = np.array(list(permutations(range(nodes))), dtype=np.uint64)
    before, after = np.array(pairs_of(nodes)).T
    return np.uint64(1) << (names[:, before] * np.uint64(nodes) + names[:, after])


def classes_by_brute_force(connections: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """(N,) smallest adjacency matrix over all permutations of the nodes, of (N, pairs) connection bits."""
    nodes = next(n for n in range(2, 9) if n * (n - 1) // 2 == connections.shape[1])
    bits = connections.astype(np.uint64)
    smallest = np.full(len(bits), np.iinfo(np.uint64).max)
    for weights in relabelled_weights(nodes):
        np.minimum(smallest, bits @ weights, out=smallest)
    return smallest


def isomorphic(a: Genome, b: Genome, nodes: int) -> bool:
    """Whether two phases' connection bits are the same directed graph up to the names of nodes."""
    weights = relabelled_weights(nodes)
    targets = weights @ a.astype(np.uint64)
    pairs = np.array(pairs_of(nodes), dtype=np.uint64)
    own = np.sum((np.uint64(1) << (pairs[:, 0] * np.uint64(nodes) + pairs[:, 1])) * b.astype(np.uint64))
    return bool(np.any(targets == own))


def all_connections(nodes: int) -> npt.NDArray[np.int64]:
    """(2^pairs, pairs)."""
    pairs = nodes * (nodes - 1) // 2
    return (np.arange(1 << pairs)[:, None] >> np.arange(pairs)) & 1


def canonical_connections(nodes: int) -> list[bytes]:
    space = PhaseSpace(phases=1, nodes=nodes)
    return [space.canonical(np.append(bits, 0)).tobytes() for bits in all_connections(nodes)]


@pytest.mark.parametrize(
    ("nodes", "classes"), [(2, 2), (3, 6), (4, 31), (5, 302), pytest.param(6, 5984, marks=pytest.mark.slow)]
)
def test_classes_are_those_of_brute_force(nodes: int, classes: int) -> None:
    # 1, 2, 6, 31, 302, 5984: acyclic directed graphs of n unlabelled nodes (OEIS A003087), the empty one included
    canonical = canonical_connections(nodes)
    truth = classes_by_brute_force(all_connections(nodes)).tolist()
    assert len(set(canonical)) == len(set(truth)) == classes
    assert len(set(zip(canonical, truth, strict=True))) == classes  # a bijection: equal exactly where isomorphic


@pytest.mark.lengthy
def test_published_counts_of_six_nodes() -> None:
    space = PhaseSpace(phases=1, nodes=6)
    connections = all_connections(6)
    _, one_of_each = np.unique(classes_by_brute_force(connections), return_index=True)
    representatives = connections[one_of_each]
    distinct = {space.canonical(np.append(bits, residual)).tobytes() for bits in representatives for residual in (0, 1)}
    assert len(distinct) == 11_967  # twice 5,983 active ones, and the inactive one
    active = len(distinct) - 1
    assert active + active**2 + active**3 == 1_713_496_773_818  # one, two or three active phases, in order


@pytest.mark.parametrize(
    ("phases", "nodes", "networks"),
    [(3, 2, 1 + 2 + 4 + 8), (2, 3, 1 + 10 + 100)],  # the powers of 2 x (classes - 1), and the empty network
)
def test_networks_of_a_whole_small_space(phases: int, nodes: int, networks: int) -> None:
    space = PhaseSpace(phases=phases, nodes=nodes)
    genomes = (np.arange(space.n_genomes)[:, None] >> np.arange(space.n_genes)) & 1
    cut = genomes.reshape(-1, space.bits_per_phase)
    truth = classes_by_brute_force(cut[:, :-1]).reshape(-1, phases)
    residual = cut[:, -1].reshape(-1, phases)
    empty = classes_by_brute_force(np.zeros((1, space.bits_per_phase - 1), dtype=np.int64))[0]
    keys = [
        tuple((t, r) for t, r in zip(row, bits, strict=True) if t != empty)
        for row, bits in zip(truth.tolist(), residual.tolist(), strict=True)
    ]
    canonical = [space.canonical(genome).tobytes() for genome in genomes]
    assert len(set(canonical)) == len(set(keys)) == networks
    assert len(set(zip(canonical, keys, strict=True))) == networks


def test_dropped_phases_move_to_the_end_and_lose_their_residual_bit() -> None:
    space = PhaseSpace(phases=3, nodes=3)
    chain, fork, dropped = [1, 0, 1, 0], [1, 1, 0, 1], [0, 0, 0, 1]
    first = space.canonical(np.array(chain + dropped + fork))
    assert first[8:].tolist() == [0, 0, 0, 0]
    for other in (dropped + chain + fork, chain + fork + dropped, chain + fork + [0] * 4):
        assert np.array_equal(space.canonical(np.array(other)), first)
    assert not np.array_equal(space.canonical(np.array(fork + chain + dropped)), first)  # order of phases matters


def test_a_single_edge_is_one_phase_whatever_the_names() -> None:
    space = PhaseSpace(phases=1, nodes=6)
    single_edges = [np.append(np.eye(15, dtype=np.int64)[i], 0) for i in range(15)]
    assert len({space.canonical(genome).tobytes() for genome in single_edges}) == 1


def test_direction_matters() -> None:
    space = PhaseSpace(phases=1, nodes=3)
    fork, join = np.array([1, 1, 0, 0]), np.array([0, 1, 1, 0])  # 1 feeds 2 and 3; 3 reads 1 and 2
    assert not np.array_equal(space.canonical(fork), space.canonical(join))


@st.composite
def phase_and_relabelling(draw: st.DrawFn) -> tuple[int, Genome, Genome]:
    """(nodes, bits of a phase, bits of the same phase after its nodes changed names)."""
    nodes = draw(st.integers(6, 8))
    pairs = pairs_of(nodes)
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=len(pairs)))
    wish = draw(st.permutations(range(nodes)))
    order: list[int] = []  # a topological order that comes as near to the wish as edges allow
    while len(order) < nodes:
        order.append(next(v for v in wish if v not in order and all(a in order for a, b in chosen if b == v)))
    name = {node: place for place, node in enumerate(order)}
    moved = {(name[a], name[b]) for a, b in chosen}
    residual = draw(st.integers(0, 1))
    return (
        nodes,
        np.array([*(int(pair in chosen) for pair in pairs), residual]),
        np.array([*(int(pair in moved) for pair in pairs), residual]),
    )


@pytest.mark.lengthy
@settings(max_examples=150, deadline=None)
@given(phase_and_relabelling())
def test_relabelled_phases_have_one_canonical_genome_and_one_cost(case: tuple[int, Genome, Genome]) -> None:
    nodes, bits, relabelled = case
    space = PhaseSpace(phases=1, nodes=nodes)
    canonical = space.canonical(bits)
    assert np.array_equal(canonical, space.canonical(relabelled))
    assert np.array_equal(canonical, space.canonical(canonical))
    assert space.cost(bits) == space.cost(relabelled) == space.cost(canonical)
    assert canonical[-1] == (bits[-1] if bits[:-1].any() else 0)


@settings(max_examples=60, deadline=None)
@given(st.integers(6, 8).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.booleans(), min_size=28, max_size=28))))
def test_canonical_is_the_same_graph(case: tuple[int, list[bool]]) -> None:
    """With the law above: equal canonical genomes exactly where graphs are isomorphic, for 6 to 8 nodes too."""
    nodes, drawn = case
    connections = np.array(drawn[: nodes * (nodes - 1) // 2], dtype=np.int64)
    canonical = PhaseSpace(phases=1, nodes=nodes).canonical(np.append(connections, 1))
    assert isomorphic(connections, canonical[:-1], nodes)


@pytest.mark.parametrize("nodes", [6, 7, 8])
def test_many_interchangeable_nodes(nodes: int) -> None:
    """Perfect matchings, stars and complete bipartite phases: where refinement alone leaves nodes tied."""
    space = PhaseSpace(phases=1, nodes=nodes)
    rng = np.random.default_rng(nodes)
    half = nodes // 2
    graphs = {
        "matching": [(i, i + half) for i in range(half)],
        "star": [(0, i) for i in range(1, nodes)],
        "bipartite": [(i, j) for i in range(half) for j in range(half, nodes)],
        "crown": [(i, j + half) for i, j in combinations(range(half), 2)],
        "cycles": [(i, half + i) for i in range(half)] + [(i, half + (i + 1) % half) for i in range(half)],
    }
    for edges in graphs.values():
        genomes = set()
        for _ in range(8):
            low, high = rng.permutation(half), half + rng.permutation(nodes - half)
            name = [*low, *high] if edges is not graphs["star"] else [0, *(1 + rng.permutation(nodes - 1))]
            moved = {(name[a], name[b]) for a, b in edges}
            bits = np.array([*(int(pair in moved) for pair in pairs_of(nodes)), 0])
            genomes.add(space.canonical(bits).tobytes())
        assert len(genomes) == 1
