"""The threshold attack: bounds, truncation, what both algorithms find and spend."""

import pytest
import torch
from helpers import rng
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from evonas.attacks.threshold import ThresholdAttack
from evonas.errors import ConfigurationError


class Pattern(nn.Module):
    """Two classes: 1 is right until the image moved along a fixed random pattern of +-1 by `limit` of all there is."""

    def __init__(self, limit: float, threshold: int, size: int = 8) -> None:
        super().__init__()
        pattern = torch.randint(0, 2, (3, size, size), generator=rng(9)) * 2.0 - 1
        self.pattern: Tensor
        self.register_buffer("pattern", pattern / (threshold * pattern.numel()))
        self.limit = limit

    def forward(self, images: Tensor) -> Tensor:
        moved = ((images.float() * 255 - 100) * self.pattern).sum(dim=(1, 2, 3))
        return torch.stack([moved - self.limit, torch.zeros_like(moved)], dim=1).to(images.dtype)


class Counting(Pattern):
    def __init__(self) -> None:
        super().__init__(9.0, 1)
        self.batches: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.batches.append(len(images))
        return super().forward(images)

    def __deepcopy__(self, memo: object) -> "Counting":
        return self


class Refusing(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        raise AssertionError("was asked")


def grey(images: int, size: int = 8) -> Tensor:
    return torch.full((images, 3, size, size), 100 / 255)


LABELS = torch.ones(2, dtype=torch.int64)


class TestBounds:
    def test_a_cube_point_is_truncated_within_the_clipped_bounds(self) -> None:
        """th 3 around 1, 100 and 254: [0, 4], [97, 103], [251, 255]; a quarter, half and all of the way."""
        attack = ThresholdAttack(threshold=3)
        pixels = torch.tensor([1.0, 100.0, 254.0]).view(1, 1, 1, 3)
        for unit, expected in ((0.0, [0, 97, 251]), (0.3, [1, 98, 252]), (0.5, [2, 100, 253]), (1.0, [4, 103, 255])):
            assert attack._within_bounds(pixels, torch.full((1, 3), unit)).flatten().tolist() == expected

    @settings(max_examples=20, deadline=None)
    @given(threshold=st.integers(1, 20), seed=st.integers(0, 2**31), algorithm=st.sampled_from(["cma", "de"]))
    def test_no_value_moves_farther_than_threshold(self, threshold: int, seed: int, algorithm: str) -> None:
        images = torch.randint(0, 256, (2, 1, 3, 4), generator=rng(seed)) / 255
        clean = (images * 255).round()

        class Changed(nn.Module):
            """Fooled by any change; more of it scores better."""

            def forward(self, x: Tensor) -> Tensor:
                changed = ((x * 255).round() - clean[: len(x)].mean(dim=0)).abs().sum(dim=(1, 2, 3)) * 0.001
                spread = (clean - clean.mean(dim=0)).abs().sum(dim=(1, 2, 3)).max() * 0.001
                return torch.stack([changed - spread - 1e-4, torch.zeros_like(changed)], dim=1)

        attack = ThresholdAttack(threshold=threshold, population=10, generations=3, algorithm=algorithm)  # type: ignore[arg-type]
        result = attack.run(Changed(), images, LABELS, rng(seed))
        moved = (result.images * 255).round() - clean
        assert float(moved.abs().max()) <= threshold
        assert bool(((result.images >= 0) & (result.images <= 1)).all())
        assert torch.equal((result.images * 255).round() / 255, result.images)

    def test_radius_is_on_the_scale_of_images(self) -> None:
        assert ThresholdAttack(threshold=51).radius == 0.2


class TestThresholdAttack:
    @pytest.mark.parametrize(("algorithm", "limit"), [("cma", 0.5), ("de", 0.15)])
    def test_it_optimises(self, algorithm: str, limit: float) -> None:
        """A sample around the start reaches 5.5 sigma of 0.036 = 0.2 of what there is at best, a cube point 0.16."""
        model = Pattern(limit, threshold=8)
        attack = ThresholdAttack(threshold=8, algorithm=algorithm, population=60, generations=80)  # type: ignore[arg-type]
        result = attack.run(model, grey(2), LABELS, rng())
        assert result.fooled.tolist() == [True, True]
        assert model(result.images).argmax(dim=1).tolist() == [0, 0]
        assert int(result.evaluations.min()) > 5 * 60  # not by luck in the first populations

    @pytest.mark.parametrize(("algorithm", "expected"), [("cma", 6 * 20), ("de", 7 * 192)])
    def test_all_generations_run(self, algorithm: str, expected: int) -> None:
        """cma: 6 generations of 20. de: the first population and 6 more, of one individual a value at least."""
        model = Counting()
        attack = ThresholdAttack(population=20, generations=6, algorithm=algorithm, chunk=30)  # type: ignore[arg-type]
        result = attack.run(model, grey(2), LABELS, rng())
        assert result.evaluations.tolist() == [expected, expected]
        assert result.forwards == 2 * expected
        assert sum(model.batches) >= result.forwards
        assert max(model.batches) == 30
        assert torch.equal(result.images, grey(2))

    def test_images_that_the_model_gets_wrong_are_left_alone(self) -> None:
        result = ThresholdAttack(population=10, generations=2).run(Pattern(-1, 1), grey(2), LABELS, rng())
        assert not result.attacked.any()
        assert result.forwards == 0

    @pytest.mark.parametrize("algorithm", ["cma", "de"])
    def test_a_seed_decides_everything(self, algorithm: str) -> None:
        attack = ThresholdAttack(threshold=8, population=20, generations=30, algorithm=algorithm)  # type: ignore[arg-type]
        first, again, other = (attack(Pattern(0.1, 8, 4), grey(2, 4), LABELS, rng(seed)) for seed in (1, 1, 2))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
    def test_other_precisions_give_images_of_their_own_kind(self, dtype: torch.dtype) -> None:
        attack = ThresholdAttack(threshold=8, population=30, generations=60)
        found = attack(Pattern(0.2, 8), grey(1).to(dtype), LABELS[:1], rng())
        assert found.dtype == dtype
        assert Pattern(0.2, 8)(found).argmax(dim=1).tolist() == [0]

    def test_threshold_0_asks_nothing(self) -> None:
        assert torch.equal(ThresholdAttack(threshold=0)(Refusing(), grey(2), LABELS), grey(2))

    def test_what_makes_no_sense_is_one_clear_line(self) -> None:
        with pytest.raises(ConfigurationError, match=r"torch\.Generator for the populations"):
            ThresholdAttack()(Pattern(1, 1), grey(2), LABELS)
        with pytest.raises(ConfigurationError, match="8-bit"):
            ThresholdAttack()(Pattern(1, 1), grey(2) + 0.001, LABELS, rng())
        with pytest.raises(ConfigurationError, match="algorithm cma or de, got 'pso'"):
            ThresholdAttack(algorithm="pso")  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="threshold >= 0"):
            ThresholdAttack(threshold=-2)
