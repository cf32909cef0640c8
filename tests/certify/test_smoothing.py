"""Randomised smoothing: the bound of a probability, radii of linear classifiers, abstention, repetition."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from evonas.certify.smoothing import ABSTAINED, Smoothing, lower_confidence_bound, radius_of
from evonas.errors import ConfigurationError, DivergedError


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def half_space(distance: float) -> Callable[[Tensor], Tensor]:
    """Two logits of images of zeros that lie so far on class 1's side of a plane."""

    def forward(images: Tensor) -> Tensor:
        side = images.flatten(1)[:, 0] + distance
        return torch.stack([-side, side], dim=1)

    return forward


@pytest.mark.parametrize(("hits", "samples"), [(0, 10), (1, 10), (7, 10), (990, 1000), (1000, 1000), (99_950, 100_000)])
def test_the_bound_is_that_of_clopper_and_pearson(hits: int, samples: int) -> None:
    interval = stats.binomtest(hits, samples, alternative="greater").proportion_ci(0.999, method="exact")
    assert lower_confidence_bound(hits, samples, 0.001) == pytest.approx(interval.low, abs=1e-12)


def test_the_longest_radius_of_the_paper() -> None:
    """With all of 100,000 samples at alpha 0.001 the bound is alpha^(1 / n), and the radius 3.81 sigma."""
    bound = lower_confidence_bound(100_000, 100_000, 0.001)
    assert bound == pytest.approx(0.001 ** (1 / 100_000), rel=1e-12)
    assert radius_of(bound, 0.5) == pytest.approx(0.5 * 3.8115, abs=5e-4)
    assert radius_of(0.8413447460685429, 0.25) == pytest.approx(0.25, abs=1e-12)  # Phi(1)
    assert radius_of(0.5, 0.25) == 0


@pytest.mark.lengthy
def test_radii_of_a_linear_classifier_exceed_the_true_one_as_seldom_as_stated() -> None:
    """The smoothed network's true radius is the distance to the plane. The bound covers it in a share of 1 - alpha of
    all seeds, and the mean radius is the one over the binomial distribution of the hits."""
    distance, trials = 0.3, 400
    smoothing = Smoothing(sigma=0.25, n0=20, n=150, alpha=0.1)
    _, radii = smoothing.certify(half_space(distance), torch.zeros(trials, 1, 4, 4), rng())
    exceeded = int((radii > distance).sum())
    assert exceeded <= stats.binom.ppf(1 - 1e-4, trials, smoothing.alpha)
    hits = np.arange(smoothing.n + 1)
    chances = stats.binom.pmf(hits, smoothing.n, stats.norm.cdf(distance / smoothing.sigma))
    bounds = np.array([lower_confidence_bound(int(each), smoothing.n, smoothing.alpha) for each in hits])
    possible = np.array([radius_of(each, smoothing.sigma) if each >= 0.5 else 0.0 for each in bounds])
    mean = float((chances * possible).sum())
    deviation = math.sqrt(float((chances * (possible - mean) ** 2).sum()) / trials)
    assert abs(radii.mean().item() - mean) < 4 * deviation
    assert exceeded > stats.binom.ppf(1e-4, trials, chances[possible > distance].sum())  # not far below it, either


def test_it_abstains_where_both_classes_are_as_likely() -> None:
    images = torch.zeros(40, 1, 4, 4)
    classes, radii = Smoothing(n0=10, n=100).certify(half_space(0.0), images, rng())
    assert set(classes.tolist()) == {ABSTAINED}
    assert radii.tolist() == [0.0] * 40
    assert set(Smoothing(n=100).predict(half_space(0.0), images, rng()).tolist()) == {ABSTAINED}


def test_a_clear_answer_is_given_with_the_longest_radius() -> None:
    smoothing = Smoothing(sigma=0.5, n0=10, n=250, alpha=0.01)
    classes, radii = smoothing.certify(half_space(-10.0), torch.zeros(2, 3, 4, 4), rng())
    assert classes.tolist() == [0, 0]
    assert radii.tolist() == [pytest.approx(radius_of(0.01 ** (1 / 250), 0.5), rel=1e-9)] * 2
    assert smoothing.predict(half_space(10.0), torch.zeros(1, 3, 4, 4), rng()).tolist() == [1]


def test_prediction_abstains_by_a_two_sided_test() -> None:
    """Ten samples: 9 to 1 has the two-sided probability 22 / 1024, and 10 to 0 has 2 / 1024."""
    answers = iter([9, 10])

    def counted(images: Tensor) -> Tensor:
        first = torch.arange(len(images)) < next(answers)
        return torch.stack([first, ~first], dim=1).float()

    smoothing = Smoothing(n=10, alpha=21.9 / 1024)
    assert smoothing.predict(counted, torch.zeros(2, 1, 2, 2), rng()).tolist() == [ABSTAINED, 0]
    answers = iter([9])
    assert Smoothing(n=10, alpha=22.1 / 1024).predict(counted, torch.zeros(1, 1, 2, 2), rng()).tolist() == [0]


def test_answers_follow_from_the_generator_alone() -> None:
    images, before = torch.zeros(3, 1, 4, 4), torch.get_rng_state()
    smoothing = Smoothing(n0=10, n=230)
    first, again = (smoothing.certify(half_space(0.2), images, rng(5)) for _ in range(2))
    assert torch.equal(first.radii, again.radii)
    assert not torch.equal(first.radii, smoothing.certify(half_space(0.2), images, rng(6)).radii)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("method", [Smoothing().certify, Smoothing().predict])
def test_one_class_is_refused(method: Callable[..., object]) -> None:
    with pytest.raises(ConfigurationError, match=r"expected logits of shape .* two classes or more, got \(100, 1\)"):
        method(lambda images: images.flatten(1)[:, :1], torch.zeros(1, 3, 2, 2), rng())


def test_logits_that_are_not_finite_are_an_error() -> None:
    with pytest.raises(DivergedError, match="not finite"):
        Smoothing(n0=1, n=1).certify(lambda images: images.flatten(1) * torch.nan, torch.ones(1, 1, 2, 2), rng())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"sigma": 0.0}, "expected sigma > 0, got 0.0"),
        ({"n": 0}, "expected n >= 1, got 0"),
        ({"alpha": 1.0}, r"expected alpha in \(0, 1\), got 1.0"),
    ],
)
def test_a_senseless_setting_is_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Smoothing(**wrong)  # type: ignore[arg-type]
