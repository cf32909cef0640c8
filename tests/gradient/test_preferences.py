"""Several architectures on one supernet: cones of preference vectors, their steps, what a search of them keeps."""

import io
import math
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from helpers import same
from test_search import run, searching, tiny
from torch import Tensor

from evonas.errors import ConfigurationError
from evonas.gradient import (
    BoundLoss,
    DartsSupernet,
    DeliveredShare,
    GradientSearch,
    JacobianLoss,
    Method,
    Preferences,
    cone_weights,
    darts,
    dsrna,
    e2rnas_v1,
    e2rnas_v2,
    pcdarts,
    pdarts,
    with_preferences,
)
from evonas.gradient.levels import Means
from evonas.gradient.preferences import Standing

SHARE = DeliveredShare(channels=8, layers=5, nodes=2, n_classes=3, image_size=8)


def several(method: Method, count: int = 3) -> Method:
    return with_preferences(method, SHARE, count)


def unit(vectors: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    return vectors / lengths


def descended(centres: Tensor, vectors: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Point and objectives |x - centre|^2 after steps of one preference, from afar."""
    x, steps = torch.full((centres.shape[1],), 2.0, dtype=torch.float64), 200
    for step in range(steps):
        values = ((x - centres) ** 2).sum(1)
        rate = 0.1 * (1 - step / steps)
        x = x - rate * (cone_weights(2 * (x - centres), values, vectors, number, 0.1) @ (2 * (x - centres)))
    return x, ((x - centres) ** 2).sum(1)


@pytest.mark.lengthy
def test_five_preferences_spread_over_the_known_front_of_two_objectives() -> None:
    """f = |x|^2 and |x - e|^2: the front is sqrt(f_1) + sqrt(f_2) = 1, with x between 0 and e."""
    centres = torch.tensor([[0.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    angles = (torch.arange(5, dtype=torch.float64) + 0.5) * math.pi / 10
    vectors = torch.stack([angles.cos(), angles.sin()], dim=1)
    found = [descended(centres, vectors, number) for number in range(5)]
    for number, (_, values) in enumerate(found):
        assert float(values.sqrt().sum()) == pytest.approx(1, abs=1e-3)
        assert int((vectors @ values).argmax()) == number
    places = [float(x[0]) for x, _ in found]
    gaps = [after - before for before, after in zip(places[1:], places[:-1], strict=True)]
    assert min(gaps) > 0.05


@pytest.mark.lengthy
def test_seven_preferences_spread_over_the_known_front_of_three_objectives() -> None:
    """Squared distances from three points: the Pareto set is their triangle."""
    centres = torch.eye(3, dtype=torch.float64)
    corners = [(1, 1, 1), (4, 1, 1), (1, 4, 1), (1, 1, 4), (4, 4, 1), (4, 1, 4), (1, 4, 4)]
    vectors = unit(torch.tensor(corners, dtype=torch.float64))
    found = [descended(centres, vectors, number) for number in range(7)]
    for number, (x, values) in enumerate(found):
        assert float(x.sum()) == pytest.approx(1, abs=1e-2)
        assert float(x.min()) > -1e-2
        assert int((vectors @ values).argmax()) == number
    places = torch.stack([x for x, _ in found])
    apart = torch.cdist(places, places)
    assert float(apart[~torch.eye(7, dtype=torch.bool)].min()) > 0.1


def test_one_vector_gives_the_direction_of_mgda() -> None:
    """Right-angled gradients of lengths 1, 2 and 4: a third of each direction."""
    gradients = torch.diag(torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64))
    values = torch.tensor([1.0, 2.0, 0.1], dtype=torch.float64)
    weights = cone_weights(gradients, values, unit(torch.ones(1, 3, dtype=torch.float64)), 0)
    assert weights.tolist() == pytest.approx([1 / 3, 1 / 6, 1 / 12])


@pytest.mark.parametrize("seed", range(20))
def test_a_step_decreases_what_it_promises(seed: int) -> None:
    """Outside, every violated constraint; inside, every objective and every constraint at the border."""
    drawn = torch.Generator().manual_seed(seed)
    vectors = unit(torch.rand(6, 3, generator=drawn, dtype=torch.float64) + 0.05)
    values = torch.rand(3, generator=drawn, dtype=torch.float64)
    gradients = torch.randn(3, 10, generator=drawn, dtype=torch.float64)
    for number in range(6):
        direction = cone_weights(gradients, values, vectors, number, near=0.05) @ gradients
        borders = vectors - vectors[number]
        violations = borders @ values
        slopes = (borders @ gradients) @ direction
        if bool((violations > 0).any()):
            assert bool((slopes[violations > 0] > 0).all())
        else:
            assert bool((gradients @ direction > -1e-12).all())
            centre = (vectors @ vectors[number] - 1) * torch.linalg.vector_norm(values)
            assert bool((slopes[violations >= 0.05 * centre] >= -1e-12).all())


@pytest.mark.parametrize("objectives", [2, 3, 4])
@pytest.mark.parametrize("count", [5, 7, 9])
def test_within_a_cone_independent_gradients_always_give_a_step(count: int, objectives: int) -> None:
    """From border to border: a narrow cone's borders never hold F between them."""
    preferences = Preferences(count=count)
    vectors = preferences.vectors(objectives)
    gradients = torch.eye(objectives, dtype=torch.float64)
    for number in range(count):
        for off in (-0.4, -0.2, 0.0, 0.2, 0.4):
            values = torch.ones(objectives, dtype=torch.float64)
            values[-1] = (number + 1 + off) / (count + 1)
            weights = cone_weights(gradients, values, vectors, number, preferences.near)
            assert float(torch.linalg.vector_norm(weights @ gradients)) > 0.01


def test_vectors_point_to_the_mean_loss_at_sizes_in_equal_steps() -> None:
    """The last vector bounds the smallest networks."""
    found = Preferences(count=3).vectors(3)
    expected = [[1, 1, 0.25], [1, 1, 0.5], [1, 1, 0.75], [1, 1, 0]]
    assert torch.allclose(found, unit(torch.tensor(expected, dtype=torch.float64)))
    with pytest.raises(ConfigurationError, match="expected at least 2 preferences"):
        Preferences(count=1)


def test_objectives_are_normalised_by_their_mean_over_all_architectures() -> None:
    """Losses 2 and 4 have mean 3; the value of a certified bound may be negative: -2 is better than -1."""
    standing = Standing(Preferences(count=2, smoothing=0.5), 3)
    first, divisors = standing._normalised(0, torch.tensor([2.0, -1.0, 0.3], dtype=torch.float64))
    assert (first.tolist(), divisors.tolist()) == ([1, 1, 0.3], [2, 1, 1])
    second, divisors = standing._normalised(1, torch.tensor([4.0, -2.0, 0.9], dtype=torch.float64))
    assert second.tolist() == pytest.approx([4 / 3, 2 / 3, 0.9])
    assert divisors.tolist() == pytest.approx([3, 1.5, 1])
    standing._normalised(1, torch.tensor([2.0, -2.0, 0.1], dtype=torch.float64))
    assert standing.values[1] is not None
    assert standing.values[1].tolist() == pytest.approx([3, -2, 0.1])  # half way; sizes are not smoothed


def test_a_bound_whose_mean_is_near_zero_keeps_its_order() -> None:
    """0.3, -0.1 and -0.2 have mean 0 and mean absolute value 0.2."""
    standing = Standing(Preferences(count=3), 2)
    for number, bound in enumerate((0.3, -0.1, -0.2)):
        standing._normalised(number, torch.tensor([bound, 0.5], dtype=torch.float64))
    found = [
        standing._normalised(number, torch.tensor([bound, 0.5], dtype=torch.float64))
        for number, bound in enumerate((0.3, -0.1, -0.2))
    ]
    assert [divisors.tolist() for _, divisors in found] == [pytest.approx([0.2, 1])] * 3
    assert [float(values[0]) for values, _ in found] == pytest.approx([2, 0.5, 0])


def test_the_objectives_are_the_methods_own_and_the_size() -> None:
    names = {
        "darts": (several(darts()), ["loss", "size"]),
        "v1": (several(e2rnas_v1(darts())), ["loss", "size"]),
        "v2": (several(e2rnas_v2(darts())), ["loss", "ood_loss", "adversarial_loss", "size"]),
        "bound": (several(dsrna()), ["bound", "loss", "size"]),
        "jacobian": (several(dsrna(metric=JacobianLoss())), ["jacobian", "loss", "size"]),
    }
    for method, expected in names.values():
        assert [loss.name for loss in method.upper] == expected
        assert method.architectures == 3
        assert "preferences" in method.identity()
    assert names["bound"][0].epsilon == BoundLoss().epsilon
    assert "preferences" not in darts().identity()


def test_stages_that_drop_operations_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="expected a method of one stage with several preferences, got pdarts"):
        several(pdarts())


@pytest.mark.lengthy
def test_a_step_trains_the_weights_and_one_architecture() -> None:
    search = searching(several(tiny(darts(), search_batch_size=6)))
    before = [[alpha.clone() for alpha in each.parameters()] for each in search.levels.architectures]
    assert all(torch.equal(one, other) for one, other in zip(before[0], before[2], strict=True))
    levels = search.levels
    levels.begin_epoch(0.1, 0.0, torch.Generator())
    levels.turn = 1
    weight = levels.weights[0].clone()
    levels.descend(*next(search.batches()), Means())
    moved = [
        not torch.equal(one, next(iter(each.parameters())))
        for (one, *_), each in zip(before, levels.architectures, strict=True)
    ]
    assert moved == [False, True, False]
    assert not torch.equal(weight, levels.weights[0])


@pytest.mark.lengthy
def test_an_epoch_costs_the_same_however_many_preferences_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passes through the supernet, counted."""
    passes: Counter[str] = Counter()
    forward = DartsSupernet.forward

    def counted(self: DartsSupernet, *arguments: Tensor) -> Tensor:
        passes[name] += 1
        return forward(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(DartsSupernet, "forward", counted)
    one = tiny(darts(), search_batch_size=4)
    for name in ("one", "three", "five"):
        searching({"one": one, "three": several(one), "five": several(one, 5)}[name]).run_epoch()
    assert passes["one"] == passes["three"] == passes["five"] > 0


@pytest.mark.lengthy
def test_a_dropped_batch_of_one_image_is_nobodys_turn() -> None:
    """12 images in batches of 11: one step an epoch; of 6: two."""
    search = searching(several(tiny(darts(), search_batch_size=11), 2))
    turns = [["upper_size" in part for part in row["preferences"]] for row in run(search)]
    assert turns == [[True, False], [False, True]]


def test_fewer_steps_than_preferences_are_refused() -> None:
    """Two epochs of two steps; then with one that trains the weights only."""
    method = several(tiny(darts(), search_batch_size=6), 4)
    assert searching(method).steps == 2
    idle = replace(method, stages=(replace(method.stages[0], weights_only=1),))
    with pytest.raises(ConfigurationError, match="for each of 4 preferences, got 2 in the whole search"):
        searching(idle)
    with pytest.raises(ConfigurationError, match="for each of 5 preferences, got 4 in the whole search"):
        searching(several(tiny(darts(), search_batch_size=6), 5))


@pytest.mark.lengthy
def test_rows_of_an_epoch_hold_a_part_of_each_preference() -> None:
    search = searching(several(tiny(darts(), search_batch_size=6)))
    first, second = run(search)
    assert first.keys() == {"learning_rate", "preferences"}
    turns = [["upper_size" in part for part in row["preferences"]] for row in (first, second)]
    assert turns == [[True, True, False], [True, False, True]]  # two steps an epoch
    assert search.history[-1].shape == (3, 2, 5, 8)
    for part, genotype in zip(second["preferences"], search.genotypes, strict=True):
        assert part["delivered_size"] == SHARE.of(genotype)


@pytest.mark.lengthy
@pytest.mark.parametrize(
    "method", [darts(), e2rnas_v1(pcdarts()), dsrna(darts(), BoundLoss(images=2))], ids=lambda each: each.name
)
def test_continued_it_is_the_same_bit_for_bit(method: Method) -> None:
    changed = several(tiny(method, search_batch_size=4, order=1))
    whole = searching(changed)
    whole.run_epoch()
    state = io.BytesIO()
    torch.save(whole.state(), state)
    state.seek(0)
    continued = searching(changed)
    continued.restore(torch.load(state, weights_only=True))
    assert continued.run_epoch() == whole.run_epoch()
    assert same(continued.state(), whole.state())
    assert continued.genotypes == whole.genotypes


@pytest.mark.slow
def test_sizes_grow_with_the_preference_for_size_on_digits() -> None:
    """Twelve turns each: the networks lie apart, in order, over most of the range of sizes."""
    from evonas.data import Augmentation, DevicePart, load_data
    from evonas.gradient import SearchData, halves

    cpu = torch.device("cpu")
    digits = load_data("digits", None, 0, 96)
    below, above = halves(DevicePart(digits.train, cpu), 0.5)
    size = replace(SHARE, n_classes=10, image_size=32)
    method = with_preferences(tiny(darts(), search_batch_size=12, alpha_lr=0.03), size, 5)
    method = replace(method, stages=(replace(method.stages[0], epochs=15),))
    found = SearchData(below, above, None, Augmentation(flip=False), 10, digits.normalization)
    search = GradientSearch(method, found, 0, cpu)
    rows = run(search)
    shares = [(size.of(genotype) - size.sizes[0]) / (size.sizes[1] - size.sizes[0]) for genotype in search.genotypes]
    assert shares == sorted(shares)
    assert 0 < shares[0] < 0.2
    assert shares[-1] > 0.6
    assert all(after - before > 0.05 for before, after in pairwise(shares))
    assert [part["delivered_size"] for part in rows[-1]["preferences"]] == [*map(size.of, search.genotypes)]


def test_one_architecture_keeps_its_values() -> None:
    """A search without preferences has no lists."""
    search = searching(tiny(darts()))
    assert search.probabilities().shape == (2, 5, 8)
    assert search.state().keys() == {"epoch", "operations", "history", *search.levels.state()}
    assert search.levels.state().keys() == {"supernet", "architecture", "momentum", "adam", "epsilon"}
