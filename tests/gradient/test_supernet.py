"""Supernets equal plain ones in logits, gradients and statistics."""

from collections.abc import Sequence

import pytest
import torch
from plain_supernet import PlainSupernet, distance, drawn, made
from torch import Tensor, nn

from evonas.costs import count_params
from evonas.gradient.supernet import DartsSupernet, Mixture, SupernetPlan

SUBSETS = tuple(
    tuple(
        tuple(sorted(torch.randperm(8, generator=torch.Generator().manual_seed(seed + edge))[:5].tolist()))
        for edge in range(14)
    )
    for seed in (0, 100)
)
PLANS = {
    "darts": SupernetPlan(channels=4, layers=3),
    "four cells": SupernetPlan(channels=2, layers=4, nodes=3, n_classes=3),
    "pcdarts": SupernetPlan(channels=8, layers=3, partial=4, edge_normalisation=True),
    "partial alone": SupernetPlan(channels=4, layers=3, nodes=2, partial=2),
    "pdarts": SupernetPlan(channels=4, layers=3, operations=SUBSETS),
    "without none and pools": SupernetPlan(channels=4, layers=3, nodes=2, operations=(((3, 4, 7),) * 5,) * 2),
    "nothing but none": SupernetPlan(channels=4, layers=3, nodes=2, operations=(((0, 3), (0, 4)) * 2 + ((0, 6),),) * 2),
}
CLOSE = 1e-10
"""Of float64: a thousand times its rounding after some hundred layers."""


def batch(size: int = 16, n: int = 4, n_classes: int = 10) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(n, 3, size, size, generator=generator, dtype=torch.float64)
    return images, torch.randint(n_classes, (n,), generator=generator)


def gradients(
    network: nn.Module, mixture: Mixture, inputs: Sequence[Tensor], images: Tensor, labels: Tensor
) -> tuple[Tensor, list[Tensor]]:
    logits = network(images, mixture)
    loss = nn.functional.cross_entropy(logits, labels)
    found = torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True)
    return logits.detach(), list(found)


@pytest.mark.slow
@pytest.mark.parametrize("size", [16, 12])
@pytest.mark.parametrize("name", PLANS)
def test_logits_and_all_gradients_are_those_of_a_plain_supernet(name: str, size: int) -> None:
    """12 pixels become maps of 12, 6 and 3."""
    plan = PLANS[name]
    supernet, architecture = made(plan), drawn(plan)
    plain = PlainSupernet(supernet)
    images, labels = batch(size, n_classes=plan.n_classes)
    images.requires_grad_()
    names = [name for name, _ in plain.named_parameters()]
    own = dict(supernet.named_parameters())
    assert sorted(own) == sorted(names)
    alphas = list(architecture.parameters())
    expected, expected_gradients = gradients(
        plain, architecture(), [images, *alphas, *plain.parameters()], images, labels
    )
    found, found_gradients = gradients(
        supernet, architecture(), [images, *alphas, *(own[name] for name in names)], images, labels
    )
    assert distance(found, expected) < CLOSE
    whole = torch.stack([each.norm() for each in expected_gradients]).norm()
    labelled = ["images", *(f"alpha {n}" for n in range(len(alphas))), *names]
    for label, one, other in zip(labelled, found_gradients, expected_gradients, strict=True):
        assert one.shape == other.shape
        assert float((one - other).norm()) < CLOSE * float(whole), label
    assert all(float(each.norm()) > 0 for each in expected_gradients[: 1 + len(alphas)])


@pytest.mark.lengthy
@pytest.mark.parametrize("name", ["darts", "pcdarts"])
def test_weights_of_any_sign_and_size_are_taken(name: str) -> None:
    """Bounds multiply by whatever a mixture holds."""
    plan = PLANS[name]
    supernet = made(plan)
    generator = torch.Generator().manual_seed(2)
    tables = [3 * torch.randn(14, 8, generator=generator, dtype=torch.float64) for _ in range(2)]
    edges = [3 * torch.randn(14, generator=generator, dtype=torch.float64) for _ in range(2)]
    mixture = Mixture(*(each.requires_grad_() for each in (*tables, *edges)))
    images, labels = batch()
    found = gradients(supernet, mixture, [*tables, *edges], images, labels)
    expected = gradients(PlainSupernet(supernet), mixture, [*tables, *edges], images, labels)
    assert distance(found[0], expected[0]) < CLOSE
    for one, other in zip(found[1], expected[1], strict=True):
        assert distance(one, other) < CLOSE


@pytest.mark.slow
@pytest.mark.parametrize("name", ["darts", "pcdarts", "pdarts"])
def test_eval_mode_is_that_of_a_plain_supernet_and_changes_nothing(name: str) -> None:
    plan = PLANS[name]
    supernet, mixture = made(plan).eval(), drawn(plan)()
    plain = PlainSupernet(supernet).eval()
    before = {key: value.clone() for key, value in supernet.state_dict().items()}
    images, labels = batch()
    images.requires_grad_()
    found = gradients(supernet, mixture, [images], images, labels)
    expected = gradients(plain, mixture, [images], images, labels)
    assert distance(found[0], expected[0]) < CLOSE
    assert distance(found[1][0], expected[1][0]) < CLOSE
    with torch.no_grad():
        assert distance(supernet(images[:1], mixture), found[0][:1]) < CLOSE
    assert all(torch.equal(value, before[key]) for key, value in supernet.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["darts", "pcdarts", "pdarts"])
def test_statistics_are_those_of_a_plain_supernet(name: str) -> None:
    plan = PLANS[name]
    supernet, mixture = made(plan), drawn(plan)()
    plain = PlainSupernet(supernet)
    with torch.no_grad():
        for seed in range(2):
            images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
            supernet(images, mixture)
            plain(images, mixture)
    own, expected = supernet.state_dict(), plain.state_dict()
    counted = 0
    for here, there in plain.names(supernet).items():
        assert distance(own[there].double(), expected[here].double()) < CLOSE, here
        counted += here.endswith("num_batches_tracked") and int(own[there]) == 2
    assert counted == sum(isinstance(part, nn.BatchNorm2d) for part in plain.modules())


@pytest.mark.lengthy
def test_a_gradient_can_be_differentiated() -> None:
    """Exact Hessian products, and penalties on Jacobians, need it."""
    plan = SupernetPlan(channels=4, layers=3, nodes=2)
    supernet, architecture = made(plan), drawn(plan)
    images, labels = batch(8)
    images.requires_grad_()

    def second(network: nn.Module) -> list[Tensor]:
        names, weights = zip(*sorted(network.named_parameters()), strict=True)
        loss = nn.functional.cross_entropy(network(images, architecture()), labels)
        slopes = torch.autograd.grad(loss, [images, *weights], create_graph=True)
        size = torch.stack([(slope**2).sum() for slope in slopes]).sum()
        chosen = [weight for name, weight in zip(names, weights, strict=True) if name.startswith("cells.1.edges")]
        return list(torch.autograd.grad(size, [*architecture.parameters(), *chosen]))

    for one, other in zip(second(supernet), second(PlainSupernet(supernet)), strict=True):
        assert distance(one, other) < CLOSE


def test_none_takes_its_share_and_gives_nothing() -> None:
    plan = SupernetPlan(channels=4, layers=3, nodes=2)
    supernet, mixture = made(plan), drawn(plan)()
    images, _ = batch(8)
    without = mixture.normal.clone()
    without[:, 0] = 17
    with torch.no_grad():
        changed = supernet(images, Mixture(without, mixture.reduce))
        assert torch.equal(changed, supernet(images, mixture))
    assert not any("none" in name for name, _ in supernet.named_modules())


@pytest.mark.lengthy
@pytest.mark.parametrize(
    ("plan", "params"),
    [
        (SupernetPlan(), 1_930_618),
        (SupernetPlan(partial=4), 299_578),
        (SupernetPlan(n_classes=100), 1_930_618 + 90 * 257),  # 256 features and a bias a class
    ],
)
def test_parameters(plan: SupernetPlan, params: int) -> None:
    with torch.device("meta"):
        assert count_params(DartsSupernet(plan)) == params


def test_normalisation_is_the_first_layer() -> None:
    plan = SupernetPlan(channels=4, layers=3, nodes=2)
    supernet, mixture = made(plan).eval(), drawn(plan)()
    mean, deviation = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    normalised = DartsSupernet(plan, (mean, deviation)).double().eval()
    normalised.load_state_dict(supernet.state_dict(), strict=False)
    images, _ = batch(8)
    by_hand = (images - torch.tensor(mean).view(3, 1, 1).double()) / torch.tensor(deviation).view(3, 1, 1)
    assert distance(normalised(images, mixture), supernet(by_hand, mixture)) < CLOSE


@pytest.mark.lengthy
def test_the_state_comes_back() -> None:
    plan = PLANS["pcdarts"]
    supernet, architecture = made(plan), drawn(plan)
    images, _ = batch()
    with torch.no_grad():
        supernet(images, architecture())
        other, others = made(plan, seed=1), drawn(plan, seed=1)
        other.load_state_dict(supernet.state_dict())
        others.load_state_dict(architecture.state_dict())
        assert torch.equal(other(images, others()), supernet(images, architecture()))
    assert all(type(value) is Tensor for value in supernet.state_dict().values())


@pytest.mark.lengthy
def test_the_layout_of_images_and_weights_changes_nothing() -> None:
    plan = PLANS["darts"]
    supernet, mixture = made(plan).float(), drawn(plan).float()()
    images = batch()[0].float()
    with torch.no_grad():
        expected = supernet(images, mixture)
        supernet.to(memory_format=torch.channels_last)
        assert distance(supernet(images.to(memory_format=torch.channels_last), mixture), expected) < 1e-5
