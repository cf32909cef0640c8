"""Methods as the papers state them, schedules, and how several gradients become one."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from evonas.errors import EvonasError
from evonas.gradient import METHODS, DeliveredCost, darts, e2rnas_v1, e2rnas_v2, pcdarts, pdarts
from evonas.gradient.losses import AdversarialLoss, CrossEntropy, ExpectedCost, OodLoss, Sum
from evonas.gradient.method import BilevelConfig, FixedWeights, Method, Mgda, Stage


def test_darts() -> None:
    first, second = darts(), darts(order=2)
    assert [(stage.epochs, stage.channels, stage.layers) for stage in first.stages] == [(50, 16, 8)]
    config = first.config
    assert (config.search_batch_size, config.search_lr, config.search_lr_min) == (64, 0.025, 0.001)
    assert (config.search_momentum, config.search_weight_decay, config.search_grad_clip) == (0.9, 3e-4, 5)
    assert (config.alpha_lr, config.alpha_betas, config.alpha_weight_decay) == (3e-4, (0.5, 0.999), 1e-3)
    assert (config.begin_with, config.portion, config.order) == ("alpha", 0.5, 1)
    assert second.config == replace(config, order=2)


def test_pcdarts() -> None:
    method = pcdarts()
    assert (method.partial, method.edge_normalisation, method.stages[0].weights_only) == (4, True, 15)
    config = method.config
    assert (config.search_batch_size, config.search_lr, config.search_lr_min, config.alpha_lr) == (256, 0.1, 0, 6e-4)


def test_pdarts() -> None:
    method = pdarts()
    assert [(s.epochs, s.weights_only, s.layers, s.keep, s.skip_dropout) for s in method.stages] == [
        (25, 10, 5, 8, 0.0),
        (25, 10, 11, 5, 0.4),
        (25, 10, 17, 3, 0.7),
    ]
    assert (method.max_skips, method.config.search_batch_size, method.config.alpha_lr) == (2, 96, 6e-4)


def test_dropout_on_skips_falls_on_a_line_and_then_by_an_exponential() -> None:
    stage = Stage(epochs=25, weights_only=10, skip_dropout=0.5)
    assert stage.dropout(0) == pytest.approx(0.5 * 24 / 25)
    assert stage.dropout(9) == pytest.approx(0.5 * 15 / 25)
    assert stage.dropout(10) == pytest.approx(0.5)
    assert stage.dropout(20) == pytest.approx(0.5 * 0.1353352832)  # exp(-2)


def test_e2rnas_v1_and_its_ablations() -> None:
    method = e2rnas_v1(darts(2))
    assert method.lower == AdversarialLoss(epsilon=2 / 255)
    assert method.upper == (CrossEntropy(), ExpectedCost(kind="params", limit=1.0, bound="above"))
    assert method.combine == Mgda(normalisation="none", solver="exact", applied_to="raw")
    assert e2rnas_v1(darts(2), adversarial=False).lower == CrossEntropy()
    assert e2rnas_v1(darts(2), count_params=False).upper == (CrossEntropy(),)
    alone = e2rnas_v1(darts(2), limit=0.0, adversarial=False, validate=False)  # w/o adv, L = 0
    assert [loss.name for loss in alone.upper] == ["params_loss"]
    small = ExpectedCost(channels=16, layers=8, affine=False)
    assert e2rnas_v1(darts(2), count_params=False, cost=small).counted == small  # watched alone
    assert method.counted is None
    assert e2rnas_v1(darts(2), combine=FixedWeights()).combine(torch.ones(2, 3), torch.ones(2)).tolist() == [0.5, 0.5]


def test_e2rnas_v2_and_its_ablations() -> None:
    method = e2rnas_v2(pdarts(), limit=3.5, flops_limit=586)
    assert method.name == "e2rnas-v2-pdarts"
    assert method.stages == pdarts().stages
    assert method.lower == Sum((CrossEntropy(), OodLoss()))
    assert [loss.name for loss in method.upper] == ["loss", "ood_loss", "adversarial_loss", "params_loss", "flops_loss"]
    assert [loss.limit for loss in method.upper[3:] if isinstance(loss, ExpectedCost)] == [3.5, 586]
    assert method.combine == Mgda(normalisation="l2", solver="frank_wolfe", applied_to="normalised")
    assert method.needs_ood
    assert e2rnas_v2(darts(2), ood_below=False).lower == CrossEntropy()
    assert e2rnas_v2(darts(2), adversarial_below=True).lower == Sum((AdversarialLoss(epsilon=2 / 255), OodLoss()))
    equal = e2rnas_v2(darts(2), combine=FixedWeights()).combine
    assert equal(torch.ones(5, 3), torch.ones(5)).tolist() == [0.2] * 5


def test_a_size_takes_the_place_of_N_hat_which_is_monitored() -> None:
    size = DeliveredCost(limit=2.1)
    first = e2rnas_v1(darts(2), sizes=(size,))
    assert first.upper == (CrossEntropy(), size)
    assert first.size is size
    assert first.counted == ExpectedCost(kind="params", limit=0.0, bound="above")
    macs = replace(size, kind="macs", limit=330.0)
    second = e2rnas_v2(darts(2), sizes=(size, macs))
    assert second.upper[3:] == (size, macs)
    assert [loss.name for loss in second.upper[3:]] == ["params_loss", "macs_loss"]
    assert second.size is size
    assert e2rnas_v2(darts(2)).size is None
    assert e2rnas_v1(darts(2), count_params=False, sizes=(size,)).size is None
    told = first.identity()["upper"]["params_loss"]
    assert (told["kind"], told["limit"], told["within"]) == ("params", 2.1, 0.01)


def test_a_vanishing_gradient_leaves_the_whole_weight_to_the_other() -> None:
    """Eq. 11 of v1 as it stands would give 0."""
    gradients = torch.tensor([[1.0, -2.0, 0.5], [0.0, 0.0, 0.0]])
    assert Mgda()(gradients, torch.ones(2)).tolist() == [1.0, 0.0]


def test_places_of_epochs_in_stages() -> None:
    method = pdarts()
    assert [method.place(epoch) for epoch in (0, 24, 25, 74)] == [(0, 0), (0, 24), (1, 0), (2, 24)]
    with pytest.raises(ValueError, match="below 75"):
        method.place(75)


@pytest.mark.parametrize("name", METHODS)
def test_identities_are_plain_and_tell_methods_apart(name: str) -> None:
    others = [METHODS[other]().identity() for other in METHODS if other != name]
    own = METHODS[name]().identity()
    assert own == METHODS[name]().identity()
    assert own not in others
    built = [e2rnas_v1(METHODS[name]()), e2rnas_v2(METHODS[name]()), e2rnas_v1(METHODS[name](), limit=2.0)]
    identities = [own, *(method.identity() for method in built)]
    assert all(identities.count(each) == 1 for each in identities)


@pytest.mark.parametrize(
    "make",
    [
        lambda: BilevelConfig(search_lr=0),
        lambda: BilevelConfig(search_lr_min=1.0),
        lambda: BilevelConfig(portion=1),
        lambda: BilevelConfig(alpha_betas=(0.5,)),
        lambda: BilevelConfig(order=3),  # type: ignore[arg-type]
        lambda: Stage(epochs=0),
        lambda: Stage(epochs=2, weights_only=3),
        lambda: Stage(keep=2),
        lambda: Mgda(solver="simplex"),
        lambda: Method(name="m", stages=()),
        lambda: Method(name="m", stages=(Stage(keep=5), Stage(keep=8))),
        lambda: FixedWeights((0.1,))(torch.ones(2, 3), torch.ones(2)),
    ],
)
def test_senseless_settings_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(EvonasError):
        make()
