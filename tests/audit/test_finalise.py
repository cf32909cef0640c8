"""Training to the end and scoring it: what depends on what, and what is inherited."""

import json
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch

from evonas.attacks import PGD
from evonas.audit import Finalising, FinalNetwork, HandmadeSpace, PGDGrid, digest, layer_counts, lego_genome
from evonas.costs import count_macs, count_params
from evonas.data import DevicePart, batches, load_data
from evonas.errors import ConfigurationError, DataError, DivergedError, UnknownNameError
from evonas.evaluation import SupernetWeights, recalibrate
from evonas.executors import ignore
from evonas.networks.blocks import seeded
from evonas.objectives.scoring import error_under
from evonas.spaces import ShuffleSpace
from evonas.training import TradesYopo, TrainingConfig
from evonas.types import Genome, Progress, arch_id

SPACE = ShuffleSpace(width=1 / 3, depth=0.3)
DATA = load_data("digits", train_limit=40, val_limit=20)
TRAINING = TrainingConfig(
    epochs=1, batch_size=20, lr=0.1, weight_decay=5e-3, milestones=(1,), grad_clip=float("inf"), precision="fp32"
)
RECIPE = TradesYopo(m=1, n=2)
SCRATCH = Finalising(space=SPACE, data=DATA, training=TRAINING, recipe=RECIPE, seed=3)
GENOME = SPACE.canonical(SPACE.sample(1, np.random.default_rng(0))[0])
NOTHING = np.empty(0, dtype=np.int64)


@pytest.fixture(scope="module")
def inherited() -> SupernetWeights:
    return SupernetWeights.of(seeded(lambda: SPACE.supernet(10), 1))


@pytest.fixture(scope="module")
def weights() -> bytes:
    return SCRATCH.train(GENOME, ignore)[0]


def tensors(weights: bytes) -> dict[str, torch.Tensor]:
    return safetensors.torch.load(weights)


def test_it_repeats_itself_bit_for_bit(weights: bytes) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    assert SCRATCH.train(GENOME, ignore)[0] == weights
    assert torch.equal(torch.rand(3), expected)  # torch's own generator is left alone
    assert replace(SCRATCH, seed=4).train(GENOME, ignore)[0] != weights


def test_fine_tuning_starts_from_the_supernets_slices(inherited: SupernetWeights) -> None:
    """With steps too small to change a weight, what comes out is what went in; from scratch it is not."""
    still = replace(TRAINING, lr=1e-30, weight_decay=0.0)
    supernet = SPACE.supernet(10)
    supernet.load_state_dict({name: torch.tensor(array) for name, array in inherited.arrays.items()})
    expected = dict(supernet.network(SPACE.units(GENOME)).named_parameters())
    tuned = tensors(replace(SCRATCH, training=still, inherited=inherited).train(GENOME, ignore)[0])
    fresh = tensors(replace(SCRATCH, training=still).train(GENOME, ignore)[0])
    near = {"rtol": 0, "atol": 1e-20}  # weights that are 0 move by the gradient times 1e-30
    assert all(torch.allclose(tuned[name], value, **near) for name, value in expected.items())
    assert sum(not torch.allclose(fresh[name], value, **near) for name, value in expected.items()) > len(expected) / 3


def test_fine_tuning_leaves_the_supernet_as_it_was(inherited: SupernetWeights) -> None:
    before = inherited.fingerprint
    tuned = replace(SCRATCH, inherited=inherited)
    first = tuned.train(GENOME, ignore)[0]
    assert SupernetWeights(inherited.arrays).fingerprint == before
    assert tuned.train(GENOME, ignore)[0] == first


def test_the_network_sees_images_as_they_are(weights: bytes) -> None:
    candidate = SCRATCH.candidate(GENOME, weights)
    assert isinstance(candidate.network.normalize, torch.nn.Identity)
    assert not candidate.network.training
    assert candidate.cost == SCRATCH.cost(GENOME) == (count_params(candidate.network), count_macs(candidate.network))
    header = json.loads(weights[8 : 8 + int.from_bytes(weights[:8], "little")])
    about = json.loads(header["__metadata__"]["evonas"])
    assert (about["genome"], about["n_classes"], about["normalization"]) == (GENOME.tolist(), 10, None)
    assert about["space"] == {"name": "shuffle", "width": 1 / 3, "depth": 0.3, "intermediate": 1, "image_size": 32}


def test_the_recipe_is_asked_and_clipping_is_off(weights: bytes) -> None:
    assert replace(SCRATCH, recipe=TradesYopo(m=1, n=1)).train(GENOME, ignore)[0] != weights
    assert replace(SCRATCH, training=replace(TRAINING, grad_clip=1e-3)).train(GENOME, ignore)[0] != weights


OTHER = SupernetWeights({"a": np.zeros(3, dtype=np.float32)})
CHANGED: dict[str, Finalising] = {
    "mode": replace(SCRATCH, inherited=OTHER),
    "supernet": replace(SCRATCH, inherited=SupernetWeights({"a": np.ones(3, dtype=np.float32)})),
    "space": replace(SCRATCH, space=replace(SPACE, intermediate=2)),
    "hand-made": replace(SCRATCH, space=HandmadeSpace("ResNet-18")),
    "narrow": replace(SCRATCH, space=HandmadeSpace("ResNet-18", 0.5)),
    "data": replace(SCRATCH, data=load_data("digits", train_limit=50, val_limit=20)),
    "training": replace(SCRATCH, training=replace(TRAINING, epochs=2)),
    "milestones": replace(SCRATCH, training=replace(TRAINING, milestones=(2,))),
    "recipe": replace(SCRATCH, recipe=TradesYopo(m=2, n=2)),
    "epsilon": replace(SCRATCH, recipe=TradesYopo(m=1, n=2, epsilon=4 / 255)),
    "seed": replace(SCRATCH, seed=4),
    "threads": replace(SCRATCH, threads=2),
    "device": replace(SCRATCH, device="cuda"),
}


def test_whatever_changes_the_weights_changes_their_digest() -> None:
    found = [digest(each.identity()) for each in (SCRATCH, *CHANGED.values())]
    assert len(set(found)) == len(found)


def test_how_the_network_was_found_does_not_matter() -> None:
    searched = replace(SPACE, window=(1.6e6, 2.4e6), crossover_kind="one_point", mutation_rate=0.2)
    assert digest(replace(SCRATCH, space=searched).identity()) == digest(SCRATCH.identity())


def unsure() -> bytes:
    """Weights that give different answers to different images: random ones, with batch statistics of the images."""
    network = seeded(lambda: SPACE.build(GENOME), 8)
    part = DevicePart(DATA.train, torch.device("cpu"))
    recalibrate(network, (images for images, _ in batches(part, 20)))
    return safetensors.torch.save(network.state_dict())


def test_the_grid_is_pgd_from_the_clean_image_whose_last_iterate_counts() -> None:
    weights = unsure()
    told: list[Progress] = []
    grid = PGDGrid(attacks=((2, 8), (1, 4)), test_limit=100, batch_size=40)
    values = grid.score(SCRATCH, GENOME, weights, told.append)
    assert list(values) == ["clean_error", "pgd2_8_error", "pgd1_4_error"]
    assert list(grid.labels.values()) == ["P2 8/255", "P1 4/255"]
    part = DevicePart(grid.test_part(DATA, 3), torch.device("cpu"))
    attacks = {
        "clean_error": None,
        "pgd2_8_error": PGD(epsilon=8 / 255, step_size=2 / 255, steps=2),
        "pgd1_4_error": PGD(epsilon=4 / 255, step_size=2 / 255, steps=1),
    }
    network = SCRATCH.candidate(GENOME, weights).network
    assert values == {name: error_under(network, batches(part, 50), attack) for name, attack in attacks.items()}
    assert values["clean_error"] < values["pgd2_8_error"]
    assert all(not attack.stop_when_fooled for attack in grid.columns.values())
    assert (told[0].done, told[-1].done, told[-1].total) == (0, 300, 300)


def test_the_test_part_is_scored_balanced() -> None:
    grid = PGDGrid(attacks=((1, 8),), test_limit=30)
    part = grid.test_part(DATA, 3)
    assert np.bincount(part.labels).tolist() == [3] * 10
    with pytest.raises(DataError, match="at least one image a class"):
        replace(grid, test_limit=9).test_part(DATA, 3)


def test_whatever_changes_the_scores_changes_their_digest() -> None:
    grid = PGDGrid(attacks=((1, 8),))
    others = [
        grid,
        replace(grid, attacks=((2, 8),)),
        replace(grid, attacks=((1, 4),)),
        replace(grid, step_size=1 / 255),
        replace(grid, test_limit=30),
        replace(grid, batch_size=10),
    ]
    assert len({digest(each.identity()) for each in others}) == len(others)


def test_a_network_that_is_broken_has_no_score(weights: bytes) -> None:
    broken = safetensors.torch.save({name: value * float("nan") for name, value in tensors(weights).items()})
    with pytest.raises(DivergedError, match="not finite"):
        PGDGrid(attacks=()).score(SCRATCH, GENOME, broken, ignore)


def test_hand_made_networks_are_trained_by_the_same_recipe() -> None:
    made = replace(SCRATCH, space=HandmadeSpace("ShuffleNetV2", 0.05))
    weights = made.train(NOTHING, ignore)[0]
    candidate = made.candidate(NOTHING, weights)
    assert (candidate.cost, made.mode) == (made.space.max_cost(), "scratch")
    assert candidate.cost.params == count_params(candidate.network)
    assert list(PGDGrid(attacks=((1, 8),), test_limit=10).score(made, NOTHING, weights, ignore)) == [
        "clean_error",
        "pgd1_8_error",
    ]
    network = FinalNetwork("Table X", NOTHING, made, "ShuffleNetV2")
    assert (network.arch_id, FinalNetwork("", GENOME, SCRATCH).arch_id) == ("ShuffleNetV2", arch_id(GENOME))


def test_hand_made_networks_have_names_and_widths() -> None:
    with pytest.raises(UnknownNameError, match="unknown hand-made network 'VGG'"):
        HandmadeSpace("VGG")
    with pytest.raises(ConfigurationError, match="expected a width > 0 for ResNet-18, got 0"):
        HandmadeSpace("ResNet-18", 0)


def genome(blocks: list[int], ratios: list[int]) -> Genome:
    """The first layers' genes; the others are 0."""
    genes = np.zeros(SPACE.n_genes, dtype=np.int64)
    genes[: len(blocks)], genes[SPACE.n_places : SPACE.n_places + len(ratios)] = blocks, ratios
    return genes


WIDE = ShuffleSpace(depth=0.3)
"""All ratios differ here."""
FOUR = [genome(*each) for each in (([5, 20], [9, 3]), ([5, 7], [2, 3]), ([1, 20], [9, 3]), ([1, 7], [2, 8]))]


def test_layers_are_counted() -> None:
    found = [tuple(each) for each in layer_counts(WIDE, FOUR)]
    assert found[:8] == [
        (0, "block", 1, 2),
        (0, "block", 5, 2),
        (0, "ratio", 0.6, 2),
        (0, "ratio", 2.0, 2),
        (1, "block", 7, 2),
        (1, "block", 20, 2),
        (1, "ratio", 0.8, 3),
        (1, "ratio", 1.8, 1),
    ]
    assert found[8:10] == [(2, "block", 0, 4), (2, "ratio", 0.2, 4)]
    assert len(found) == 8 + 2 * (WIDE.n_places - 2)
    assert all(
        sum(each.networks for each in layer_counts(WIDE, FOUR) if each[:2] == (layer, kind)) == 4
        for layer in range(WIDE.n_places)
        for kind in ("block", "ratio")
    )


def test_lego_is_what_is_most_frequent_and_of_equals_the_smaller() -> None:
    assert lego_genome(WIDE, FOUR).tolist() == genome([1, 7], [2, 3]).tolist()
    assert lego_genome(WIDE, [*FOUR, FOUR[0]]).tolist() == FOUR[0].tolist()
    assert lego_genome(WIDE, FOUR[:1]).tolist() == FOUR[0].tolist()
    with pytest.raises(ConfigurationError, match="at least one genome"):
        lego_genome(WIDE, [])


def test_lego_is_legal_and_canonical() -> None:
    rng = np.random.default_rng(2)
    for space in (SPACE, WIDE):
        for n in (1, 2, 5, 10):
            lego = lego_genome(space, list(space.sample(n, rng)))
            assert (lego <= space.upper).all()
            assert np.array_equal(space.canonical(lego), lego)
            assert len(space.units(lego)) == space.n_places
