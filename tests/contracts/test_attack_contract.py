"""What every attack of the table must do; a new one is tested by its line there."""

import copy
import importlib.util
import math
import pickle
import random
from collections.abc import Callable, Iterator
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from helpers import part_of, rng
from torch import Tensor, nn

from evonas.attacks import ATTACKS, Attack
from evonas.data import Augmentation, DevicePart, load_data
from evonas.errors import ConfigurationError
from evonas.networks.blocks import Normalize
from evonas.training import TrainingConfig, standard, train

SETTINGS: dict[str, list[dict[str, Any]]] = {
    "autoattack": [{"attacks": ("apgd-ce",), "epsilon": 0.1}, {"attacks": ("apgd-ce",), "norm": "l2", "epsilon": 0.6}],
    "bim": [{"epsilon": 0.1, "step_size": 0.04, "steps": 3}],
    "cw": [
        {"steps": 20, "binary_search_steps": 3, "initial_const": 1.0},
        {"steps": 20, "binary_search_steps": 3, "initial_const": 1.0, "epsilon": 0.5},
    ],
    "deepfool": [{"steps": 10}, {"steps": 10, "epsilon": 0.5}, {"steps": 10, "norm": "linf", "epsilon": 0.05}],
    "fgsm": [{"epsilon": 0.1}, {"epsilon": 0.9, "norm": "l2"}],
    "pgd": [
        {"epsilon": 0.1, "step_size": 0.05, "steps": 3},
        {"epsilon": 0.1, "step_size": 0.05, "steps": 3, "stop_when_fooled": True, "precision": "bf16"},
        {"epsilon": 0.1, "step_size": 0.05, "steps": 3, "start_deviation": 0.01, "loss": "kl"},
        {"epsilon": 0.9, "step_size": 0.5, "steps": 3, "norm": "l2", "random_start": True, "restarts": 2},
    ],
    "pixel": [
        {"threshold": 9, "population": 90, "generations": 4},
        {"threshold": 9, "population": 90, "generations": 4, "precision": "bf16"},
    ],
    "square_search": [{"epsilon": 0.1, "queries": 60}],
    "threshold": [
        {"threshold": 60, "population": 30, "generations": 5},
        {"threshold": 80, "algorithm": "de", "population": 192, "generations": 2},
    ],
}
"""Small budgets, each enough to fool the model below; an attack that is not listed runs with its defaults."""

NEEDS = {"autoattack": "pyautoattack", "cw": "foolbox", "deepfool": "foolbox"}
MISSING = {name for name, library in NEEDS.items() if importlib.util.find_spec(library) is None}


def attacks() -> Iterator[Any]:
    for name in sorted(ATTACKS):
        missing = pytest.mark.skipif(name in MISSING, reason=f"without {NEEDS.get(name)}: pip install 'evonas[audit]'")
        for number, settings in enumerate(SETTINGS.get(name, [{}])):
            attack = ATTACKS[name](**settings)
            what = [str(value) for key, value in settings.items() if isinstance(value, str) and key != "loss"]
            yield pytest.param(attack, id="-".join([name, *what, str(number)]), marks=missing)


every_attack = pytest.mark.parametrize("attack", list(attacks()))


Wrong = Callable[[Tensor, Tensor], tuple[Any, Any]]
WRONG: list[Wrong] = [
    lambda images, labels: (images, labels + 10),
    lambda images, labels: (images, labels - 10),
    lambda images, labels: (images, labels.float()),
    lambda images, labels: (images, labels.int()),
    lambda images, labels: (images, labels[:-1]),
    lambda images, labels: (images, labels[:, None]),
    lambda images, labels: (images, labels.tolist()),
    lambda images, labels: (images * 255, labels),
    lambda images, labels: (images - 0.5, labels),
    lambda images, labels: (images / 0, labels),
    lambda images, labels: (images + math.nan, labels),
    lambda images, labels: ((images * 255).byte(), labels),
    lambda images, labels: (images[0], labels),
    lambda images, labels: (images.numpy(), labels),
    lambda images, labels: (images[:-1], labels),
    lambda images, labels: (images.to("meta"), labels),
]


ANSWERS: dict[str, Callable[[Tensor], Any]] = {
    "a tuple": lambda logits: (logits, logits),
    "a list": lambda logits: [logits],
    "a dictionary": lambda logits: {"logits": logits},
    "nothing": lambda logits: None,
    "an array": lambda logits: logits.detach().numpy(),
    "one dimension": lambda logits: logits.argmax(dim=1).float(),
    "three dimensions": lambda logits: logits[..., None],
    "a row too few": lambda logits: logits[1:],
    "one logit": lambda logits: logits[:, :1],
}
"""Answers of models that do not return (B, K) logits, K >= 2."""


class Answering(nn.Module):
    """A model that does something to its logits before it returns them."""

    def __init__(self, model: nn.Module, answer: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.model, self.answer = model, answer

    def forward(self, images: Tensor) -> Any:
        return self.answer(self.model(images))


class Looking(nn.Module):
    """A model that multiplies its images by a factor, in place, once it has looked at them."""

    def __init__(self, model: nn.Module, factor: int) -> None:
        super().__init__()
        self.model, self.factor = model, factor

    def forward(self, images: Tensor) -> Any:
        seen = images.clone()
        images.mul_(self.factor)
        return self.model(seen)


class Case(NamedTuple):
    """A trained model and real 8-bit images; it gets all but the last right."""

    model: nn.Module
    images: Tensor
    """(6, 3, 8, 8)."""
    labels: Tensor


def digits(n: int = 400) -> DevicePart:
    """Digits at their own size of 8x8."""
    part = DevicePart(load_data("digits", train_limit=n).train, torch.device("cpu"))
    part.images = part.images[:, ::4, ::4].contiguous()
    return part


@pytest.fixture(scope="module")
def trained() -> Case:
    part = digits()
    torch.manual_seed(0)
    model = nn.Sequential(
        Normalize((0.3,) * 3, (0.4,) * 3),
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Dropout(0.2),
        nn.Flatten(),
        nn.Linear(128, 10),
    )
    config = TrainingConfig(epochs=12, batch_size=20, lr=0.1, precision="fp32")
    train(model, part, Augmentation(padding=0), config, standard, torch.Generator().manual_seed(0))
    images = part.images.permute(0, 3, 1, 2).float().div(255).contiguous()
    right = torch.nonzero(model(images).argmax(dim=1) == part.labels).squeeze(1)[:6]
    assert len(right) == 6
    labels = part.labels[right].clone()
    labels[-1] = (labels[-1] + 1) % 10
    return Case(model, images[right], labels)


@pytest.fixture
def case(trained: Case) -> Case:
    """A copy that a test may change."""
    return Case(copy.deepcopy(trained.model), trained.images.clone(), trained.labels.clone())


def of_strength_zero(attack: Any) -> Any:
    names = {field.name for field in fields(attack)}
    (strength,) = names & {"epsilon", "threshold"}
    return replace(attack, **{strength: 0})


def right_or_refused(attack: Attack, model: nn.Module, case: Case) -> str:
    """The line with which an attack refuses another form of the case's model, or nothing: it attacks both alike."""
    try:
        attacked = attack(model, case.images, case.labels, rng())
    except ConfigurationError as error:
        return str(error)
    assert torch.equal(attacked, attack(case.model, case.images, case.labels, rng()))
    return ""


def assert_in_ball(attack: Attack, images: Tensor, attacked: Tensor) -> None:
    """In the ball and in [0, 1].

    A float32 value near 1 is known to 2^-24; the sum of clean value and change is rounded, and so is their difference
    inside an attack: 2^-23 for each value. Attacks by 8-bit levels round a level to the images' own dtype, twice.
    """
    assert (attacked.shape, attacked.dtype, attacked.device) == (images.shape, images.dtype, images.device)
    assert not attacked.requires_grad
    assert bool(((attacked >= 0) & (attacked <= 1)).all())
    by_levels = any(field.name == "threshold" for field in fields(attack))  # type: ignore[arg-type]
    each = max(2**-23, torch.finfo(images.dtype).eps if by_levels else 0.0)
    change = (attacked.double() - images.double()).flatten(1)
    if attack.norm == "linf":
        assert float(change.abs().amax()) <= attack.radius + each
    elif attack.norm == "l2":
        assert float(change.norm(dim=1).amax()) <= attack.radius + each * change.shape[1] ** 0.5
    else:
        assert attack.norm == "l0"
        assert int((attacked != images).any(dim=1).flatten(1).sum(dim=1).max()) <= attack.radius


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_its_name_and_its_ball(name: str) -> None:
    attack = ATTACKS[name]()
    assert attack.name == name
    assert attack.norm in ("l0", "l2", "linf")
    assert isinstance(attack.radius, float)
    assert attack.radius > 0
    assert of_strength_zero(attack).radius == 0


@every_attack
class TestAttack:
    @pytest.mark.lengthy
    def test_it_stays_in_its_ball_and_fools(self, attack: Any, case: Case) -> None:
        attacked = attack(case.model, case.images, case.labels, rng())
        assert_in_ball(attack, case.images, attacked)
        assert bool((case.model(attacked).argmax(dim=1) != case.labels)[:-1].any())

    @pytest.mark.lengthy
    def test_strength_zero_gives_a_copy_of_the_images(self, attack: Any, case: Case) -> None:
        attacked = of_strength_zero(attack)(case.model, case.images, case.labels, rng())
        assert torch.equal(attacked, case.images)
        assert attacked.data_ptr() != case.images.data_ptr()

    @pytest.mark.lengthy
    def test_the_model_is_left_as_it_was(self, attack: Any, case: Case) -> None:
        """Parts in train mode, a parameter that is frozen, one with a gradient; also where the attack fails."""
        model = case.model
        model.train()
        norm = part_of(model, "2", nn.BatchNorm2d).eval()
        part_of(model, "1", nn.Conv2d).weight.requires_grad_(False)
        norm.weight.grad = torch.ones(8)
        grads = [parameter.grad for parameter in model.parameters()]
        before = copy.deepcopy(model)
        places = [value.data_ptr() for value in model.state_dict(keep_vars=True).values()]

        attack(model, case.images, case.labels, rng())
        with pytest.raises(ConfigurationError):
            attack(model, case.images, case.labels + 10, rng())

        state = model.state_dict(keep_vars=True)
        assert [value.data_ptr() for value in state.values()] == places
        assert all(torch.equal(value, state[key]) for key, value in before.state_dict().items())
        assert [part.training for part in model.modules()] == [part.training for part in before.modules()]
        assert [p.requires_grad for p in model.parameters()] == [p.requires_grad for p in before.parameters()]
        assert all(p.grad is grad for p, grad in zip(model.parameters(), grads, strict=True))
        assert torch.equal(norm.weight.grad, torch.ones(8))
        assert not any(part._forward_hooks or part._backward_hooks for part in model.modules())

    @pytest.mark.lengthy
    def test_its_seed_decides_alone(self, attack: Any, case: Case) -> None:
        """Not the model's mode (it has dropout), and no global generator, which it leaves alone, too."""
        first = attack(case.model.eval(), case.images, case.labels, rng())
        torch.manual_seed(1)
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002 - the global one must not change
        states = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
        again = attack(case.model.train(), case.images, case.labels, rng())
        assert torch.equal(again, first)
        assert torch.equal(torch.get_rng_state(), states[0])
        assert random.getstate() == states[1]
        assert all(map(np.array_equal, np.random.get_state(), states[2]))  # noqa: NPY002
        assert_in_ball(attack, case.images, attack(case.model, case.images, case.labels, rng(1)))

    @pytest.mark.lengthy
    def test_without_a_generator_it_draws_nothing(self, attack: Any, case: Case) -> None:
        given = rng()
        with_one = attack(case.model, case.images, case.labels, given)
        if torch.equal(given.get_state(), rng().get_state()):
            assert torch.equal(attack(case.model, case.images, case.labels), with_one)
        else:
            with pytest.raises(ConfigurationError, match=r"^expected a torch\.Generator for .*, got None; pass"):
                attack(case.model, case.images, case.labels)

    @pytest.mark.lengthy
    def test_one_image_and_none(self, attack: Any, case: Case) -> None:
        one = attack(case.model, case.images[:1], case.labels[:1], rng())
        assert_in_ball(attack, case.images[:1], one)
        none = attack(case.model, case.images[:0], case.labels[:0], rng())
        assert none.shape == (0, 3, 8, 8)

    @pytest.mark.lengthy
    @pytest.mark.lengthy
    def test_images_that_are_all_wrong_already(self, attack: Any, case: Case) -> None:
        wrong = (case.labels[:-1] + 1) % 10
        assert_in_ball(attack, case.images[:-1], attack(case.model, case.images[:-1], wrong, rng()))

    @pytest.mark.parametrize("wrong", WRONG, ids=range(len(WRONG)))
    def test_wrong_input_is_one_clear_line(self, attack: Any, case: Case, wrong: Wrong) -> None:
        with pytest.raises(ConfigurationError, match=r"^expected .*, got ") as caught:
            attack(case.model, *wrong(case.images, case.labels), rng())
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
    def test_another_answer_than_logits_is_one_clear_line(
        self, attack: Any, case: Case, answer: Callable[[Tensor], Any]
    ) -> None:
        """The labels are 0, which a model of one logit gets right whatever happens."""
        with pytest.raises(ConfigurationError, match=r"^expected .*, got ") as caught:
            attack(Answering(case.model, answer), case.images, torch.zeros_like(case.labels), rng())
        assert "\n" not in str(caught.value)

    def test_a_function_is_one_clear_line(self, attack: Any, case: Case) -> None:
        with pytest.raises(ConfigurationError, match=r"^expected a torch\.nn\.Module as the model, got function; "):
            attack(lambda images: case.model(images), case.images, case.labels, rng())

    @pytest.mark.lengthy
    def test_a_model_may_change_its_images_in_place(self, attack: Any, case: Case) -> None:
        before = case.images.clone()
        kept, changed = (attack(Looking(case.model, each), case.images, case.labels, rng()) for each in (1, 0))
        assert torch.equal(changed, kept)
        assert torch.equal(case.images, before)

    @pytest.mark.lengthy
    def test_the_model_computes_in_the_float32_of_ieee(self, attack: Any, case: Case) -> None:
        chosen: list[str] = []

        def noted(logits: Tensor) -> Tensor:
            chosen.append(torch.get_float32_matmul_precision())
            return logits

        torch.set_float32_matmul_precision("medium")
        try:
            attack(Answering(case.model, noted), case.images, case.labels, rng())
            assert torch.get_float32_matmul_precision() == "medium"
        finally:
            torch.set_float32_matmul_precision("highest")
        assert {*chosen} == {"highest"}

    @pytest.mark.lengthy
    def test_detached_logits_are_attacked_as_others_or_one_clear_line(self, attack: Any, case: Case) -> None:
        refused = right_or_refused(attack, Answering(case.model, Tensor.detach), case)
        assert not refused or refused.startswith("expected logits that are differentiable by the images, got ")

    def test_images_of_another_type_than_the_model_are_one_clear_line(self, attack: Any, case: Case) -> None:
        with pytest.raises(ConfigurationError, match=r"^expected images of .* float32, got float64; pass images\.to\("):
            attack(case.model, case.images.double(), case.labels, rng())

    @pytest.mark.lengthy
    def test_double_precision(self, attack: Any, case: Case) -> None:
        model, images = case.model.double(), case.images.double()
        attacked = attack(model, images, case.labels, rng())
        assert_in_ball(attack, images, attacked)
        assert bool((model(attacked).argmax(dim=1) != case.labels)[:-1].any())

    @pytest.mark.lengthy
    def test_the_default_type_does_not_matter(self, attack: Any, case: Case) -> None:
        expected = attack(case.model, case.images, case.labels, rng())
        torch.set_default_dtype(torch.float64)
        try:
            attacked = attack(case.model, case.images, case.labels, rng())
        finally:
            torch.set_default_dtype(torch.float32)
        assert torch.equal(attacked, expected)

    @pytest.mark.lengthy
    def test_weights_made_in_inference_mode(self, attack: Any, case: Case) -> None:
        with torch.inference_mode():
            model = copy.deepcopy(case.model)
            for module in model.modules():
                for name, weight in module.named_parameters(recurse=False):
                    setattr(module, name, nn.Parameter(weight.clone()))
        refused = right_or_refused(attack, model, case)
        assert not refused or refused.startswith("expected weights made outside torch.inference_mode(), got ")

    @pytest.mark.lengthy
    def test_a_hook_on_the_model_is_part_of_it(self, attack: Any, case: Case) -> None:
        """It moves every logit to the next class."""
        hooked = copy.deepcopy(case.model)
        hooked.register_forward_hook(lambda model, inputs, logits: logits.roll(1, dims=1))
        labels = (case.labels + 1) % 10
        rolled = Answering(case.model, lambda logits: logits.roll(1, dims=1))
        attacked = attack(hooked, case.images, labels, rng())
        assert torch.equal(attacked, attack(rolled, case.images, labels, rng()))
        assert bool((hooked(attacked).argmax(dim=1) != labels)[:-1].any())

    @pytest.mark.lengthy
    @pytest.mark.filterwarnings("ignore:the fast copy of", "ignore:.*weight_norm.* is deprecated")
    def test_a_model_that_cannot_be_copied(self, attack: Any, case: Case) -> None:
        nn.utils.weight_norm(part_of(case.model, "7", nn.Linear))
        attacked = attack(case.model, case.images, case.labels, rng())
        assert_in_ball(attack, case.images, attacked)
        assert bool((case.model(attacked).argmax(dim=1) != case.labels)[:-1].any())

    @pytest.mark.lengthy
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision(self, attack: Any, case: Case, dtype: torch.dtype) -> None:
        model, images = case.model.to(dtype), case.images.to(dtype)
        attacked = attack(model, images, case.labels, rng())
        assert_in_ball(attack, images, attacked)
        assert {value.dtype for value in model.parameters()} == {dtype}
        assert bool((model(attacked).argmax(dim=1) != case.labels)[:-1].any())
        assert torch.equal(of_strength_zero(attack)(model, images, case.labels, rng()), images)

    @pytest.mark.lengthy
    def test_any_layout_is_read_and_none_is_written(self, attack: Any, case: Case) -> None:
        """Channels last, a view of a larger tensor, and one expanded from a single image; gradients asked for."""
        wide = torch.cat([case.images, case.images], dim=3)
        layouts = [
            (case.images.contiguous(memory_format=torch.channels_last).requires_grad_(), case.labels),
            (wide[..., 8:], case.labels.expand(2, -1)[1]),
            (case.images[:1].expand(3, -1, -1, -1), case.labels[:1].expand(3)),
        ]
        for images, labels in layouts:
            before = images.detach().clone(), labels.clone()
            attacked = attack(case.model, images, labels, rng())
            assert_in_ball(attack, images.detach(), attacked)
            assert attacked.stride() == torch.empty_like(images).stride()
            assert torch.equal(images, before[0])
            assert torch.equal(labels, before[1])
            assert images.grad is None

    @pytest.mark.lengthy
    def test_the_callers_gradient_mode_does_not_matter(self, attack: Any, case: Case) -> None:
        expected = attack(case.model, case.images, case.labels, rng())
        for mode in (torch.no_grad, torch.inference_mode):
            with mode():
                images, labels = case.images.clone(), case.labels.clone()
                attacked = attack(case.model, images, labels, rng())
            assert torch.equal(attacked, expected)

    def test_it_is_a_value_that_travels(self, attack: Any) -> None:
        assert pickle.loads(pickle.dumps(attack)) == attack == replace(attack)
        assert hash(attack) == hash(replace(attack))
        assert attack != of_strength_zero(attack)
        for field in fields(attack):
            with pytest.raises(FrozenInstanceError):
                setattr(attack, field.name, None)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    def test_cuda(self, attack: Any, case: Case) -> None:
        model, images, labels = case.model.cuda(), case.images.cuda(), case.labels.cuda()
        state = torch.cuda.get_rng_state()
        attacked = attack(model, images, labels, rng(device="cuda"))
        assert_in_ball(attack, images, attacked)
        assert bool((model(attacked).argmax(dim=1) != labels)[:-1].any())
        assert torch.equal(torch.cuda.get_rng_state(), state)
        assert torch.equal(of_strength_zero(attack)(model, images, labels, rng(device="cuda")), images)


@pytest.mark.parametrize("name", sorted(ATTACKS))
@pytest.mark.parametrize("strength", [-1, math.nan, math.inf])
def test_a_strength_that_makes_no_sense(name: str, strength: float) -> None:
    attack: Any = ATTACKS[name]()
    field = next(field.name for field in fields(attack) if field.name in ("epsilon", "threshold"))
    with pytest.raises(ConfigurationError, match=rf"^expected .*{field}.*, got ") as caught:
        ATTACKS[name](**{field: strength})
    assert "\n" not in str(caught.value)
