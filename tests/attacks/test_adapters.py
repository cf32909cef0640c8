"""Carlini-Wagner, DeepFool and AutoAttack: closed forms on linear models, and the libraries asked directly."""

import importlib.util
import logging
import os
import random
import sys
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import rng
from torch import Tensor, nn

from evonas.attacks import Attack
from evonas.attacks.autoattack import VERSIONS, AutoAttack
from evonas.attacks.cw import CarliniWagnerL2
from evonas.attacks.deepfool import DeepFool
from evonas.attacks.foolbox_adapter import Float32Model, into_ball, library
from evonas.errors import ConfigurationError

pytestmark = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("foolbox", "pyautoattack"))),
    reason="without foolbox and pyautoattack: pip install 'evonas[audit]'",
)

SHAPE = (3, 4, 4)


class Linear(nn.Module):
    """Logits W (x - 1/2): by hand, every distance to a boundary is |margin| / length of a difference of two rows."""

    def __init__(self, n_classes: int, seed: int = 0, scale: float = 1.0) -> None:
        super().__init__()
        weight = torch.randn(n_classes, 48, generator=torch.Generator().manual_seed(seed))
        self.weight = nn.Parameter(scale * weight)
        self.asked = 0

    def forward(self, images: Tensor) -> Tensor:
        self.asked += 1
        return (images - 0.5).flatten(1) @ self.weight.T


def case(n_classes: int, n: int = 12) -> tuple[Linear, Tensor, Tensor]:
    """Images so near to the middle of [0, 1] that no attack meets its ends; the model gets all of them right."""
    model = Linear(n_classes)
    images = 0.5 + 0.02 * torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(1))
    return model, images, model(images).argmax(dim=1)


def gaps(model: Linear, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """(B, K) true logit minus each other one, and (B, K, 48) the rows' difference; the true class's gap is infinite."""
    logits = model(images)
    gap = logits.gather(1, labels[:, None]) - logits
    return gap.scatter(1, labels[:, None], torch.inf), model.weight[labels][:, None] - model.weight


def distances(model: Linear, images: Tensor, labels: Tensor, order: float) -> Tensor:
    """(B,) exact distance to the nearest boundary; `order` is that of the dual norm."""
    gap, difference = gaps(model, images, labels)
    lengths: Tensor = torch.linalg.vector_norm(difference, order, dim=2)
    return (gap / lengths.clamp(min=1e-9)).amin(dim=1).detach()


def changes(clean: Tensor, attacked: Tensor, order: float) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm((attacked - clean).flatten(1), order, dim=1)
    return lengths


class TestDeepFool:
    @pytest.mark.parametrize(("norm", "order", "dual"), [("l2", 2.0, 2.0), ("linf", torch.inf, 1.0)])
    def test_a_linear_model_takes_one_step_to_the_boundary(self, norm: Any, order: float, dual: float) -> None:
        """One step: (distance + 1e-4) (1 + overshoot), in float32."""
        model, images, labels = case(5)
        attacked = DeepFool(norm=norm, overshoot=0.1)(model, images, labels)
        assert (model(attacked).argmax(dim=1) != labels).all()
        expected = 1.1 * (distances(model, images, labels, dual) + 1e-4)
        assert torch.allclose(changes(images, attacked, order), expected, rtol=1e-4)

    def test_epsilon_bounds_it(self) -> None:
        """At the radius in the middle, the nearer half are fooled as without a bound, the others lie on the ball."""
        model, images, labels = case(5)
        free = DeepFool()(model, images, labels)
        lengths = changes(images, free, 2.0)
        epsilon = float(lengths.median()) + 1e-5
        bounded = DeepFool(epsilon=epsilon)(model, images, labels)
        near = lengths < epsilon
        assert torch.equal(bounded[near], free[near])
        assert torch.allclose(changes(images, bounded, 2.0)[~near], torch.tensor(epsilon), rtol=1e-5)
        assert (model(bounded).argmax(dim=1) != labels).tolist() == near.tolist()

    def test_too_few_steps_give_the_last_iterate(self) -> None:
        """A model whose logits are cubes needs several steps; one is a third of the way."""

        class Cube(Linear):
            def forward(self, images: Tensor) -> Tensor:
                return super().forward(images) ** 3

        model, images, labels = Cube(2), *case(2)[1:]
        one = DeepFool(steps=1)(model, images, labels)
        assert (model(one).argmax(dim=1) == labels).any()
        assert not torch.equal(one, images)
        assert (model(DeepFool()(model, images, labels)).argmax(dim=1) != labels).all()

    def test_candidates(self) -> None:
        """With two candidates it goes to the class of the second largest logit, near or not."""
        model, images, labels = case(10, n=100)
        second = model(images).topk(2).indices[:, 1]
        gap, difference = gaps(model, images, labels)
        rows = torch.arange(len(images))
        expected = 1.02 * (gap[rows, second] / difference[rows, second].norm(dim=1) + 1e-4)
        nearest = 1.02 * (distances(model, images, labels, 2.0) + 1e-4)
        assert (expected > 1.01 * nearest).any()
        two, all_of_them = DeepFool(candidates=2), DeepFool()
        assert torch.allclose(changes(images, two(model, images, labels), 2.0), expected, rtol=1e-3)
        assert torch.allclose(changes(images, all_of_them(model, images, labels), 2.0), nearest, rtol=1e-3)

    def test_it_does_not_set_logging_up(self) -> None:
        before = logging.root.handlers[:]
        logging.root.handlers[:] = []
        try:
            DeepFool(steps=1)(*case(3))
            assert logging.root.handlers == []
        finally:
            logging.root.handlers[:] = before


class TestCarliniWagner:
    ATTACK = CarliniWagnerL2(steps=200, binary_search_steps=5, initial_const=0.1)

    @pytest.mark.lengthy
    def test_it_finds_nearly_the_shortest_change_of_a_linear_model(self) -> None:
        """No change that fools is shorter than the distance; at a step of 0.01 the search ends within a tenth of it."""
        model, images, labels = case(3)
        attacked = self.ATTACK(model, images, labels)
        assert (model(attacked).argmax(dim=1) != labels).all()
        shortest = distances(model, images, labels, 2.0)
        got = changes(images, attacked, 2.0)
        assert (got >= shortest * (1 - 1e-4)).all()
        assert (got <= shortest * 1.1 + 0.005).all()

    @pytest.mark.lengthy
    def test_confidence_goes_further(self) -> None:
        model, images, labels = case(3)
        attacked = CarliniWagnerL2(steps=100, binary_search_steps=6, initial_const=0.1, confidence=0.5)(
            model, images, labels
        )
        gap, _ = gaps(model, attacked, labels)
        assert (gap.amin(dim=1) <= -0.5).all()

    def test_where_nothing_is_found_the_image_comes_back(self) -> None:
        """A tenth of the search for c leaves c at 1e-8, which no margin can outweigh."""
        model, images, labels = case(3)
        attacked = CarliniWagnerL2(steps=5, binary_search_steps=1, initial_const=1e-8)(model, images, labels)
        assert torch.equal(attacked, images)

    def test_it_is_foolbox_on_what_the_model_gets_right(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            foolbox = importlib.import_module("foolbox")
        model, images, labels = case(4)
        labels = labels.clone()
        labels[:3] = (labels[:3] + 1) % 4
        settings: dict[str, Any] = {"binary_search_steps": 5, "steps": 40, "initial_const": 0.1, "stepsize": 0.02}
        asked = foolbox.PyTorchModel(model.eval(), bounds=(0, 1), device="cpu")
        expected = foolbox.attacks.L2CarliniWagnerAttack(**settings).run(asked, images[3:], labels[3:])
        attacked = CarliniWagnerL2(**settings)(model, images, labels)
        assert torch.equal(attacked[:3], images[:3])
        assert torch.equal(attacked[3:], expected)


class TestAutoAttack:
    ONE = ("apgd-ce",)

    @pytest.mark.parametrize(("norm", "dual"), [("linf", 1.0), ("l2", 2.0)])
    def test_it_fools_exactly_where_a_linear_model_can_be_fooled(self, norm: Any, dual: float) -> None:
        """The distances are exact, so that the radius decides; no image is within 0.5% of it."""
        model, images, labels = case(2)
        exact = distances(model, images, labels, dual)
        epsilon = float(exact.median() * 1.01)
        assert ((exact / epsilon - 1).abs() > 5e-3).all()
        attacked = AutoAttack(epsilon=epsilon, norm=norm, attacks=self.ONE)(model, images, labels, rng())
        fooled = model(attacked).argmax(dim=1) != labels
        assert fooled.tolist() == (exact < epsilon).tolist()
        assert torch.equal(attacked[~fooled], images[~fooled])

    @pytest.mark.lengthy
    def test_each_attack_alone_fools_a_linear_model(self) -> None:
        model, images, labels = case(5, n=3)
        epsilon = 3 * float(distances(model, images, labels, 1.0).max())
        for name in sorted(set(VERSIONS["standard"] + VERSIONS["plus"])):
            standard = name in VERSIONS["standard"]
            attack = AutoAttack(epsilon=epsilon, version="standard" if standard else "plus", attacks=(name,))
            assert (model(attack(model, images, labels, rng())).argmax(dim=1) != labels).all(), name

    def test_its_generator_decides_and_no_other(self) -> None:
        model, images, labels = case(4)
        attack = AutoAttack(epsilon=0.1, attacks=("square",))
        states = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002 - what must not change
        first = attack(model, images, labels, rng())
        torch.manual_seed(5)
        assert torch.equal(attack(model, images, labels, rng()), first)
        assert not torch.equal(attack(model, images, labels, rng(1)), first)
        torch.set_rng_state(states[0])
        attack(model, images, labels, rng())
        assert torch.equal(torch.get_rng_state(), states[0])
        assert random.getstate() == states[1]
        np.testing.assert_equal(np.random.get_state(), states[2])  # noqa: NPY002
        with pytest.raises(ConfigurationError, match=r"torch\.Generator for AutoAttack, got None"):
            attack(model, images, labels)

    def test_one_generator_gives_other_seeds_in_turn(self) -> None:
        model, images, labels = case(4)
        attack, generator = AutoAttack(epsilon=0.1, attacks=("square",)), rng()
        assert not torch.equal(attack(model, images, labels, generator), attack(model, images, labels, generator))

    def test_a_tracer_stays(self) -> None:
        before = sys.gettrace()

        def tracer(*_: Any) -> None:
            return None

        try:
            sys.settrace(tracer)
            AutoAttack(attacks=self.ONE)(*case(4, n=1), rng())
            after = sys.gettrace()
        finally:
            sys.settrace(before)
        assert after is tracer

    def test_few_classes(self) -> None:
        """The targeted loss needs four; with fewer than ten there are fewer targets."""
        with pytest.raises(ConfigurationError, match=r"at least 4 classes for apgd-ce, apgd-t, fab-t, square, got 3"):
            AutoAttack()(*case(3), rng())
        model, images, labels = case(4, n=2)
        attack = AutoAttack(epsilon=1e-4, attacks=("apgd-t",))
        assert torch.equal(attack(model, images, labels, rng()), images)

    def test_small_images(self) -> None:
        """The square attack in L2 cannot do with fewer than 5 rows; the others can."""
        model, images, labels = case(10)
        with pytest.raises(ConfigurationError, match="images of at least 5x5 pixels for square in l2, got 4x4"):
            AutoAttack(norm="l2")(model, images, labels, rng())
        AutoAttack(norm="l2", attacks=self.ONE)(model, images, labels, rng())

    def test_it_says_nothing_on_the_screen(self, capfd: pytest.CaptureFixture[str]) -> None:
        AutoAttack(attacks=("apgd-ce", "apgd-t"))(*case(10, n=2), rng())
        assert capfd.readouterr() == ("", "")


@pytest.mark.lengthy
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(
    "attack",
    [
        DeepFool(),
        DeepFool(norm="linf", epsilon=0.25),
        AutoAttack(epsilon=0.25, attacks=("apgd-ce",)),
        TestCarliniWagner.ATTACK,
    ],
    ids=lambda attack: f"{attack.name}-{attack.norm}",
)
def test_other_precisions_fool_as_well(attack: Any, dtype: torch.dtype) -> None:
    """The libraries compute in float32 around the model; what the model saw is what comes back."""
    model, images, _ = case(5)
    model, images = model.to(dtype), images.to(dtype)
    labels = model(images).argmax(dim=1)
    attacked = attack(model, images, labels, rng())
    assert attacked.dtype == dtype
    assert float((model(attacked).argmax(dim=1) != labels).float().mean()) >= 0.9
    order = 2.0 if attack.norm == "l2" else torch.inf
    assert (changes(images.double(), attacked.double(), order) <= attack.radius + 1e-6).all()


@pytest.mark.parametrize("attack", [DeepFool(), CarliniWagnerL2(), AutoAttack()], ids=lambda attack: attack.name)
class TestWhatTheyShare:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_what_is_wrong_already_stays_bit_for_bit(self, attack: Any, dtype: torch.dtype) -> None:
        """In float64, too, although the libraries get float32."""
        model, images, labels = case(10)
        model, images = model.to(dtype), images.to(dtype) + 1e-12
        asked, wrong = model.asked, (labels + 1) % 10
        assert torch.equal(attack(model, images, wrong, rng()), images)
        assert model.asked == asked + 1

    def test_nothing_is_asked_where_there_is_nothing_to_do(self, attack: Any) -> None:
        model, images, labels = case(10)
        asked = model.asked
        assert torch.equal(replace(attack, epsilon=0)(model, images, labels, rng()), images)
        assert len(attack(model, images[:0], labels[:0], rng())) == 0
        assert model.asked == asked

    def test_without_the_library_it_says_what_to_install(self, attack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("foolbox", "pyautoattack"):
            monkeypatch.setitem(sys.modules, name, None)
        said = r"expected (foolbox|pyautoattack) .*; pip install 'evonas\[audit\]'$"
        with pytest.raises(ConfigurationError, match=said):
            attack(*case(10), rng())

    def test_labels_that_the_model_does_not_know(self, attack: Any) -> None:
        model, images, labels = case(4)
        with pytest.raises(ConfigurationError, match="labels below the 4 classes, got 4"):
            attack(model, images, labels + 4 * (labels == labels[0]) - labels * (labels == labels[0]), rng())

    def test_one_class(self, attack: Any) -> None:
        model, images, labels = case(1)
        with pytest.raises(ConfigurationError, match="at least 2 classes, got 1"):
            attack(model, images, labels, rng())

    @pytest.mark.lengthy
    def test_weights_in_channels_last(self, attack: Any) -> None:
        """Gradients then come in that layout, too, which the libraries do not expect."""
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 2), nn.Flatten())
        model = model.to(memory_format=torch.channels_last)
        images = torch.rand(2, *SHAPE).contiguous(memory_format=torch.channels_last)
        labels = model(images).argmax(dim=1)
        quick: dict[str, Attack] = {
            "autoattack": AutoAttack(norm="l2", attacks=("apgd-ce", "apgd-t", "fab-t")),
            "cw": CarliniWagnerL2(steps=10, binary_search_steps=2),
        }
        before = images.clone()
        attacked = quick.get(attack.name, attack)(model, images, labels, rng())
        assert attacked.shape == images.shape
        assert torch.equal(images, before)


def test_a_radius_in_levels_is_refused_with_the_scale() -> None:
    with pytest.raises(ConfigurationError, match=r"got 8: it is on the \[0, 1\] scale; 8/255\?"):
        DeepFool(norm="linf", epsilon=8)
    for kind in (DeepFool, CarliniWagnerL2):
        with pytest.raises(ConfigurationError, match=r"^expected epsilon <= 1,000, got 2000"):
            kind(epsilon=2000)


SENSELESS = {
    DeepFool: [
        {"norm": "l1"},
        {"steps": 0},
        {"candidates": 1},
        {"overshoot": -1},
        {"epsilon": -0.1},
        {"epsilon": float("inf")},
    ],
    CarliniWagnerL2: [
        {"epsilon": float("nan")},
        {"steps": 0},
        {"binary_search_steps": 0},
        {"stepsize": 0},
        {"confidence": -1},
        {"initial_const": 0},
    ],
    AutoAttack: [
        {"norm": "l1"},
        {"epsilon": float("inf")},
        {"version": "custom"},
        {"attacks": ()},
        {"attacks": ("apgd-dlr",)},
        {"batch_size": 0},
    ],
}


@pytest.mark.parametrize(
    ("kind", "settings"), [(kind, each) for kind, several in SENSELESS.items() for each in several]
)
def test_settings_that_make_no_sense(kind: Any, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"expected .*{next(iter(settings))}"):
        kind(**settings)


def test_into_ball() -> None:
    clean = torch.full((4, 1, 1, 2), 0.5)
    found = torch.tensor([[0.8, 0.9], [0.53, 0.54], [float("nan"), 0.5], [0.5, 1.7]]).view(4, 1, 1, 2)
    inside = into_ball(clean, found, "linf", 0.1)
    assert inside.view(4, 2).tolist() == pytest.approx(torch.tensor([[0.6, 0.6], [0.53, 0.54], [0.5, 0.5], [0.5, 0.6]]))
    l2 = into_ball(clean, found, "l2", 0.25)
    assert l2.view(4, 2).tolist() == pytest.approx(torch.tensor([[0.65, 0.7], [0.53, 0.54], [0.5, 0.5], [0.5, 0.75]]))
    free = into_ball(clean, found, "l2", float("inf"))
    assert free.view(4, 2).tolist() == pytest.approx(torch.tensor([[0.8, 0.9], [0.53, 0.54], [0.5, 0.5], [0.5, 1.0]]))


def test_a_library_cannot_reach_the_model_itself() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(48, 3))
    asked = Float32Model(model, torch.float32)
    assert list(asked.parameters()) == []
    assert list(asked.children()) == []
    asked.to(torch.float64).train()
    assert model[2].weight.dtype == torch.float32


def test_the_environment_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    for before in (None, "raise"):
        monkeypatch.delenv("GIT_PYTHON_REFRESH", raising=False)
        if before is not None:
            monkeypatch.setenv("GIT_PYTHON_REFRESH", before)
        library("foolbox")
        assert os.environ.get("GIT_PYTHON_REFRESH") == before
