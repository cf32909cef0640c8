"""Candidates over a supernet's weights: their batch statistics by hand, and that none leaves a trace in the others."""

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evonas.data import Dataset, load_data
from evonas.errors import ConfigurationError
from evonas.evaluation import Evaluator, SliceSupernet, SupernetWeights, load_supernet, recalibrate
from evonas.executors import ignore
from evonas.objectives import CleanError
from evonas.spaces import ShuffleSpace
from evonas.types import Progress, arch_id

SPACE = ShuffleSpace(width=1 / 6, depth=0.1)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_data("digits", train_limit=70, val_limit=30)


@pytest.fixture(scope="module")
def weights() -> SupernetWeights:
    """Such that images are felt in the logits, and statistics are no network's own."""
    supernet = SPACE.supernet()
    generator = torch.Generator().manual_seed(0)
    for part in supernet.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(part.weight, generator=generator)
        elif isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5, generator=generator)
            assert part.running_mean is not None
            nn.init.uniform_(part.running_mean, 5.0, 9.0, generator=generator)
    return SupernetWeights.of(supernet)


@pytest.fixture(scope="module")
def prepare(data: Dataset, weights: SupernetWeights) -> SliceSupernet:
    return SliceSupernet(space=SPACE, data=data, weights=weights, recalibration_batches=3, recalibration_batch_size=20)


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_statistics_are_plain_means_over_batches_by_hand() -> None:
    """Two layers: what the second one sees is normalised by each batch's own statistics, not by the mean ones."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    network(torch.full((2, 2, 3, 3), 9.0))  # what it saw before must not count
    images = [torch.rand(n, 2, 3, 3) for n in (4, 4, 2)]
    sums = {1: [torch.zeros(3), torch.zeros(3)], 4: [torch.zeros(4), torch.zeros(4)]}
    for batch in images:
        maps = batch
        for number, layer in enumerate(network):
            if isinstance(layer, nn.BatchNorm2d):
                mean, variance = maps.mean(dim=(0, 2, 3)), maps.var(dim=(0, 2, 3), correction=0)
                n = maps.numel() // maps.shape[1]
                sums[number][0] += mean.detach() / 3
                sums[number][1] += variance.detach() * n / (n - 1) / 3  # unbiased ones are kept
                maps = (maps - mean.view(1, -1, 1, 1)) / (variance.view(1, -1, 1, 1) + layer.eps).sqrt()
            else:
                maps = layer(maps)
    before = {name: value.clone() for name, value in network.named_parameters()}
    recalibrate(network.train(), iter(images))
    for number, (mean, variance) in sums.items():
        norm = network[number]
        assert isinstance(norm, nn.BatchNorm2d)
        torch.testing.assert_close(norm.running_mean, mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(norm.running_var, variance, rtol=1e-4, atol=1e-5)
        assert norm.momentum == 0.1
    assert not any(part.training for part in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.named_parameters())
    assert all(value.grad is None for value in network.parameters())


@pytest.mark.lengthy
def test_a_candidate_is_the_slice_with_statistics_of_the_train_part(
    prepare: SliceSupernet, weights: SupernetWeights, data: Dataset
) -> None:
    """With one batch of all images the order does not matter: the statistics are those of the whole part."""
    genome = SPACE.sample(1, np.random.default_rng(0))[0]
    whole = replace(prepare, recalibration_batches=1, recalibration_batch_size=1000)
    candidate, seconds = whole.start()(genome, 3, ignore)
    assert seconds > 0
    assert candidate.cost == SPACE.cost(genome)
    assert not candidate.network.training

    expected = load_supernet(SPACE, weights, 10, CPU).network(SPACE.units(genome), own_statistics=True)
    recalibrate(expected, [torch.tensor(data.train.images).float() / 255])
    images = torch.tensor(data.validation.images).float() / 255
    with torch.no_grad():
        logits = candidate.network(images)
        torch.testing.assert_close(logits, expected(images), rtol=1e-3, atol=1e-4)  # sums in another order
        assert float(logits.std(dim=0).min()) > 1e-2  # images differ
    for (name, value), (_, wanted) in zip(
        candidate.network.named_parameters(), expected.named_parameters(), strict=True
    ):
        assert torch.equal(value, wanted), name


@pytest.mark.lengthy
def test_statistics_are_measured_on_as_many_images_as_asked(prepare: SliceSupernet) -> None:
    genome = SPACE.upper
    for batches, size, seen in ((1, 10, 1), (3, 20, 3), (200, 20, 4)):  # 70 images are four batches of 20
        given = replace(prepare, recalibration_batches=batches, recalibration_batch_size=size)
        network = given.start()(genome, 0, ignore)[0].network
        norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
        assert {int(norm.num_batches_tracked) for norm in norms if norm.num_batches_tracked is not None} == {seen}


def halved(model: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator | None) -> Tensor:
    """In place of an attack."""
    assert not any(part.training for part in model.children())
    return images / 2


@pytest.mark.lengthy
def test_recalibration_off_leaves_the_statistics_of_the_supernet(
    prepare: SliceSupernet, weights: SupernetWeights
) -> None:
    genome = SPACE.sample(1, np.random.default_rng(0))[0]
    network = replace(prepare, recalibration="off").start()(genome, 0, ignore)[0].network
    inherited = load_supernet(SPACE, weights, 10, CPU).network(SPACE.units(genome))
    assert not network.training
    assert equal(state(network), state(inherited))


@pytest.mark.lengthy
def test_recalibration_on_attacked_images_sees_these_alone(
    prepare: SliceSupernet, weights: SupernetWeights, data: Dataset
) -> None:
    genome = SPACE.sample(1, np.random.default_rng(0))[0]
    whole = replace(prepare, recalibration_batches=1, recalibration_batch_size=1000)
    attacked = replace(whole, recalibration="attacked", recalibration_attack=halved)
    network = attacked.start()(genome, 0, ignore)[0].network
    expected = load_supernet(SPACE, weights, 10, CPU).network(SPACE.units(genome), own_statistics=True)
    recalibrate(expected, [torch.tensor(data.train.images).float() / 510])
    images = torch.tensor(data.validation.images).float() / 255
    with torch.no_grad():
        torch.testing.assert_close(network(images), expected(images), rtol=1e-3, atol=1e-4)  # sums in another order
    assert attacked.identity()["recalibration"] == [1, 1000, {"name": "halved"}]
    assert whole.identity()["recalibration"] == [1, 1000]


@pytest.mark.parametrize("given", [{"recalibration": "attacked"}, {"recalibration_attack": halved}])
def test_an_attack_and_recalibration_on_attacked_images_come_together(
    prepare: SliceSupernet, given: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError, match="expected an attack for recalibration on attacked images alone"):
        replace(prepare, **given)


@pytest.mark.slow
def test_no_candidate_depends_on_what_was_scored_before(prepare: SliceSupernet) -> None:
    genomes = SPACE.sample(3, np.random.default_rng(1))
    used = prepare.start()
    for genome in genomes:
        used(genome, 0, ignore)
    for genome in genomes[::-1]:
        again = used(genome, 0, ignore)[0].network
        alone = prepare.start()(genome, 0, ignore)[0].network
        assert equal(state(again), state(alone))


@pytest.mark.slow
def test_the_weights_stay_as_they_are_whatever_is_scored(prepare: SliceSupernet, weights: SupernetWeights) -> None:
    """A candidate's weights are views of the supernet's: what changed there would change here."""
    used = prepare.start()
    widest = {block: np.minimum(SPACE.upper, [block] * 6 + [9] * 6) for block in range(22)}
    held = {block: used(genome, 0, ignore)[0].network for block, genome in widest.items()}
    before = {block: state(network) for block, network in held.items()}
    with torch.no_grad():
        for genome in SPACE.sample(6, np.random.default_rng(2)):
            candidate, _ = used(genome, 5, ignore)
            candidate.network(torch.rand(2, 3, 32, 32))
    fresh = load_supernet(SPACE, weights, 10, CPU)
    for block, network in held.items():
        assert equal(state(network), before[block])
        own = dict(fresh.network(SPACE.units(widest[block])).named_parameters())
        assert all(torch.equal(value, own[name]) for name, value in network.named_parameters())


@pytest.mark.lengthy
def test_nothing_is_copied_for_a_candidate(prepare: SliceSupernet) -> None:
    used = prepare.start()
    first, second = (used(SPACE.upper, seed, ignore)[0].network for seed in (0, 1))
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert one.data_ptr() == other.data_ptr()
    for own, others in zip(first.buffers(), second.buffers(), strict=True):
        assert own.data_ptr() != others.data_ptr()


@pytest.mark.slow
def test_an_evaluator_over_it_is_deterministic_and_travels(prepare: SliceSupernet) -> None:
    genomes = SPACE.sample(4, np.random.default_rng(3))
    evaluator = Evaluator(prepare, (CleanError(),), threads=1)
    evaluate = evaluator.make_evaluate(ignore)
    torch.manual_seed(1)
    found = [evaluate(genome, 7) for genome in genomes]
    assert all(result.ok for result in found), [result.reason for result in found]
    assert [(r.objectives["params"], r.objectives["macs"]) for r in found] == [SPACE.cost(g) for g in genomes]
    assert len({result.objectives["clean_error"] for result in found}) > 1

    torch.manual_seed(2)  # torch's own generator plays no part
    there = pickle.loads(pickle.dumps(evaluator)).make_evaluate(ignore)
    for genome, result in list(zip(genomes, found, strict=True))[::-1]:
        assert evaluate(genome, 7).objectives == result.objectives
        assert there(genome, 7).objectives == result.objectives


@pytest.mark.lengthy
def test_a_pickled_copy_is_equal(prepare: SliceSupernet, weights: SupernetWeights) -> None:
    copy = pickle.loads(pickle.dumps(prepare))
    assert copy.weights == weights
    assert copy.space == prepare.space
    assert (copy.recalibration_batches, copy.recalibration_batch_size, copy.seed) == (3, 20, 0)


@pytest.mark.slow
def test_the_seed_orders_the_images_for_all_candidates(prepare: SliceSupernet) -> None:
    def network(given: SliceSupernet, seed: int) -> dict[str, Tensor]:
        return state(given.start()(SPACE.upper, seed, ignore)[0].network)

    assert equal(network(prepare, 0), network(prepare, 1))  # a candidate's own seed plays no part
    assert not equal(network(prepare, 0), network(replace(prepare, seed=1), 0))


@pytest.mark.lengthy
def test_progress_names_the_genome(prepare: SliceSupernet) -> None:
    told: list[Progress] = []
    prepare.start()(SPACE.upper, 0, told.append)
    assert [progress.key for progress in told] == [arch_id(SPACE.upper)]


@pytest.mark.lengthy
def test_weights_compare_by_fingerprint(weights: SupernetWeights) -> None:
    supernet = load_supernet(SPACE, weights, 10, CPU)
    same = SupernetWeights.of(supernet)
    assert same == weights
    assert hash(same) == hash(weights)
    assert len(weights.fingerprint) == 32
    with torch.no_grad():
        next(iter(supernet.parameters())).view(-1)[0] += 1e-6
    assert same == weights  # a copy
    assert SupernetWeights.of(supernet) != weights
    name, first = next(iter(weights.arrays.items()))
    moved = {("other" if key == name else key): array for key, array in weights.arrays.items()}
    assert SupernetWeights(moved) != weights
    assert SupernetWeights({**weights.arrays, name: first.reshape(-1)}) != weights
    assert SupernetWeights(dict(reversed(list(weights.arrays.items())))) == weights


@pytest.mark.lengthy
def test_a_loaded_supernet_holds_the_weights_in_eval_mode(weights: SupernetWeights) -> None:
    supernet = load_supernet(SPACE, weights, 10, CPU)
    assert not any(part.training for part in supernet.modules())
    assert all(np.array_equal(value.numpy(), weights.arrays[name]) for name, value in supernet.state_dict().items())
    with torch.no_grad():  # no memory in common
        for parameter in supernet.parameters():
            parameter.zero_()
    assert SupernetWeights.of(load_supernet(SPACE, weights, 10, CPU)) == weights


@pytest.mark.lengthy
@pytest.mark.parametrize("space", [ShuffleSpace(width=1 / 3, depth=0.1), ShuffleSpace(width=1 / 6, depth=0.3)])
def test_weights_of_another_space_are_refused_in_one_line(space: ShuffleSpace, weights: SupernetWeights) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load_supernet(space, weights, 10, CPU)
    assert str(raised.value) == ("expected the weights of a supernet of space 'shuffle' with 10 classes, got others")
    with pytest.raises(ConfigurationError, match="with 4 classes, got others"):
        load_supernet(SPACE, weights, 4, CPU)
