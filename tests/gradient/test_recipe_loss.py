"""Weights of a supernet under a robust recipe: the recipe's own loss, prepared once, and nothing else changed."""

import copy
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import same
from torch import Tensor, nn

from evonas.data import Augmentation, DevicePart
from evonas.errors import ConfigurationError
from evonas.gradient import (
    METHODS,
    AdversarialLoss,
    AlphaPerturbation,
    CrossEntropy,
    ExpectedCost,
    GradientSearch,
    Method,
    Mixture,
    OodLoss,
    RecipeLoss,
    SearchData,
    Sum,
    darts,
    e2rnas_v1,
    e2rnas_v2,
    halves,
    pdarts,
    with_recipe,
)
from evonas.gradient.levels import Means
from evonas.gradient.losses import Batch
from evonas.gradient.recipe_loss import lower_of_epoch
from evonas.training import (
    RECIPES,
    AdversarialRecipe,
    FastAdversarial,
    Gaussian,
    PgdTraining,
    Recipe,
    Trades,
    TradesAwp,
)

PGD = PgdTraining(epsilon=0.1, step=0.05, steps=2)
TRADES = Trades(epsilon=0.1, step=0.05, steps=2)
AWP = TradesAwp(epsilon=0.1, step=0.05, steps=2, gamma=0.05, warmup=0.0)
ROBUST = [PGD, FastAdversarial(epsilon=0.1), TRADES, AWP, Gaussian()]
CLEAN = [replace(PGD, epsilon=0.0), FastAdversarial(epsilon=0.0), replace(TRADES, beta=0.0)]

GOLDEN = Path(__file__).parents[1] / "golden" / "identities.json"


def named(value: Any) -> str:
    return str(getattr(value, "name", value))


def tiny(method: Method, **config: Any) -> Method:
    """Two nodes, a few channels, two epochs of one step a stage."""
    stages = tuple(
        replace(stage, epochs=2, weights_only=min(stage.weights_only, 1), channels=4, layers=3)
        for stage in method.stages
    )
    changed = {"search_batch_size": 8, "alpha_lr": 0.05, **config}
    return replace(method, stages=stages, nodes=2, config=replace(method.config, **changed))


def images(n: int, seed: int) -> DevicePart:
    pixels = torch.randint(256, (n, 8, 8, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return DevicePart.of(pixels, torch.arange(n) % 3)


def searching(method: Method) -> GradientSearch:
    below, above = halves(images(16, 0), 0.5)
    data = SearchData(below, above, images(8, 1), Augmentation(padding=1), 3, ((0.5,) * 3, (0.25,) * 3))
    return GradientSearch(method, data, 0, torch.device("cpu"))


class AtMixture(nn.Module):
    """A supernet at a fixed mixture, as an ordinary network."""

    def __init__(self, supernet: nn.Module, mixture: Mixture) -> None:
        super().__init__()
        self.supernet, self.mixture = supernet, mixture

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.supernet(pixels, self.mixture)
        return logits


@pytest.mark.lengthy
@pytest.mark.parametrize("recipe", ROBUST, ids=named)
@pytest.mark.parametrize("ood", [False, True], ids=["alone", "beside OoD images"])
def test_a_step_of_the_weights_is_that_of_the_recipe_on_an_ordinary_network(
    recipe: AdversarialRecipe, ood: bool
) -> None:
    """Weights, running statistics and random numbers, bit for bit; modes and flags are as before."""
    base = tiny(darts())
    search = searching(with_recipe(replace(base, lower=Sum((CrossEntropy(), OodLoss()))) if ood else base, recipe))
    levels, (below, _) = search.levels, next(search.batches())
    levels.begin_epoch(0.05, 0.0, torch.Generator().manual_seed(7))
    supernet = copy.deepcopy(levels.supernet)
    network, drawn = AtMixture(supernet, levels.architecture()), torch.Generator().manual_seed(7)
    network.mixture = Mixture(network.mixture.normal.detach(), network.mixture.reduce.detach())
    config = search.method.config
    sgd = torch.optim.SGD(supernet.parameters(), 0.05, momentum=0.9, weight_decay=config.search_weight_decay)
    loss = recipe(network, below.images, below.labels, drawn)
    if ood:
        loss = loss + OodLoss()(network, torch.empty(0), below)
    loss.backward()
    nn.utils.clip_grad_norm_(supernet.parameters(), config.search_grad_clip)
    sgd.step()

    before = copy.deepcopy(levels.supernet.state_dict())
    assert torch.equal(levels.descend_weights(below)["train_loss"], loss.detach())
    after = levels.supernet.state_dict()
    assert same(after, supernet.state_dict())
    assert not same(after, before)
    assert same(levels._generator.get_state(), drawn.get_state())
    assert all(part.training for part in levels.supernet.modules())
    assert all(weight.requires_grad for weight in levels.weights)


@pytest.mark.lengthy
@pytest.mark.parametrize("recipe", CLEAN, ids=named)
@pytest.mark.parametrize(
    "method",
    [tiny(darts()), tiny(darts(2)), e2rnas_v2(tiny(darts()), ood_below=True)],
    ids=["first order", "second order", "e2rnas-v2"],
)
def test_without_an_attack_it_is_the_clean_search_bit_for_bit(method: Method, recipe: Recipe) -> None:
    plain, search = searching(method), searching(with_recipe(method, recipe))
    assert search.run_epoch() == plain.run_epoch()
    assert same(search.state(), plain.state())


@pytest.mark.slow
@pytest.mark.parametrize(
    "method",
    [
        with_recipe(tiny(darts()), PGD),
        with_recipe(tiny(darts(2)), TRADES),
        with_recipe(tiny(darts(2), hessian="exact"), TRADES),
        with_recipe(tiny(pdarts()), replace(AWP, warmup=0.6)),
        e2rnas_v2(with_recipe(tiny(darts(2), begin_with="weights"), FastAdversarial())),
        replace(with_recipe(tiny(darts()), AWP), perturbation=AlphaPerturbation(steps=1)),
    ],
    ids=["pgd_at", "trades, second order", "trades, exact", "trades_awp on pdarts", "e2rnas v2", "perturbed alpha"],
)
def test_continued_from_any_epoch_it_is_the_same_bit_for_bit(method: Method) -> None:
    whole = searching(method)
    while not whole.done:
        state = io.BytesIO()
        torch.save(whole.state(), state)
        state.seek(0)
        continued = searching(method)
        continued.restore(torch.load(state, weights_only=True))
        assert continued.run_epoch() == whole.run_epoch()
        assert same(continued.state(), whole.state())


class Counted(PgdTraining):
    """How often it attacked, and what the supernet's mixture was."""

    def __init__(self) -> None:
        super().__init__(epsilon=0.1, step=0.05, steps=1)
        object.__setattr__(self, "seen", [])

    def attack(self, network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        forward: Any = network.answers
        self.seen: list[Tensor]
        self.seen.append(forward.mixture.normal)
        return super().attack(network, images, labels, generator)


@pytest.fixture
def counted() -> Counted:
    return Counted()


@pytest.mark.lengthy
def test_second_order_attacks_once(counted: Counted) -> None:
    """For the step of the weights that is looked ahead to; its Hessian products are of that batch."""
    search = searching(with_recipe(tiny(darts(2)), counted))
    levels, (below, above) = search.levels, next(search.batches())
    levels.begin_epoch(0.05, 0.0, torch.Generator().manual_seed(7))
    found = levels.upper_gradients(below, above)
    assert len(counted.seen) == 1
    assert bool(found.gradients.isfinite().all())


@pytest.mark.lengthy
def test_a_perturbed_architecture_is_attacked_itself(counted: Counted) -> None:
    search = searching(replace(with_recipe(tiny(darts()), counted), perturbation=AlphaPerturbation(steps=1)))
    levels, (below, _) = search.levels, next(search.batches())
    levels.begin_epoch(0.05, 0.0, torch.Generator().manual_seed(7), perturbed=0.3)
    levels.descend_weights(below)
    (seen,) = counted.seen
    assert not torch.equal(seen, levels.architecture().normal)


@pytest.mark.lengthy
def test_a_step_under_a_recipe_is_not_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attacks draw random numbers, which a replayed step would repeat."""
    for method, replayed in ((tiny(darts()), True), (with_recipe(tiny(darts()), PGD), False)):
        search = searching(method)
        levels, (below, above) = search.levels, next(search.batches())
        levels.begin_epoch(0.05, 0.0, torch.Generator().manual_seed(7))
        called: list[str] = []
        monkeypatch.setattr(levels, "_step", lambda *given, state, called=called: called.append("replayed") or ())
        levels.descend(below, above, Means())
        assert bool(called) is replayed


def test_perturbed_weights_begin_with_their_epoch() -> None:
    """The third of 10 epochs of a stage with warmup 0.3 is the first one, by the count of Wu et al.'s code."""
    loss = Sum((RecipeLoss(recipe=replace(AWP, warmup=0.3)), OodLoss()))
    gammas = []
    for epoch in range(4):
        now = lower_of_epoch(loss, nn.Identity(), epoch, 10)
        assert isinstance(now, Sum)
        first, second = now.parts
        assert isinstance(first, RecipeLoss)
        assert isinstance(first.recipe, TradesAwp)
        assert second == OodLoss()
        gammas.append(first.recipe.gamma)
    assert gammas == [0.0, 0.0, 0.05, 0.05]


@pytest.mark.lengthy
def test_a_search_tells_the_recipe_which_epoch_begins() -> None:
    search = searching(with_recipe(tiny(darts()), replace(AWP, warmup=1.0)))
    gammas = []
    while not search.done:
        search.run_epoch()
        lower = search.levels.lower
        assert isinstance(lower, RecipeLoss)
        assert isinstance(lower.recipe, TradesAwp)
        gammas.append(lower.recipe.gamma)
    assert gammas == [0.0, 0.05]


def test_the_recipe_replaces_the_cross_entropy_of_e2rnas_or_its_attack() -> None:
    base, own = with_recipe(darts(), TRADES), RecipeLoss(recipe=TRADES)
    assert e2rnas_v1(base).lower == e2rnas_v1(base, adversarial=False).lower == own
    for below in (False, True):
        assert e2rnas_v2(base, adversarial_below=below).lower == Sum((own, OodLoss()))
    assert with_recipe(e2rnas_v2(darts()), TRADES) == e2rnas_v2(base)
    assert e2rnas_v1(darts()).lower == AdversarialLoss()
    assert e2rnas_v2(base).recipe == TRADES
    assert e2rnas_v2(darts()).recipe is None


@pytest.mark.parametrize("name", METHODS)
def test_identities_have_the_recipe_where_there_is_one(name: str) -> None:
    stored = json.loads(GOLDEN.read_text())[f"{name}/paper"]["identity"]["cells"][""]["method"]
    method = METHODS[name]()
    assert json.loads(json.dumps(method.identity())) == stored
    below = with_recipe(method, PGD).identity()["lower"]
    assert below == {
        "kind": "RecipeLoss",
        "recipe": {"name": "pgd_at", "epsilon": 0.1, "step": 0.05, "steps": 2},
    }
    found = [with_recipe(method, recipe).identity() for recipe in ROBUST]
    assert len({json.dumps(each) for each in found}) == len(ROBUST)


@pytest.mark.parametrize("name", ["cells", "crown_ibp", "ibp", "standard", "trades_yopo"])
def test_recipes_without_an_attack_and_a_loss_of_its_answers_are_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^expected a recipe of an attack and a loss, .*, got {name}$"):
        with_recipe(darts(), RECIPES[name])


def test_weights_that_a_loss_moves_are_not_stepped_through() -> None:
    message = "^expected order 1 with trades_awp, .*, darts has 2; take --order 1, or trades$"
    with pytest.raises(ConfigurationError, match=message):
        with_recipe(darts(2), TradesAwp())
    assert with_recipe(darts(1), TradesAwp()).recipe == TradesAwp()


@pytest.mark.parametrize("lower", [ExpectedCost(), Sum((CrossEntropy(), AdversarialLoss()))], ids=named)
def test_a_recipe_needs_one_cross_entropy_to_replace(lower: Any) -> None:
    with pytest.raises(ConfigurationError, match="expected one cross-entropy in the loss below"):
        with_recipe(replace(darts(), lower=lower), PGD)


def test_a_batch_that_is_not_attacked_is_refused() -> None:
    batch = Batch(torch.rand(2, 3, 4, 4), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="expected a batch that `prepare` has attacked"):
        RecipeLoss(recipe=PGD)(lambda pixels: pixels.flatten(1), torch.empty(0), batch)
