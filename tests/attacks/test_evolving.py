"""Differential evolution, separable CMA-ES, the cache of scores, and what attacks by evolution share."""

import math
from itertools import permutations

import pytest
import torch
from helpers import rng
from torch import Tensor, nn

from evonas.attacks.bf16_relu import FastReLU, with_fast_relu
from evonas.attacks.cma_es import SeparableCMA
from evonas.attacks.de import DifferentialEvolution, de_population
from evonas.attacks.evolution import (
    EvolutionPlan,
    EvolutionResult,
    Optimiser,
    confidence,
    eight_bit,
    evolve_images,
    unchanged,
)
from evonas.attacks.score_cache import ScoreCache
from evonas.errors import ConfigurationError, DivergedError


def minimise(optimiser: Optimiser, score: object, generations: int) -> Tensor:
    """(B,) best scores of all generations."""
    best = torch.tensor(torch.inf)
    for _ in range(generations):
        scores = score(optimiser.ask())  # type: ignore[operator]
        optimiser.tell(scores)
        best = torch.minimum(best, scores.amin(dim=1))
    return best


class TestDifferentialEvolution:
    @pytest.mark.parametrize(
        ("population", "genes", "expected"),
        [(400, 5, 400), (400, 15, 390), (400, 25, 400), (400, 50, 400), (400, 3072, 3072), (5, 3, 5), (40, 15, 30)],
    )
    def test_population_is_a_multiple_of_the_genes(self, population: int, genes: int, expected: int) -> None:
        assert de_population(population, genes) == expected

    def test_start_is_a_latin_hypercube(self) -> None:
        """Of each problem and gene exactly one individual lies in each of the NP strata."""
        start = DifferentialEvolution(3, 40, 5, rng()).ask()
        strata = (start * 40).floor().long().sort(dim=1).values
        assert torch.equal(strata, torch.arange(40)[:, None].expand(3, 40, 5))
        assert not torch.equal(start[0], start[1])

    def test_a_trial_is_the_best_plus_a_scaled_difference_of_two_besides_parent(self) -> None:
        optimiser = DifferentialEvolution(2, 6, 4, rng())
        optimiser.ask()
        start = optimiser._population = optimiser._population * 0.1 + 0.45  # no trial can leave the cube
        optimiser.tell(torch.tensor([[5.0, 3.0, 9.0, 7.0, 8.0, 6.0], [5.0, 3.0, 9.0, 7.0, 1.0, 6.0]]))
        trials = optimiser.ask()
        scales: list[set[float]] = []
        for problem, best in ((0, 1), (1, 4)):
            for parent in range(6):
                offset = trials[problem, parent] - start[problem, best]  # (D,)
                others = [i for i in range(6) if i != parent]
                ratios = [offset / (start[problem, a] - start[problem, b]) for a, b in permutations(others, 2)]
                fits = {round(float(ratio.mean()), 3) for ratio in ratios if float(ratio.std()) < 1e-3}
                assert any(0.5 <= scale <= 1 for scale in fits), (problem, parent)
                scales.append({scale for scale in fits if scale > 0})
        for of_problem in (scales[:6], scales[6:]):
            assert set.intersection(*of_problem)  # one for a problem and generation

    def test_every_pair_of_others_is_as_likely(self) -> None:
        optimiser = DifferentialEvolution(6000, 4, 1, rng())
        first, second = optimiser._two_besides_parent(6000, 4)
        for parent in range(4):
            counts = (first[:, parent] * 4 + second[:, parent]).bincount(minlength=16)
            others = [i for i in range(4) if i != parent]
            allowed = [a * 4 + b for a in others for b in others if a != b]
            assert int(counts[allowed].sum()) == 6000
            assert all(abs(int(counts[pair]) - 1000) < 5 * 29 for pair in allowed)  # deviation sqrt(6000 / 6 * 5 / 6)

    def test_a_trial_replaces_its_parent_where_it_is_not_worse(self) -> None:
        optimiser = DifferentialEvolution(1, 5, 2, rng())
        start = optimiser.ask()
        optimiser.tell(torch.tensor([[1.0, 1.0, 1.0, 1.0, 1.0]]))
        trials = optimiser.ask()
        optimiser.tell(torch.tensor([[2.0, 1.0, 0.5, torch.inf, 1.5]]))
        kept = optimiser._population
        assert torch.equal(kept[0, [0, 3, 4]], start[0, [0, 3, 4]])
        assert torch.equal(kept[0, [1, 2]], trials[0, [1, 2]])

    def test_it_finds_another_optimum_for_each_problem(self) -> None:
        optima = torch.tensor([[0.2, 0.8, 0.5], [0.9, 0.1, 0.3], [0.0, 1.0, 0.5]])  # the last in a corner

        def score(points: Tensor) -> Tensor:
            return (points - optima[:, None]).square().sum(dim=2)

        assert float(minimise(DifferentialEvolution(3, 30, 3, rng()), score, 100).max()) < 1e-4

    def test_no_gene_leaves_the_cube_and_redrawn_ones_are_not_at_its_border(self) -> None:
        optimiser = DifferentialEvolution(2, 20, 4, rng())
        for _ in range(30):
            points = optimiser.ask()
            assert bool(((points >= 0) & (points <= 1)).all())
            assert float(((points == 0) | (points == 1)).float().mean()) < 0.01
            optimiser.tell(-points.sum(dim=2))

    def test_problems_that_leave_take_their_state_with_them(self) -> None:
        optimiser = DifferentialEvolution(3, 10, 2, rng())
        start = optimiser.ask()
        optimiser.tell(torch.arange(30.0).view(3, 10))
        optimiser.keep(torch.tensor([False, True, True]))
        assert torch.equal(optimiser._population, start[1:])
        assert optimiser.ask().shape == (2, 10, 2)
        optimiser.tell(torch.full((2, 10), 100.0))  # all worse: nothing is replaced
        assert torch.equal(optimiser._population, start[1:])


class TestSeparableCMA:
    def test_constants_are_the_tutorials(self) -> None:
        """Ten samples in ten dimensions: five parents, weights and effective number as every CMA-ES has them."""
        optimiser = SeparableCMA(torch.zeros(1, 10), 1.0, None, None, 11, rng())
        expected = torch.tensor([math.log(5.5) - math.log(i) for i in range(1, 6)])
        assert torch.allclose(optimiser._weights, expected / expected.sum())
        assert round(float(optimiser._weights[0]), 3) == 0.456
        assert round(optimiser._mass, 2) == 3.17

    @pytest.mark.lengthy
    @pytest.mark.parametrize("condition", [1.0, 1e6])
    def test_it_solves_a_sphere_and_an_ill_conditioned_ellipsoid(self, condition: float) -> None:
        """Without an adapted covariance 5,200 evaluations leave the ellipsoid near its start of 3e5."""
        scale = condition ** torch.linspace(0, 1, 20, dtype=torch.float64)
        optima = torch.tensor([[0.0], [1.0], [-3.0]], dtype=torch.float64).expand(3, 20)
        optimiser = SeparableCMA(optima + 1, 0.5, None, None, 13, rng())

        def score(points: Tensor) -> Tensor:
            return (scale * (points - optima[:, None]).square()).sum(dim=2)

        assert float(minimise(optimiser, score, 400).max()) < 1e-3
        assert torch.allclose(optimiser.mean, optima, atol=0.05)

    def test_a_step_size_that_is_far_too_small_grows(self) -> None:
        """From 10; with a step size of 1e-6 150 generations would leave it there."""
        optimiser = SeparableCMA(torch.ones(1, 10, dtype=torch.float64), 1e-6, None, None, 11, rng())
        assert float(minimise(optimiser, lambda points: points.square().sum(dim=2), 150)) < 0.1

    def test_two_individuals_lie_on_the_line_of_the_last_move_and_steer_the_step_size(self) -> None:
        """As far away as a sample: sqrt(D) standard deviations. First against last rank: a trend of 0.3 at once."""
        optimiser = SeparableCMA(torch.zeros(2, 16, dtype=torch.float64), 0.5, None, None, 11, rng())
        points = optimiser.ask()
        optimiser.tell(points.sum(dim=2))
        move, mean, sigma = optimiser.mean.clone(), optimiser.mean.clone(), optimiser._sigma.clone()
        assert torch.equal(sigma, torch.full_like(sigma, 0.5))  # no line yet
        points = optimiser.ask()
        offset = points[:, 1] - mean
        assert torch.allclose(points[:, 2] - mean, -offset)
        assert torch.allclose(torch.cosine_similarity(offset, move), torch.ones(2, dtype=torch.float64))
        length = (offset.square() / optimiser._variance).sum(dim=1).sqrt()
        assert torch.allclose(length, torch.full_like(length, 0.5 * 4))
        scores = torch.arange(11.0, dtype=torch.float64).expand(2, 11).clone()
        scores[0, 1], scores[0, 2] = -1.0, 99.0  # the first of ten ahead, the last behind
        scores[1, 1], scores[1, 2] = 99.0, -1.0
        optimiser.tell(scores)
        grown = math.exp(0.3 / 4)
        assert torch.allclose(optimiser._sigma, 0.5 * torch.tensor([[grown], [1 / grown]], dtype=torch.float64))

    @pytest.mark.lengthy
    def test_it_finds_the_corner_that_a_linear_function_prefers(self) -> None:
        """Half of the corner's value of 2,450; 10,000 samples around the start give 2%, 0.25 * sqrt(3072) * 3.9."""
        slope = torch.randn(2, 1, 3072, generator=rng(1))
        centre = torch.full((2, 3072), 100.0)
        optimiser = SeparableCMA(centre, 0.25, centre - 1, centre + 1, 100, rng())
        best = minimise(optimiser, lambda points: (slope * (points - centre[:, None])).sum(dim=2), 100)
        assert bool((best < -0.5 * slope.abs().sum(dim=(1, 2))).all())

    def test_points_stay_within_the_bounds_and_the_first_is_the_mean(self) -> None:
        low, high = torch.tensor([[0.0, 9.0, -2.0]]), torch.tensor([[1.0, 9.0, 5.0]])
        optimiser = SeparableCMA(torch.tensor([[0.0, 9.0, 5.0]]), 2.0, low, high, 12, rng())
        assert optimiser.ask()[0, 0].tolist() == [0.0, 9.0, 5.0]
        for _ in range(50):
            points = optimiser.ask()
            assert bool(((points >= low) & (points <= high)).all())
            assert torch.equal(points[:, 0], optimiser.mean.clamp(low, high))
            optimiser.tell(points.sum(dim=2))
        assert optimiser.mean[0].tolist() == [-0.5, 9.0, -5.5]  # half a width beyond

    def test_problems_that_leave_take_their_state_with_them(self) -> None:
        """The same scores move a kept problem as they would have moved it among the others."""
        centre = torch.arange(12.0).view(3, 4)
        together = SeparableCMA(centre, 1.0, centre - 9, centre + 9, 8, rng())
        apart = SeparableCMA(centre, 1.0, centre - 9, centre + 9, 8, rng())
        for optimiser in (together, apart):
            optimiser.tell(optimiser.ask().square().sum(dim=2))
        scores = together.ask().square().sum(dim=2)
        apart.ask()
        together.tell(scores)
        kept = torch.tensor([True, False, True])
        apart.keep(kept)
        apart.tell(scores[kept])
        for name in ("mean", "_sigma", "_trend", "_variance", "_path", "_move"):
            assert torch.equal(getattr(apart, name), getattr(together, name)[kept]), name


class TestScoreCache:
    def test_it_gives_what_was_put_and_nothing_else(self) -> None:
        cache = ScoreCache(2, torch.device("cpu"))
        owner, keys = torch.tensor([0, 1, 1]), torch.tensor([5, 5, 2**40 - 1])
        assert not cache.get(owner, keys)[1].any()
        cache.put(owner, keys, torch.tensor([0.1, 0.2, 0.3]))
        scores, known = cache.get(owner, keys)
        assert known.all()
        assert torch.equal(scores, torch.tensor([0.1, 0.2, 0.3]))
        assert not cache.get(torch.tensor([0, 0]), torch.tensor([2**40 - 1, 6]))[1].any()

    def test_keys_that_share_a_slot_are_forgotten_never_mistaken(self) -> None:
        """200,000 keys in 65,536 slots: at least 134,464 are lost, and each that is known has its own score."""
        cache = ScoreCache(1, torch.device("cpu"))
        keys = torch.randperm(2**22, generator=rng())[:200_000] * 2**17 + 3
        owner = torch.zeros_like(keys)
        cache.put(owner, keys, keys.float())
        scores, known = cache.get(owner, keys)
        assert 50_000 < int(known.sum()) <= 65_536
        assert torch.equal(scores[known], keys.float()[known])

    def test_images_that_leave_take_their_scores_with_them(self) -> None:
        cache = ScoreCache(3, torch.device("cpu"))
        cache.put(torch.arange(3), torch.full((3,), 7), torch.arange(3.0))
        cache.keep(torch.tensor([False, False, True]))
        scores, known = cache.get(torch.tensor([0]), torch.tensor([7]))
        assert known.all()
        assert scores.tolist() == [2.0]


class TestConfidence:
    def test_it_is_the_logit_of_the_softmax_probability(self) -> None:
        logits = torch.randn(50, 10, generator=rng(), dtype=torch.float64)
        labels = torch.arange(50) % 10
        p = logits.softmax(dim=1).gather(1, labels[:, None]).squeeze(1)
        assert torch.allclose(confidence(logits, labels).double(), (p / (1 - p)).log(), atol=1e-5)

    def test_it_still_orders_what_rounds_to_a_probability_of_one(self) -> None:
        logits = torch.tensor([[40.0, 0.0, 0.0], [40.5, 0.0, 0.0]])
        assert logits.softmax(dim=1)[:, 0].tolist() == [1.0, 1.0]
        lower, higher = confidence(logits, torch.zeros(2, dtype=torch.int64)).tolist()
        assert lower < higher

    def test_not_a_number_is_the_worst(self) -> None:
        logits = torch.tensor([[torch.nan, 0.0], [torch.inf, 0.0]])
        assert confidence(logits, torch.zeros(2, dtype=torch.int64)).tolist() == [torch.inf, torch.inf]


class TestEightBit:
    @pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
    def test_all_levels_come_back(self, dtype: torch.dtype) -> None:
        levels = torch.arange(256.0)
        for images in (levels / 255, levels * (1 / 255)):
            assert torch.equal(eight_bit(images.to(dtype).view(1, 1, 16, 16)).flatten(), levels)

    def test_other_values_are_refused(self) -> None:
        images = torch.zeros(1, 1, 2, 2)
        images[0, 0, 1, 1] = 100.25 / 255
        with pytest.raises(ConfigurationError, match=r"8-bit values k / 255, got a value that is 0\.25 of a level off"):
            eight_bit(images)

    def test_pixels_come_first_and_channels_last(self) -> None:
        images = torch.arange(24.0).view(1, 2, 3, 4) / 255
        assert eight_bit(images)[0, 2, 1].tolist() == [9.0, 21.0]


class TestFastReLU:
    @pytest.mark.parametrize("inplace", [False, True])
    def test_all_bf16_numbers_come_out_as_torchs_own_have_them(self, inplace: bool) -> None:
        bits = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
        numbers = bits.view(torch.bfloat16)
        numbers = numbers[~numbers.isnan()]
        expected = torch.relu(numbers)
        before = numbers.clone()
        with torch.no_grad():
            got = FastReLU(inplace)(numbers)
        assert torch.equal(got, expected)
        assert torch.equal(numbers, expected if inplace else before)

    def test_it_has_gradients_where_they_are_asked_for(self) -> None:
        x = torch.tensor([-1.0, 2.0], dtype=torch.bfloat16, requires_grad=True)
        FastReLU()(x).sum().backward()
        assert x.grad is not None
        assert x.grad.tolist() == [0.0, 1.0]

    def test_every_plain_one_is_replaced_also_one_that_stands_twice(self) -> None:
        class Other(nn.ReLU):
            pass

        shared = nn.ReLU()
        network = with_fast_relu(nn.Sequential(shared, nn.Sequential(nn.ReLU(inplace=True), Other()), shared))
        parts = [network.get_submodule(name) for name in ("0", "1.0", "1.1", "2")]
        assert [type(part) for part in parts] == [
            FastReLU,
            FastReLU,
            Other,
            FastReLU,
        ]
        assert parts[1].inplace


class Brightness(nn.Module):
    """Two classes: 1 is right while the sum of the pixels, in levels, is below a limit; batch sizes are recorded."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit
        self.batches: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.batches.append(len(images))
        total = (images.flatten(1) * 255).sum(dim=1)
        return torch.stack([total, torch.full_like(total, self.limit)], dim=1)

    def __deepcopy__(self, memo: object) -> "Brightness":
        return self


class Steps:
    """Scores what it is told: in round r every individual is the clean image with one pixel set to r."""

    def __init__(self, problems: int) -> None:
        self.problems, self.round = problems, -1

    def ask(self) -> Tensor:
        self.round += 1
        return torch.full((self.problems, 3, 1), float(self.round))

    def tell(self, scores: Tensor) -> None:
        assert scores.shape == (self.problems, 3)

    def keep(self, problems: Tensor) -> None:
        self.problems = int(problems.sum())


def steps_plan(rounds: int, chunk: int = 4) -> EvolutionPlan:
    def decode(pixels: Tensor, genes: Tensor) -> Tensor:
        changed = pixels.clone()
        changed[:, 0, 0, 0] = genes[:, 0]
        return changed

    start = lambda pixels: Steps(len(pixels))  # noqa: E731
    return EvolutionPlan(
        start=start, decode=decode, individuals=3, genes=1, rounds=rounds, chunk=chunk, precision="fp32"
    )


def attack(model: nn.Module, images: Tensor, plan: EvolutionPlan) -> EvolutionResult:
    return evolve_images(model, images, eight_bit(images), torch.ones(len(images), dtype=torch.int64), plan)


class TestEvolve:
    def test_each_image_leaves_in_the_round_in_which_it_fools_the_model(self) -> None:
        """Sums of 0, 4, 7 and 9 need steps of 10, 6, 3 and 1 to pass 9.5, where all of a sum but one level counts."""
        model = Brightness(9.5)
        images = torch.zeros(5, 1, 2, 2)
        images[:, 0, 1, 1] = torch.tensor([0.0, 4.0, 7.0, 9.0, 20.0]) / 255
        result = attack(model, images, steps_plan(rounds=7))
        assert result.attacked.tolist() == [True, True, True, True, False]  # the last is wrong as it is
        assert result.fooled.tolist() == [False, True, True, True, False]
        assert result.evaluations.tolist() == [21, 21, 12, 6, 0]
        assert result.forwards == 60
        assert result.success == 0.75
        assert torch.equal(result.images[[0, 4]], images[[0, 4]])
        assert (result.images[:, 0, 0, 0] * 255).round().tolist() == [0, 6, 3, 1, 0]
        assert torch.equal(result.images[:, 0, 1, 1], images[:, 0, 1, 1])

    def test_no_forward_pass_is_larger_than_a_chunk(self) -> None:
        model = Brightness(99)
        attack(model, torch.zeros(9, 1, 2, 2), steps_plan(rounds=3, chunk=10))
        assert max(model.batches) == 10

    def test_the_model_itself_decides_what_succeeded(self) -> None:
        """A copy that calls everything fooled, but for its first batch, makes no success."""

        class Turning(Brightness):
            def forward(self, images: Tensor) -> Tensor:
                logits = super().forward(images)
                self.limit = -1
                return logits

        class Deceived(Brightness):
            def __deepcopy__(self, memo: object) -> "Brightness":
                return Turning(self.limit)

        result = attack(Deceived(99), torch.zeros(2, 1, 2, 2), steps_plan(rounds=3))
        assert result.attacked.all()
        assert not result.fooled.any()
        assert torch.equal(result.images, torch.zeros(2, 1, 2, 2))

    def test_logits_that_are_not_finite_are_an_error(self) -> None:
        with pytest.raises(DivergedError, match="not finite"):
            attack(Brightness(torch.nan), torch.zeros(1, 1, 2, 2), steps_plan(1))

    def test_no_images_and_no_attacked_ones_are_fine(self) -> None:
        nothing = attack(Brightness(9), torch.zeros(0, 1, 2, 2), steps_plan(1))
        assert nothing.images.shape == (0, 1, 2, 2)
        assert math.isnan(nothing.success)
        wrong = attack(Brightness(-1), torch.zeros(2, 1, 2, 2), steps_plan(1))
        assert wrong.evaluations.tolist() == [0, 0]

    def test_the_result_of_strength_0_is_a_copy(self) -> None:
        images = torch.zeros(2, 1, 2, 2)
        result = unchanged(images, torch.ones(2, dtype=torch.int64))
        assert torch.equal(result.images, images)
        assert result.images.data_ptr() != images.data_ptr()
        assert not result.attacked.any()


@pytest.mark.lengthy
def test_cma_stays_finite_where_the_optimum_is_a_corner_of_the_box() -> None:
    """A linear score: every gene does best at its lower bound, for ever."""
    slope = torch.rand(4, 20, generator=torch.Generator().manual_seed(1)) + 0.1
    low, high = torch.full((4, 20), -1.0), torch.full((4, 20), 1.0)
    search = SeparableCMA(torch.zeros(4, 20), 0.5, low, high, 16, torch.Generator().manual_seed(0))
    for _ in range(2500):
        scores = (search.ask() * slope[:, None]).sum(dim=2)
        assert bool(scores.isfinite().all())
        search.tell(scores)
    assert bool((scores.amin(dim=1) < -0.9 * slope.sum(dim=1)).all())
