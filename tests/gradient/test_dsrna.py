"""DSRNA: its losses by hand, what the supernet is while they look at it, the radius as a state, perturbed alpha."""

import io
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from helpers import same
from torch import Tensor

from evonas.certify.settings import Intermediate
from evonas.data import Augmentation, DevicePart
from evonas.errors import ConfigurationError, EvonasError
from evonas.gradient import (
    AlphaPerturbation,
    BoundLoss,
    CrossEntropy,
    EpsilonSchedule,
    FixedShares,
    GradientSearch,
    JacobianLoss,
    Method,
    Mgda,
    SearchData,
    SquaredJacobianLoss,
    Sum,
    darts,
    dsrna,
    halves,
    pcdarts,
    pdarts,
)
from evonas.gradient.architecture import Mixture
from evonas.gradient.forward import eval_mode
from evonas.gradient.levels import Levels
from evonas.gradient.losses import Batch
from evonas.gradient.perturbation import worst_mixture

CPU = torch.device("cpu")
WEIGHT = torch.tensor([[1.0, -2.0, 0.5, 0.0], [3.0, 0.0, -1.0, 2.0], [0.0, 1.0, 1.0, -1.0]])
"""Of three logits of images of four pixels: row sums of absolute values are 3.5, 6 and 3."""
UNIFORM = torch.full((2, 5, 8), 1 / 8)


def linear(images: Tensor) -> Tensor:
    return images.flatten(1) @ WEIGHT.t()


def images_of(n: int, seed: int) -> DevicePart:
    drawn = torch.Generator().manual_seed(seed)
    return DevicePart.of(torch.randint(256, (n, 8, 8, 3), generator=drawn, dtype=torch.uint8), torch.arange(n) % 3)


def data() -> SearchData:
    below, above = halves(images_of(24, 0), 0.5)
    return SearchData(below, above, None, Augmentation(padding=1), 3, ((0.5,) * 3, (0.25,) * 3))


def tiny(method: Method, **config: Any) -> Method:
    """Two nodes, a few channels, two epochs of one step a stage."""
    stages = tuple(
        replace(stage, epochs=2, weights_only=0, channels=4 * method.partial, layers=3) for stage in method.stages
    )
    changed = {"search_batch_size": 12, "alpha_lr": 0.05, **config}
    return replace(method, stages=stages, nodes=2, config=replace(method.config, **changed))


def searching(method: Method, seed: int = 0) -> GradientSearch:
    return GradientSearch(method, data(), seed, CPU)


BATCH = Batch(torch.rand(5, 1, 2, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0, 1]))


def test_the_jacobian_of_a_linear_network() -> None:
    """Eq. 15: mean absolute row sums against linf, mean row norms against l2; the images do not matter."""
    for norm, value in (("linf", (3.5 + 6 + 3) / 3), ("l2", (5.25**0.5 + 14**0.5 + 3**0.5) / 3)):
        notes: dict[str, Tensor] = {}
        loss = JacobianLoss(gamma=0.5, norm=norm)(linear, UNIFORM, replace(BATCH, notes=notes))  # type: ignore[arg-type]
        assert float(loss) == pytest.approx(0.5 * value)
        assert float(notes["jacobian_norm"]) == pytest.approx(value)


def test_the_squared_jacobian_of_a_linear_network() -> None:
    """The sum of squares of the matrix; projections have it as their mean, and draw it from the batch's seed alone."""
    exact = float(WEIGHT.square().sum())
    notes: dict[str, Tensor] = {}
    loss = SquaredJacobianLoss(gamma=0.5, projections=None)(linear, UNIFORM, replace(BATCH, notes=notes))
    assert float(loss) == pytest.approx(0.5 * exact)
    assert float(notes["squared_jacobian"]) == pytest.approx(exact)
    projected = SquaredJacobianLoss(gamma=1.0, projections=2000)
    drawn = projected.prepare(linear, BATCH, torch.Generator().manual_seed(0))
    assert drawn.seed != BATCH.seed
    assert torch.equal(projected(linear, UNIFORM, drawn), projected(linear, UNIFORM, drawn))
    # the squared length of W^T v has a deviation of about its mean; 10,000 draws have a hundredth of it
    assert float(projected(linear, UNIFORM, drawn)) == pytest.approx(exact, rel=0.04)
    assert not torch.equal(projected(linear, UNIFORM, BATCH), projected(linear, UNIFORM, drawn))


@pytest.mark.parametrize("intermediate", get_args(Intermediate))
def test_bounds_of_a_linear_network(intermediate: Intermediate) -> None:
    """They are exact there: a logit moves by epsilon times its row's sum, a difference by that of its own row."""
    epsilon, logits = 0.01, linear(BATCH.images)
    batch = replace(BATCH, epsilon=epsilon)
    rows = torch.tensor([3.5, 6.0, 3.0])
    notes: dict[str, Tensor] = {}
    output = BoundLoss(gamma=1.0, quantity="output", intermediate=intermediate)(
        linear, UNIFORM, replace(batch, notes=notes)
    )
    assert float(output) == pytest.approx(-float((logits - epsilon * rows).mean()), abs=1e-5)
    assert float(notes["certified_difference"]) == pytest.approx(2 * epsilon * float(rows.mean()), abs=1e-5)
    margins = []
    for logit, label in zip(logits, BATCH.labels.tolist(), strict=True):
        apart = [(WEIGHT[label] - WEIGHT[k]).abs().sum() for k in range(3)]
        margins.append(min(logit[label] - logit[k] - epsilon * apart[k] for k in range(3) if k != label))
    margin = BoundLoss(gamma=1.0, intermediate=intermediate)(linear, UNIFORM, replace(batch, notes=notes))
    assert float(margin) == pytest.approx(-float(torch.stack(margins).mean()), abs=1e-5)
    assert float(notes["certified_bound"]) == pytest.approx(-float(margin))
    assert float(notes["certified_difference"]) == pytest.approx(2 * epsilon * float(rows.mean()), abs=1e-5)


def test_metrics_look_at_the_first_images_alone() -> None:
    changed = replace(BATCH, images=torch.cat([BATCH.images[:2], 1 - BATCH.images[2:]]), epsilon=0.01)
    clean = replace(BATCH, epsilon=0.01)
    for images, unchanged in ((2, True), (3, False)):
        loss = BoundLoss(images=images)
        assert torch.equal(loss(linear, UNIFORM, clean), loss(linear, UNIFORM, changed)) is unchanged


def test_the_radius_follows_the_difference_within_its_range() -> None:
    schedule = EpsilonSchedule(start=0.03, step=0.01, target=1.0, minimum=0.005, maximum=0.035)
    assert schedule.after(0.03, 1.0) == pytest.approx(0.02)
    assert schedule.after(0.02, 0.9) == pytest.approx(0.03)
    assert schedule.after(0.03, 0.0) == 0.035
    assert schedule.after(0.01, 5.0) == 0.005
    assert schedule.after(0.03, float("inf")) == pytest.approx(0.02)
    assert schedule.after(0.03, float("nan")) == pytest.approx(0.02)


def test_the_papers_settings() -> None:
    """4.2.2."""
    bound, jacobian = dsrna(), dsrna(pcdarts(), JacobianLoss())
    assert (bound.name, jacobian.name) == ("dsrna-bound", "dsrna-jacobian")
    for method, batch, rate, alpha in ((bound, 256, 0.1, 6e-4), (jacobian, 128, 0.025, 3e-4)):
        config = method.config
        assert (config.search_batch_size, config.search_lr, config.alpha_lr) == (batch, rate, alpha)
        assert (config.search_momentum, config.search_weight_decay) == (0.9, 3e-4)
        assert (config.alpha_betas, config.alpha_weight_decay, config.order) == ((0.5, 0.999), 3e-4, 2)
        assert [(stage.epochs, stage.layers, stage.channels) for stage in method.stages] == [(50, 8, 16)]
        assert (method.partial, method.edge_normalisation, method.nodes) == (4, True, 4)
    assert bound.upper == (Sum((BoundLoss(gamma=0.01, epsilon=EpsilonSchedule(start=0.03)), CrossEntropy())),)
    assert bound.epsilon == EpsilonSchedule(start=0.03)
    assert jacobian.epsilon is None
    assert dsrna(pdarts()).name == "dsrna-bound-pdarts"


def test_in_eval_mode_a_supernet_answers_each_image_by_itself_and_is_left_as_it_was() -> None:
    search = searching(tiny(darts()))
    search.levels.begin_epoch(0.1, 0.0, torch.Generator().manual_seed(0))
    supernet = search.levels.supernet
    supernet.cells[0].eval()
    modes = [part.training for part in supernet.modules()]
    buffers = {name: value.clone() for name, value in supernet.named_buffers()}
    forward = search.levels._forward(search.levels.architecture())
    images = torch.rand(4, 3, 8, 8)
    with eval_mode(forward) as network:
        together, alone = network(images), network(images[:1])
    torch.testing.assert_close(together[:1], alone)
    assert [part.training for part in supernet.modules()] == modes
    assert all(torch.equal(value, buffers[name]) for name, value in supernet.named_buffers())
    with pytest.raises(RuntimeError, match="here"), eval_mode(forward):
        raise RuntimeError("here")
    assert [part.training for part in supernet.modules()] == modes


METHODS: dict[str, Callable[[], Method]] = {
    "jacobian": lambda: tiny(dsrna(pcdarts(), JacobianLoss(images=4)), order=1),
    "jacobian, second order": lambda: tiny(dsrna(darts(), JacobianLoss(images=4))),
    "jacobian on pdarts": lambda: tiny(dsrna(pdarts(), JacobianLoss(images=2)), order=1),
    "bound": lambda: tiny(dsrna(pcdarts(), BoundLoss(images=2)), order=1),
    "bound, second order": lambda: tiny(dsrna(darts(), BoundLoss(images=2, quantity="output"))),
    "jacobian of constant share": lambda: tiny(dsrna(pcdarts(), JacobianLoss(images=4), 0.25), order=1),
    "projected jacobian": lambda: tiny(dsrna(darts(), SquaredJacobianLoss(images=4), combine="mgda"), order=1),
    "bound by mgda": lambda: tiny(dsrna(darts(), BoundLoss(images=2), combine="mgda"), order=1),
    "projected jacobian, second order": lambda: tiny(dsrna(darts(), SquaredJacobianLoss(images=4))),
    "perturbed": lambda: replace(tiny(darts()), perturbation=AlphaPerturbation()),
}


FURTHER = ("jacobian, second order", "projected jacobian, second order", "jacobian on pdarts", "bound, second order")


@pytest.mark.lengthy
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in FURTHER else name for name in METHODS]
)
@pytest.mark.slow
def test_continued_it_is_the_same_bit_for_bit(name: str) -> None:
    method = METHODS[name]()
    whole = searching(method)
    first = whole.run_epoch()
    kept = io.BytesIO()
    torch.save(whole.state(), kept)
    kept.seek(0)
    continued = searching(method)
    continued.restore(torch.load(kept, weights_only=True))
    assert continued.run_epoch() == whole.run_epoch()
    assert same(continued.state(), whole.state())
    assert searching(method, seed=1).run_epoch() != first


@pytest.mark.lengthy
def test_columns_tell_the_loss_and_the_metric_apart() -> None:
    row = searching(METHODS["bound"]()).run_epoch()
    assert row["upper_bound+loss"] == pytest.approx(row["upper_loss"] + row["upper_bound"], rel=1e-5)
    assert row["upper_bound"] == pytest.approx(-0.01 * row["certified_bound"], rel=1e-5)
    assert row["certified_difference"] > 0
    assert row["epsilon"] in (pytest.approx(0.0295), pytest.approx(0.0305))
    row = searching(METHODS["jacobian"]()).run_epoch()
    assert row["upper_jacobian"] == pytest.approx(0.01 * row["jacobian_norm"], rel=1e-5)


@pytest.mark.lengthy
def test_shares_of_the_metric_and_the_loss_follow_gamma_and_cost_the_path_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ten times the gamma is ten times the ratio of the two gradients; measuring it changes no bit of the search."""

    def ratio(gamma: float) -> float:
        row = searching(tiny(dsrna(pcdarts(), JacobianLoss(images=4, gamma=gamma)), order=1)).run_epoch()
        assert row["share_jacobian"] + row["share_loss"] == pytest.approx(1)
        return float(row["share_jacobian"] / row["share_loss"])

    assert ratio(0.1) == pytest.approx(10 * ratio(0.01), rel=1e-5)
    measured, bare = searching(METHODS["jacobian"]()), searching(METHODS["jacobian"]())
    measured.run_epoch()
    monkeypatch.setattr(Levels, "_measure_parts", lambda *arguments: None)
    assert "share_jacobian" not in bare.run_epoch()
    assert same(measured.state(), bare.state())


@pytest.mark.lengthy
def test_a_constant_share_of_the_metric_does_not_depend_on_gamma() -> None:
    rows = [
        searching(tiny(dsrna(pcdarts(), JacobianLoss(images=4, gamma=gamma), 0.25), order=1)).run_epoch()
        for gamma in (0.01, 100.0)
    ]
    for row in rows:
        assert row["share_jacobian"] == pytest.approx(0.25)
        assert row["share_loss"] == pytest.approx(0.75)
    for share in (0.0, 1.0, float("nan")):
        with pytest.raises(ConfigurationError, match=r"expected a metric's share of the step in \(0, 1\)"):
            dsrna(share=share)


@pytest.mark.lengthy
@pytest.mark.parametrize(
    "metric",
    [
        pytest.param(JacobianLoss(gamma=1e3, images=4), id="jacobian"),
        pytest.param(BoundLoss(gamma=1e3, images=4), id="bound", marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_a_metric_of_large_weight_improves_at_the_weights_as_they_are(metric: JacobianLoss | BoundLoss) -> None:
    """Eight steps of alpha alone, on one batch at one radius: -gamma R falls."""
    search = searching(tiny(dsrna(darts(), metric), alpha_lr=0.05, order=1))
    levels = search.levels
    levels.begin_epoch(0.1, 0.0, torch.Generator().manual_seed(0))
    below, above = next(search.batches())
    batch = replace(above, epsilon=0.002)
    values = []
    for _ in range(8):
        upper = levels.upper_gradients(below, batch)
        values.append(float(upper.losses[0]))
        sizes = [alpha.numel() for alpha in levels.alphas]
        for alpha, part in zip(levels.alphas, torch.split(upper.gradients[0], sizes), strict=True):
            alpha.grad = part.view_as(alpha)
        levels.adam.step()
    assert values[-1] < values[0] - 0.01 * abs(values[0])


@pytest.mark.lengthy
def test_the_gradient_of_the_bound_is_that_of_differences() -> None:
    """In its own direction; with slopes that do not jump the bound is continuous in alpha, with kinks."""
    search = searching(tiny(dsrna(darts(), BoundLoss(gamma=1.0, images=4, relaxation="same_slope")), order=1))
    levels = search.levels
    levels.begin_epoch(0.1, 0.0, torch.Generator().manual_seed(0))
    levels.supernet.double()
    levels.architecture.double()
    below, above = next(search.batches())
    batch = replace(above, images=above.images.double(), epsilon=0.002)
    gradient = levels.upper_gradients(below, batch).gradients[0]
    along, ends = gradient / gradient.norm(), []
    sizes = [alpha.numel() for alpha in levels.alphas]
    for step in (1e-5, -2e-5):
        with torch.no_grad():
            for alpha, part in zip(levels.alphas, torch.split(along, sizes), strict=True):
                alpha.add_(part.view_as(alpha), alpha=step)
        ends.append(float(levels.upper_gradients(below, batch).losses[0]))
    assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(float(gradient.norm()), rel=1e-3)


def test_the_worst_mixture_is_a_mixture_in_the_ball_that_raises_the_loss() -> None:
    """Of a loss that is linear in the shares the worst corner of the ball is known, and its rows sum to 1."""
    costs = (torch.arange(8.0) - 3.5).repeat(5, 1)
    even = Mixture(torch.full((5, 8), 1 / 8), torch.full((5, 8), 1 / 8), torch.ones(5), None)

    def loss(mixture: Mixture) -> Tensor:
        return (mixture.normal * costs).sum() - (mixture.reduce * costs).sum()

    found = worst_mixture(loss, even, 0.05, 7, torch.Generator().manual_seed(0))
    for shares in (found.normal, found.reduce):
        torch.testing.assert_close(shares.sum(dim=1), torch.ones(5))
        assert bool(((shares >= 0) & (shares <= 1)).all())
    assert found.normal_edges is even.normal_edges
    corner = torch.tensor([*[0.125 - 0.05] * 4, *[0.125 + 0.05] * 4]).repeat(5, 1)
    torch.testing.assert_close(found.normal, corner)
    torch.testing.assert_close(found.reduce, corner.flip(1))


def test_the_radius_of_alpha_grows_over_the_epochs() -> None:
    perturbation = AlphaPerturbation(epsilon=0.3)
    assert [perturbation.radius(epoch, 50) for epoch in (0, 25)] == [pytest.approx(0.03), pytest.approx(0.165)]
    assert AlphaPerturbation(epsilon=0.01).radius(0, 50) == 0.01


@pytest.mark.lengthy
def test_perturbing_alpha_changes_the_weights_and_not_the_step_of_alpha() -> None:
    plain, perturbed = (searching(method) for method in (tiny(darts()), METHODS["perturbed"]()))
    batches = next(plain.batches())
    for search, radius in ((plain, 0.0), (perturbed, 0.2)):
        search.levels.begin_epoch(0.1, 0.0, torch.Generator().manual_seed(0), radius)
    gradients = [search.levels.upper_gradients(*batches).gradients for search in (plain, perturbed)]
    assert torch.equal(*gradients)
    row, other = plain.run_epoch(), perturbed.run_epoch()
    assert other["train_loss"] > row["train_loss"]
    assert other["upper_loss"] == row["upper_loss"]  # alpha first, at equal weights


def test_metric_and_loss_are_combined_in_three_ways() -> None:
    metric = JacobianLoss()
    assert dsrna(metric=metric).upper == (Sum((metric, CrossEntropy())),)
    for method, combine in (
        (dsrna(metric=metric, combine="normalised"), FixedShares((0.5, 0.5))),
        (dsrna(metric=metric, share=0.25, combine="normalised"), FixedShares((0.25, 0.75))),
        (dsrna(metric=metric, combine="mgda"), Mgda(normalisation="loss", applied_to="normalised")),
    ):
        assert method.upper == (metric, CrossEntropy())
        assert method.combine == combine
    with pytest.raises(ConfigurationError, match="expected combine of gamma, normalised, mgda, got 'sum'"):
        dsrna(combine="sum")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="expected no share of the metric with mgda"):
        dsrna(share=0.5, combine="mgda")


@pytest.mark.lengthy
def test_steps_by_mgda_descend_the_metric_and_the_loss_alike() -> None:
    """Relative slopes of both along the step are at least its squared length; gamma changes no share."""
    search = searching(METHODS["projected jacobian"]())
    search.levels.begin_epoch(0.1, 0.0, torch.Generator().manual_seed(0))
    upper = search.levels.upper_gradients(*next(search.batches()))
    gradients = upper.gradients.double()
    weights = search.method.combine(gradients, upper.losses)
    step = weights @ gradients
    assert bool((gradients @ step / upper.losses >= step @ step * (1 - 1e-6)).all())
    assert float(step.norm()) > 0
    row = searching(METHODS["projected jacobian"]()).run_epoch()
    assert 0.01 < row["share_jacobian"] < 0.99
    assert row["share_jacobian"] + row["share_loss"] == pytest.approx(1)
    assert row["upper_jacobian"] == pytest.approx(0.01 * row["squared_jacobian"], rel=1e-5)
    metric = SquaredJacobianLoss(images=4, gamma=100.0)
    other = searching(tiny(dsrna(darts(), metric, combine="mgda"), order=1)).run_epoch()
    assert other["share_jacobian"] == pytest.approx(row["share_jacobian"], rel=1e-3)


@pytest.mark.parametrize("value", [2.0, 0.1, 1e-3, 0.0, -1e-9])
def test_by_mgda_a_bound_near_0_keeps_its_share(value: float) -> None:
    """Neither the size of a margin nor a number added to it says how much of a step is the metric's."""
    for angle in (math.pi / 2, 2.5):
        gradients = torch.tensor([[0.03, 0.0], [2 * math.cos(angle), 2 * math.sin(angle)]])
        weights = dsrna(combine="mgda").combine(gradients, torch.tensor([value, 2.0]))
        parts = weights[:, None] * gradients
        assert torch.linalg.vector_norm(parts, dim=1).tolist() == pytest.approx([0.5, 0.5])
        assert bool((gradients.double() @ parts.sum(dim=0) > 0).all())


def test_steps_by_mgda_descend_the_bound_and_the_loss_alike() -> None:
    """By as much, in lengths of their own gradients, along half of the sum of both directions."""
    search = searching(METHODS["bound by mgda"]())
    search.levels.begin_epoch(0.1, 0.0, torch.Generator().manual_seed(0))
    below, above = next(search.batches())
    upper = search.levels.upper_gradients(below, replace(above, epsilon=search.levels.epsilon))
    gradients = upper.gradients.double()
    step = search.method.combine(gradients, upper.losses) @ gradients
    slopes = gradients @ step / torch.linalg.vector_norm(gradients, dim=1)
    assert slopes.tolist() == pytest.approx([float(step @ step)] * 2)
    assert float(step.norm()) > 0
    assert search.run_epoch()["share_bound"] == pytest.approx(0.5)


def test_an_identity_names_what_is_new_and_nothing_else() -> None:
    """Searches that were begun before there was a perturbation go on."""
    assert "perturbation" not in darts().identity()
    assert METHODS["perturbed"]().identity()["perturbation"]["epsilon"] == 0.3
    told = dsrna().identity()["upper"]["bound+loss"]["parts"][0]
    assert told["epsilon"]["start"] == 0.03


@pytest.mark.parametrize(
    "make",
    [
        lambda: JacobianLoss(gamma=-1),
        lambda: SquaredJacobianLoss(projections=0),
        lambda: SquaredJacobianLoss(gamma=-1),
        lambda: JacobianLoss(norm="l1"),  # type: ignore[arg-type]
        lambda: BoundLoss(images=0),
        lambda: BoundLoss(quantity="both"),  # type: ignore[arg-type]
        lambda: BoundLoss(relaxation="none"),  # type: ignore[arg-type]
        lambda: BoundLoss(intermediate="none"),  # type: ignore[arg-type]
        lambda: EpsilonSchedule(start=0.2),
        lambda: EpsilonSchedule(target=0),
        lambda: AlphaPerturbation(epsilon=0),
        lambda: AlphaPerturbation(steps=0),
        lambda: replace(darts(2), perturbation=AlphaPerturbation()),
    ],
)
def test_senseless_settings_are_refused(make: Any) -> None:
    with pytest.raises(EvonasError):
        make()


def test_second_order_with_a_perturbed_alpha_says_why_not() -> None:
    with pytest.raises(ConfigurationError, match="expected order 1 with a perturbed alpha"):
        replace(darts(2), perturbation=AlphaPerturbation())
