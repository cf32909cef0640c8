"""A supernet holds every network that its cells can be derived to."""

from copy import deepcopy
from functools import cache

import pytest
import torch
from plain_supernet import distance, made
from torch import nn

from evonas.gradient.architecture import one_hot
from evonas.gradient.supernet import DartsSupernet, SupernetPlan
from evonas.gradient.supernet_cells import MixedCell
from evonas.networks.darts import GENOTYPES, Cell, DartsNetwork, Genotype
from evonas.networks.darts_operations import PRIMITIVES

ALL = (2, 3, 4, 5)
CLOSE = 1e-10
"""Of float64: a thousand times its rounding after some hundred layers."""


@cache
def shared() -> DartsSupernet:
    """One that no test may change."""
    return made(SupernetPlan(channels=4, layers=3))


def random_genotype(seed: int) -> Genotype:
    """Any operation but `none`, from two states each."""
    generator = torch.Generator().manual_seed(seed)

    def cell() -> tuple[tuple[str, int], ...]:
        pairs = []
        for node in range(2, 6):
            for state in torch.randperm(node, generator=generator)[:2].tolist():
                pairs.append((PRIMITIVES[int(torch.randint(1, 8, (), generator=generator))], state))
        return tuple(pairs)

    return Genotype(cell(), ALL, cell(), ALL)


PUBLISHED = {name: each for name, each in GENOTYPES.items() if each.normal_concat == each.reduce_concat == ALL}
CHOSEN = {**PUBLISHED, **{f"random {seed}": random_genotype(seed) for seed in range(20)}}


def edge_of(node: int, state: int) -> int:
    return [(n, s) for n in range(2, 6) for s in range(n)].index((node, state))


def stand_alone(supernet: DartsSupernet, genotype: Genotype) -> DartsNetwork:
    """The genotype's own network with the supernet's weights; its normalisations' own weights stay 1 and 0."""
    plan = supernet.plan
    network = DartsNetwork(genotype, plan.channels, plan.layers, plan.n_classes).double()
    pairs_of: list[tuple[nn.Module, nn.Module]] = [
        (network.stem, supernet.stem),
        (network.classifier, supernet.classifier),
    ]
    for cell, mixed in zip(network.cells, supernet.cells, strict=True):
        assert isinstance(cell, Cell)
        assert isinstance(mixed, MixedCell)
        pairs_of += [(cell.preprocess0, mixed.preprocess0), (cell.preprocess1, mixed.preprocess1)]
        for number, (name, state) in enumerate(genotype.reduce if mixed.reduction else genotype.normal):
            part = mixed.get_submodule(f"edges.{edge_of(2 + number // 2, state)}.{name}")
            assert shape_of(cell.operations[number]) == shape_of(part)
            pairs_of.append((cell.operations[number], part))
            if "pool" in name:  # which a supernet normalises
                norm = nn.BatchNorm2d(mixed.channels).double()
                pairs_of.append((norm, mixed.get_submodule(f"pool_norms.{state}.{name}")))
                cell.operations[number] = nn.Sequential(part, norm)
    for own, theirs in pairs_of:
        missing, unexpected = own.load_state_dict(theirs.state_dict(), strict=False)
        assert not unexpected
        assert all(dict(own.named_parameters())[name].ndim == 1 for name in missing)
    return network


def shape_of(part: nn.Module) -> list[tuple[str, object]]:
    """Name of every part -> its kind and settings, but for the normalisations' own weights."""
    return [
        (name, each.num_features if isinstance(each, nn.BatchNorm2d) else (type(each), each.extra_repr()))
        for name, each in part.named_modules()
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*PUBLISHED, *(f"random {n}" for n in range(20))])
def test_a_genotypes_path_is_its_own_network(name: str) -> None:
    """Cell by cell and operation by operation of one structure, and with copied weights of the same logits."""
    genotype, supernet = CHOSEN[name], deepcopy(shared())
    network, mixture = stand_alone(supernet, genotype), one_hot(supernet.plan, genotype)
    assert mixture.normal.sum() == mixture.reduce.sum() == 8
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        assert distance(supernet(images, mixture), network(images)) < CLOSE
        assert distance(supernet.eval()(images, mixture), network.eval()(images)) < CLOSE


def test_genotypes_that_a_supernet_does_not_hold_are_refused() -> None:
    genotype = CHOSEN["random 0"]
    with pytest.raises(ValueError, match="expected cells whose outputs are nodes"):
        one_hot(SupernetPlan(nodes=3), genotype)
    with pytest.raises(ValueError, match="expected an operation that edge"):
        one_hot(SupernetPlan(operations=(((0,),) * 14,) * 2), genotype)
