"""The pixel attack: what genes mean, what it finds, what it spends."""

import pytest
import torch
from helpers import rng
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from evonas.attacks.de import DifferentialEvolution
from evonas.attacks.pixel import PixelAttack, _Encoding, paint
from evonas.errors import ConfigurationError


def grey(images: int, size: int = 8) -> Tensor:
    return torch.full((images, 3, size, size), 100 / 255)


class Spot(nn.Module):
    """Two classes: 1 is right until red at row 2, column 5 beats `limit` levels; nearer and redder scores higher."""

    def __init__(self, limit: float = 200.0) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, images: Tensor) -> Tensor:
        rows, columns = torch.arange(images.shape[2]), torch.arange(images.shape[3])
        near = 1 - ((rows[:, None] - 2).abs() + (columns - 5).abs()) / 40  # 1 at the spot
        reddest = (images[:, 0].float() * 255 * near).amax(dim=(1, 2))
        return torch.stack([reddest - self.limit, torch.zeros_like(reddest)], dim=1).to(images.dtype)


class Aim(nn.Module):
    """Never fooled; the nearer one pixel comes to (200, 30, 90) at row 2, column 5, the better it scores."""

    def forward(self, images: Tensor) -> Tensor:
        off = (images * 255 - torch.tensor([200.0, 30.0, 90.0]).view(3, 1, 1)).abs().sum(dim=1)
        rows, columns = torch.arange(images.shape[2]), torch.arange(images.shape[3])
        off = off + 50 * ((rows[:, None] - 2).abs() + (columns - 5).abs())
        nearest = off.amin(dim=(1, 2))
        return torch.stack([torch.zeros_like(nearest), nearest + 1], dim=1)


class Refusing(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        raise AssertionError("was asked")


class TestEncoding:
    def test_genes_are_truncated_and_positions_wrap(self) -> None:
        """8 rows, 10 columns: 0.999 * 8 is row 7, 1.0 * 8 is row 8 and so row 0; 0.5 * 255 is 127."""
        encoding = _Encoding(3, 8, 10)
        points = encoding.points(torch.tensor([[0.999, 1.0, 0.5, 0.0, 1.0, 1.0, 0.55, 0.999, 0.25, 0.75]]))
        assert points.tolist() == [[[7, 0, 127, 0, 255], [0, 5, 254, 63, 191]]]

    def test_later_pixels_overwrite_earlier_ones(self) -> None:
        pixels = torch.zeros(2, 2, 2, 3)
        points = torch.tensor([[[0, 1, 1, 2, 3], [1, 0, 4, 5, 6], [0, 1, 7, 8, 9]], [[0, 0, 1, 1, 1]] * 3])
        painted = paint(pixels, points)
        assert painted[0, 0, 1].tolist() == [7, 8, 9]
        assert painted[0, 1, 0].tolist() == [4, 5, 6]
        assert painted[1, 0, 0].tolist() == [1, 1, 1]
        assert int((painted != 0).any(dim=3).sum()) == 3
        assert not pixels.any()

    def test_a_key_is_the_position_and_the_colour(self) -> None:
        encoding = _Encoding(3, 8, 10)
        unit = torch.tensor([[0.999, 0.0, 0.0, 0.0, 1.0], [0.9, 1.0, 0.0, 0.0, 1.0], [0.0, 0.15, 0.0, 0.5, 0.0]])
        row = 7 * 10 * 256**3 + 255
        assert encoding.key(unit).tolist() == [row, row, 1 * 256**3 + 127 * 256]

    def test_large_images_have_no_keys(self) -> None:
        assert _Encoding(3, 256, 256).has_keys
        assert not _Encoding(3, 256, 257).has_keys
        assert not _Encoding(4, 32, 32).has_keys


class TestPixelAttack:
    def test_it_finds_the_one_pixel_that_matters(self) -> None:
        """Red of 251 or more at the spot and nowhere else: beside it 255 counts 248.6. One in 4,000 of the cube."""
        images, labels = grey(3), torch.ones(3, dtype=torch.int64)
        found = PixelAttack(population=50, generations=60)(Spot(250.0), images, labels, rng())
        assert bool((Spot(250.0)(found).argmax(dim=1) == 0).all())
        changed = (found != images).any(dim=1)  # (B, H, W)
        assert changed.flatten(1).sum(dim=1).tolist() == [1, 1, 1]
        assert changed[:, 2, 5].all()

    def test_what_is_never_fooled_comes_back_bit_for_bit_after_the_whole_budget(self) -> None:
        images, labels = grey(2) * (1 + 1e-7), torch.ones(2, dtype=torch.int64)  # not exactly k / 255
        result = PixelAttack(population=20, generations=7).run(Spot(999.0), images, labels, rng())
        assert torch.equal(result.images, images)
        assert result.evaluations.tolist() == [8 * 20, 8 * 20]
        assert not result.fooled.any()

    def test_images_that_the_model_gets_wrong_are_left_alone(self) -> None:
        labels = torch.tensor([0, 1])
        result = PixelAttack(population=20, generations=30).run(Spot(), grey(2), labels, rng())
        assert result.attacked.tolist() == [False, True]
        assert result.fooled.tolist() == [False, True]
        assert result.evaluations[0] == 0
        assert torch.equal(result.images[0], grey(1)[0])

    @pytest.mark.lengthy
    @settings(max_examples=20, deadline=None)
    @given(threshold=st.integers(1, 6), seed=st.integers(0, 2**31), limit=st.floats(100, 300))
    def test_few_pixels_change_and_all_values_are_8_bit(self, threshold: int, seed: int, limit: float) -> None:
        images = torch.randint(0, 200, (2, 3, 6, 7), generator=rng(seed)) / 255
        attack = PixelAttack(threshold=threshold, population=10, generations=3)
        result = attack.run(Spot(limit), images, torch.ones(2, dtype=torch.int64), rng(seed))
        assert int((result.images != images).any(dim=1).sum(dim=(1, 2)).max()) <= threshold == attack.radius
        assert torch.equal((result.images * 255).round() / 255, result.images)
        assert bool(((result.images >= 0) & (result.images <= 1)).all())
        assert torch.equal(result.fooled, result.attacked & (Spot(limit)(result.images).argmax(dim=1) == 0))

    def test_scores_from_the_cache_change_nothing_but_the_forwards(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """`Aim` gives an image the same logits in any batch, so both ways tell the same scores bit for bit."""
        told: list[Tensor] = []
        tell = DifferentialEvolution.tell

        def record(self: DifferentialEvolution, scores: Tensor) -> None:
            told.append(scores)
            tell(self, scores)

        monkeypatch.setattr(DifferentialEvolution, "tell", record)
        attack = PixelAttack(population=40, generations=80)
        arguments = (Aim(), grey(3, size=6), torch.ones(3, dtype=torch.int64))
        cached = attack.run(*arguments, rng(1))
        with_cache = torch.cat(told)
        told.clear()
        monkeypatch.setattr(_Encoding, "has_keys", property(lambda _: False))
        plain = attack.run(*arguments, rng(1))
        assert torch.equal(torch.cat(told), with_cache)
        assert torch.equal(plain.evaluations, cached.evaluations)
        assert plain.forwards == int(plain.evaluations.sum()) == 3 * 81 * 40
        assert cached.forwards < 0.8 * plain.forwards

    def test_a_seed_decides_everything(self) -> None:
        images, labels = grey(4), torch.ones(4, dtype=torch.int64)
        attack = PixelAttack(threshold=2, population=20, generations=10)
        first, again, other = (attack(Spot(150.0), images, labels, rng(seed)) for seed in (1, 1, 2))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
    def test_other_precisions_give_images_of_their_own_kind(self, dtype: torch.dtype) -> None:
        images = grey(1).to(dtype)
        found = PixelAttack(population=20, generations=30)(Spot(), images, torch.ones(1, dtype=torch.int64), rng())
        assert found.dtype == dtype
        assert Spot()(found).argmax(dim=1).tolist() == [0]

    def test_threshold_0_asks_nothing(self) -> None:
        images = grey(2)
        found = PixelAttack(threshold=0)(Refusing(), images, torch.ones(2, dtype=torch.int64))
        assert torch.equal(found, images)

    def test_bf16_fools_the_model_itself(self) -> None:
        """A margin that bf16 rounds away makes no success: the logits are 1.001 and 1, in bf16 both 1."""

        class Close(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.linear = nn.Linear(3 * 16, 2)
                nn.init.zeros_(self.linear.weight)
                self.linear.bias.data = torch.tensor([1.0, 1.001])

            def forward(self, images: Tensor) -> Tensor:
                return torch.as_tensor(self.linear(images.flatten(1)))

        attack = PixelAttack(population=20, generations=3, precision="bf16")
        result = attack.run(Close(), grey(2, size=4), torch.ones(2, dtype=torch.int64), rng())
        assert result.attacked.all()
        assert not result.fooled.any()

    def test_what_makes_no_sense_is_one_clear_line(self) -> None:
        images, labels = grey(1), torch.ones(1, dtype=torch.int64)
        with pytest.raises(ConfigurationError, match=r"torch\.Generator for the first population"):
            PixelAttack()(Spot(), images, labels)
        with pytest.raises(ConfigurationError, match="8-bit"):
            PixelAttack()(Spot(), images + 0.001, labels, rng())
        with pytest.raises(ConfigurationError, match="int64"):
            PixelAttack()(Spot(), images, labels.int(), rng())

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"threshold": -1}, "whole threshold >= 0, got -1"),
            ({"threshold": 1.5}, "whole threshold >= 0, got 1.5"),
            ({"threshold": True}, "whole threshold >= 0, got True"),
            ({"population": 4}, "population >= 5"),
            ({"generations": 0}, "generations >= 1"),
            ({"chunk": 0}, "chunk >= 1"),
            ({"precision": "fp16"}, "fp32 or bf16"),
        ],
    )
    def test_settings_are_checked(self, settings: dict[str, object], message: str) -> None:
        with pytest.raises(ConfigurationError, match=message):
            PixelAttack(**settings)  # type: ignore[arg-type]
