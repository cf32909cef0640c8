"""FGSM, BIM and PGD: by hand, against foolbox, against loops that are written out, and in every precision."""

import copy
import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its own dependencies, as it is imported
    import foolbox

from helpers import part_of, rng

from evonas.attacks import BIM, FGSM, PGD, inference_copy
from evonas.attacks.attack import check_inputs, check_logits, frozen, margins, toward
from evonas.attacks.losses import LOSSES
from evonas.data import load_data
from evonas.errors import ConfigurationError, DivergedError, UnknownNameError

Gradient = Callable[[nn.Module, Tensor, Tensor], Tensor]


class Digits(NamedTuple):
    """A network that gets most digits right, and digits of 8x8 pixels."""

    model: nn.Module
    images: Tensor
    """(250, 3, 8, 8)."""
    labels: Tensor


def pixels(part: Any) -> tuple[Tensor, Tensor]:
    """Digits at their own size, 8x8."""
    return torch.tensor(part.images[:, :, ::4, ::4]).float() / 255, torch.tensor(part.labels)


def fitted(seed: int = 0, width: int = 12) -> nn.Module:
    """Random filters under a linear layer that is fitted by ridge regression: trained without a step of training."""
    data = load_data("digits", train_limit=600)
    generator = rng(seed)
    convolution = nn.Conv2d(3, width, 3, stride=2, padding=1)
    with torch.no_grad():
        for parameter, scale in ((convolution.weight, 0.5), (convolution.bias, 0.2)):
            assert parameter is not None
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    features = nn.Sequential(convolution, nn.ReLU(), nn.Flatten())
    images, labels = pixels(data.train)
    with torch.no_grad():
        x = functional.pad(features(images), (0, 1), value=1.0).double()  # (600, 16 * width + 1)
        targets = functional.one_hot(labels, 10).double() * 2 - 1
        penalty = 100 * torch.eye(x.shape[1], dtype=torch.float64)
        solution = torch.linalg.solve(x.T @ x + penalty, x.T @ targets).float() * 4
    last = nn.Linear(16 * width, 10)
    last.load_state_dict({"weight": solution[:-1].T.contiguous(), "bias": solution[-1]})
    return nn.Sequential(features, last).eval()


@pytest.fixture(scope="module")
def digits() -> Digits:
    images, labels = pixels(load_data("digits").validation)
    model = fitted()
    assert float((model(images).argmax(dim=1) == labels).double().mean()) > 0.85
    return Digits(model, images, labels)


class Linear(nn.Module):
    """Two classes; the second one's logit is w x + b, the first one's is 0."""

    def __init__(self, weight: list[float], bias: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))
        self.bias = bias

    def forward(self, images: Tensor) -> Tensor:
        score = images.flatten(1) @ self.weight + self.bias
        return torch.stack([torch.zeros_like(score), score], dim=1)


class Counting(nn.Module):
    """Counts its calls."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.calls = model, 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        logits: Tensor = self.model(images)
        return logits


class Flat(nn.Module):
    """Equal logits everywhere: its gradient is 0, so that an attack stays where it starts."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, images: Tensor) -> Tensor:
        return (images.flatten(1).sum(dim=1, keepdim=True) * 0).expand(-1, self.classes)


ULP = 2**-23
"""Of float32 in [0.5, 1], twice: the sum of clean value and change is rounded, and so is the difference of two."""


# By hand: on a linear model the gradient has the signs of the weights everywhere.


def image(*values: float) -> Tensor:
    """One image of one pixel."""
    return torch.tensor(values).view(1, 3, 1, 1)


def test_fgsm_moves_each_pixel_by_epsilon_along_the_signs_of_the_weights() -> None:
    """Class 0 is true, so the score of class 1 is to grow; a weight of 0 moves nothing; [0, 1] is never left."""
    model, zero = Linear([2.0, -0.5, 0.0]), torch.tensor([0])
    found = FGSM(epsilon=0.1)(model, image(0.5, 0.5, 0.5), zero)
    torch.testing.assert_close(found, image(0.6, 0.4, 0.5), rtol=0, atol=ULP)
    assert float(found[0, 2]) == 0.5
    at_the_edge = FGSM(epsilon=0.1)(model, image(0.95, 0.05, 0.2), zero)
    assert torch.equal(at_the_edge, image(1.0, 0.0, 0.2))
    other_class = FGSM(epsilon=0.1)(model, image(0.5, 0.5, 0.5), torch.tensor([1]))
    torch.testing.assert_close(other_class, image(0.4, 0.6, 0.5), rtol=0, atol=ULP)
    toward_it = FGSM(epsilon=0.1, targeted=True)(model, image(0.5, 0.5, 0.5), torch.tensor([1]))
    assert torch.equal(toward_it, found)


def test_fgsm_in_l2_moves_the_image_by_epsilon_along_the_weights() -> None:
    found = FGSM(epsilon=0.5, norm="l2")(Linear([3.0, -4.0, 0.0]), image(0.5, 0.5, 0.5), torch.tensor([0]))
    torch.testing.assert_close(found, image(0.8, 0.1, 0.5), rtol=0, atol=2 * ULP)


@pytest.mark.parametrize(("steps", "moved"), [(1, 0.03), (2, 0.06), (3, 0.09), (4, 0.1), (9, 0.1)])
def test_steps_add_up_to_the_edge_of_the_ball(steps: int, moved: float) -> None:
    found = PGD(epsilon=0.1, step_size=0.03, steps=steps)(
        Linear([1.0, -1.0, 0.0]), image(0.5, 0.5, 0.5), torch.tensor([0])
    )
    torch.testing.assert_close(found, image(0.5 + moved, 0.5 - moved, 0.5), rtol=0, atol=steps * ULP)


def test_an_image_is_put_back_into_the_ball_and_then_into_the_range_of_pixels() -> None:
    """Two steps of 0.5 along (1, 1, 0) / sqrt 2 from (0.9, 0.5, 0.5), epsilon 0.5.

    After the first (1, 0.853553, 0.5). The second leads to a change of (0.453553, 0.707107), 0.840065 long, so it is
    scaled by 0.595192 to (0.269952, 0.420864), and then 1.169952 is clipped. The other way round the image would end
    at (0.998058, 0.990290).
    """
    attack = PGD(epsilon=0.5, step_size=0.5, steps=2, norm="l2")
    found = attack(Linear([1.0, 1.0, 0.0]), image(0.9, 0.5, 0.5), torch.tensor([0]))
    torch.testing.assert_close(found, image(1.0, 0.920864, 0.5), rtol=0, atol=1e-6)  # the numbers above have 6 digits


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("loss", ["cross_entropy", "margin"])
def test_where_the_gradient_is_zero_nothing_moves(norm: Any, loss: Any) -> None:
    images = torch.rand(3, 3, 4, 4, generator=rng())
    attack = PGD(norm=norm, loss=loss)
    assert torch.equal(attack(Flat(), images, torch.tensor([0, 1, 2])), images)


# Against foolbox, step by step the same.


ATTACKS: list[tuple[Any, Any]] = [
    (FGSM(epsilon=0.1), foolbox.attacks.LinfFastGradientAttack()),
    (FGSM(epsilon=0.8, norm="l2"), foolbox.attacks.L2FastGradientAttack()),
    (
        PGD(epsilon=0.1, step_size=0.03, steps=7),
        foolbox.attacks.LinfProjectedGradientDescentAttack(abs_stepsize=0.03, steps=7, random_start=False),
    ),
    (
        PGD(epsilon=0.8, step_size=0.3, steps=7, norm="l2"),
        foolbox.attacks.L2ProjectedGradientDescentAttack(abs_stepsize=0.3, steps=7, random_start=False),
    ),
    (
        BIM(epsilon=0.1, step_size=0.02, steps=6),
        foolbox.attacks.LinfBasicIterativeAttack(abs_stepsize=0.02, steps=6, random_start=False),
    ),
    (
        BIM(epsilon=0.8, step_size=0.2, steps=6, norm="l2"),
        foolbox.attacks.L2BasicIterativeAttack(abs_stepsize=0.2, steps=6, random_start=False),
    ),
]
IDS = [f"{type(ours).__name__}-{ours.norm}" for ours, _ in ATTACKS]


def by_foolbox(attack: Any, model: nn.Module, images: Tensor, criterion: Any, epsilon: float) -> Tensor:
    """Its last iterate."""
    with frozen(model):
        found: Tensor = attack(foolbox.PyTorchModel(model, bounds=(0, 1)), images, criterion, epsilons=epsilon)[1]
    return found


@pytest.mark.lengthy
@pytest.mark.parametrize(("ours", "theirs"), ATTACKS, ids=IDS)
def test_the_last_iterate_is_that_of_foolbox(ours: Any, theirs: Any, digits: Digits) -> None:
    model, images, labels = digits
    expected = by_foolbox(theirs, model, images, foolbox.criteria.Misclassification(labels), ours.epsilon)
    found = ours(model, images, labels)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    wrong = (model(found).argmax(dim=1) != labels).double().mean()
    assert 0.1 < float(wrong) < 1  # so strong that equality says something
    assert float((found - images).abs().max()) > 0.05


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [pair for pair in ATTACKS if not isinstance(pair[0], FGSM)],
    ids=[name for name in IDS if not name.startswith("FGSM")],
)
def test_targeted_attacks_are_those_of_foolbox(ours: Any, theirs: Any, digits: Digits) -> None:
    model, images, labels = digits
    wanted = (labels + 3) % 10
    expected = by_foolbox(theirs, model, images, foolbox.criteria.TargetedMisclassification(wanted), ours.epsilon)
    found = replace(ours, targeted=True)(model, images, wanted)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    before, after = ((model(each).argmax(dim=1) == wanted).double().mean() for each in (images, found))
    assert float(after) > float(before) + 0.05


@pytest.mark.lengthy
@pytest.mark.parametrize(
    ("ours", "norm"),
    [(PGD(epsilon=0.1, step_size=0.03, steps=7), "Linf"), (PGD(epsilon=0.8, step_size=0.3, steps=7, norm="l2"), "L2")],
)
def test_stopped_images_are_the_first_of_foolboxs_iterates_that_fool(ours: PGD, norm: str, digits: Digits) -> None:
    """The clean image is iterate 0; who is never fooled ends at the last."""
    model, images, labels = digits
    kind = getattr(foolbox.attacks, f"{norm}ProjectedGradientDescentAttack")
    criterion = foolbox.criteria.Misclassification(labels)
    iterates = [images] + [
        by_foolbox(
            kind(abs_stepsize=ours.step_size, steps=steps, random_start=False), model, images, criterion, ours.epsilon
        )
        for steps in range(1, ours.steps + 1)
    ]
    wrong = torch.stack([model(each).argmax(dim=1) != labels for each in iterates])  # (steps + 1, B)
    place = torch.where(wrong.any(dim=0), wrong.int().argmax(dim=0), ours.steps)
    assert len(place.unique()) >= 5  # they leave at many steps
    expected = torch.stack(iterates)[place, torch.arange(len(images))]
    found = replace(ours, stop_when_fooled=True)(model, images, labels)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert torch.equal(found[place == 0][wrong[0][place == 0]], images[place == 0][wrong[0][place == 0]])
    assert torch.equal(model(found).argmax(dim=1) != labels, wrong.any(dim=0))
    last = ours(model, images, labels)
    assert int((model(last).argmax(dim=1) != labels).sum()) <= int(wrong.any(dim=0).sum())


# Against loops that are written out.


def one_by_one(
    attack: Any,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    loss: Callable[[Tensor, Tensor, Tensor], Tensor],
    starts: Tensor,
) -> Tensor:
    """L-inf PGD of one image after another, no gradient shared; loss: (logits, label, clean image's logits)."""
    found = []
    for clean, label, start in zip(images, labels, starts, strict=True):
        x = start
        for step in range(attack.steps + 1):
            x = x.detach().requires_grad_()
            logits = model(x[None])[0]
            hit = int(logits.argmax()) == int(label)
            if step == attack.steps or (attack.stop_when_fooled and hit == attack.targeted):
                break
            (gradient,) = torch.autograd.grad(loss(logits, label, model(clean[None])[0].detach()), x)
            x = x + (-1 if attack.targeted else 1) * attack.step_size * gradient.sign()
            x = torch.minimum(torch.maximum(x, clean - attack.epsilon), clean + attack.epsilon).clamp(0, 1)
        found.append(x.detach())
    return torch.stack(found)


def by_margin(logits: Tensor, label: Tensor, clean: Tensor) -> Tensor:
    others = torch.cat([logits[: int(label)], logits[int(label) + 1 :]])
    return others.max() - logits[label]


def by_trades(logits: Tensor, label: Tensor, clean: Tensor) -> Tensor:
    p, q = clean.softmax(dim=0), logits.softmax(dim=0)
    return (p * (p.log() - q.log())).sum()


def by_cross_entropy(logits: Tensor, label: Tensor, clean: Tensor) -> Tensor:
    return logits.exp().sum().log() - logits[label]


@pytest.mark.lengthy
@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("stop", [False, True])
@pytest.mark.parametrize(("name", "loss"), [("margin", by_margin), ("cross_entropy", by_cross_entropy)])
def test_each_image_goes_its_own_way(name: Any, loss: Any, stop: bool, targeted: bool, digits: Digits) -> None:
    """In float64, where rounding moves no sign of a gradient that is not 0."""
    model, images, labels = fitted().double(), digits.images[:40].double(), digits.labels[:40]
    labels = (labels + 5) % 10 if targeted else labels
    attack = PGD(epsilon=0.1, step_size=0.03, steps=5, loss=name, stop_when_fooled=stop, targeted=targeted)
    expected = one_by_one(attack, model, images, labels, loss, starts=images)
    torch.testing.assert_close(attack(model, images, labels), expected, rtol=0, atol=1e-12)


def test_kl_is_the_inner_loop_of_trades(digits: Digits) -> None:
    """From the clean image plus noise of 0.001, up the divergence from the clean prediction, labels unused."""
    model, images, labels = fitted().double(), digits.images[:40].double(), digits.labels[:40]
    attack = PGD(epsilon=0.1, step_size=0.03, steps=5, start_deviation=0.001, loss="kl")
    starts = attack(Flat(), images, labels, rng(3))
    assert 0 < float((starts - images).abs().max()) < 0.006
    expected = one_by_one(attack, model, images, labels, by_trades, starts)
    torch.testing.assert_close(attack(model, images, labels, rng(3)), expected, rtol=0, atol=1e-12)
    assert torch.equal(
        attack(model, images, (labels + 1) % 10, rng(3)),
        attack(model, images, labels, rng(3)),
    )


def test_losses_by_hand() -> None:
    logits = torch.tensor([[2.0, 0.0, 1.0]])
    clean, label = torch.tensor([[0.0, 0.0, 0.0]]), torch.tensor([2])
    total = math.exp(2) + 1 + math.exp(1)
    third = 1 / 3
    expected = {
        "margin": 1.0,
        "cross_entropy": math.log(total) - 1,
        "kl": sum(third * (math.log(third) - math.log(math.exp(z) / total)) for z in (2, 0, 1)),
    }
    assert expected.keys() == LOSSES.keys()
    for name, value in expected.items():
        assert float(LOSSES[name](logits, label, clean)) == pytest.approx(value, abs=1e-6)
        half = LOSSES[name](logits.bfloat16(), label, clean.bfloat16())
        assert half.dtype == torch.float32
        assert float(half) == pytest.approx(value, abs=1e-6)  # these logits are exact in bfloat16


# Laws.


# Several numbers of steps in one pass.

PREFIXED: dict[str, PGD] = {
    "linf": PGD(epsilon=0.1, step_size=0.02),
    "l2": PGD(epsilon=1.0, step_size=0.2, norm="l2"),
    "bim": BIM(epsilon=0.1, step_size=0.02),
    "margin": PGD(epsilon=0.1, step_size=0.02, loss="margin"),
    "targeted": PGD(epsilon=0.1, step_size=0.02, targeted=True),
    "bf16": PGD(epsilon=0.1, step_size=0.02, precision="bf16"),
    "nothing": PGD(epsilon=0),
}


@pytest.mark.parametrize("kind", ["float32", "channels_last", "half"])
@pytest.mark.parametrize("name", PREFIXED)
def test_one_pass_gives_the_images_of_every_number_of_steps(name: str, kind: str, digits: Digits) -> None:
    """Bit for bit, in the order that they are asked for, and the model is called as often as by the longest alone."""
    attack, images, labels = PREFIXED[name], digits.images[:40], digits.labels[:40]
    model, calls = Counting(digits.model), (3, 1, 7, 3)
    if kind == "channels_last":
        images = images.contiguous(memory_format=torch.channels_last)
    if kind == "half":
        model, images = Counting(copy.deepcopy(digits.model).bfloat16()), images.bfloat16()
    alone = [replace(attack, steps=steps)(model, images, labels) for steps in calls]
    model.calls = 0
    together = attack.after(model, images, labels, calls)
    made = model.calls
    for one, other in zip(together, alone, strict=True):
        assert torch.equal(one, other)
        assert (one.dtype, one.stride(), one.requires_grad) == (images.dtype, images.stride(), False)
    assert len({each.numpy().tobytes() for each in map(torch.Tensor.float, alone)}) == (1 if name == "nothing" else 3)
    model.calls = 0
    replace(attack, steps=7)(model, images, labels)
    assert made == model.calls


@pytest.mark.parametrize(
    "changed", [{"random_start": True}, {"start_deviation": 0.01}, {"stop_when_fooled": True}], ids=str
)
def test_what_is_no_beginning_of_a_longer_attack_is_refused(changed: dict[str, Any], digits: Digits) -> None:
    attack = PGD(**changed)
    assert PGD().prefixed
    assert not attack.prefixed
    with pytest.raises(ConfigurationError, match="expected steps >= 1 of an attack from the clean image without stop"):
        attack.after(digits.model, digits.images, digits.labels, [1, 2])


@pytest.mark.parametrize("steps", [[], [0, 3], [-1]])
def test_numbers_of_steps_that_make_no_sense_are_refused(steps: list[int], digits: Digits) -> None:
    with pytest.raises(ConfigurationError, match=r"expected steps >= 1 .* got \["):
        PGD().after(digits.model, digits.images, digits.labels, steps)


@pytest.mark.lengthy
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("stop", [False, True])
def test_a_result_does_not_depend_on_the_rest_of_the_batch(norm: Any, stop: bool, digits: Digits) -> None:
    model, images, labels = fitted().double(), digits.images[:30].double(), digits.labels[:30]
    attack = PGD(epsilon=0.1 if norm == "linf" else 0.8, step_size=0.03, norm=norm, steps=6, stop_when_fooled=stop)
    together = attack(model, images, labels)
    alone = torch.cat([attack(model, images[i : i + 1], labels[i : i + 1]) for i in range(30)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)
    backwards = attack(model, images.flip(0), labels.flip(0)).flip(0)
    torch.testing.assert_close(together, backwards, rtol=0, atol=1e-12)


@pytest.mark.parametrize("stop", [False, True])
@pytest.mark.parametrize("start", [{"random_start": True}, {"start_deviation": 0.05}])
def test_restarts_are_never_worse_than_one(stop: bool, start: dict[str, Any], digits: Digits) -> None:
    """The first of five starts is the only one of one; who was fooled from there stays fooled."""
    model, images, labels = digits
    attack = PGD(epsilon=0.08, step_size=0.03, steps=3, stop_when_fooled=stop, **start)
    five = replace(attack, restarts=5)
    once, often = attack(model, images, labels, rng()), five(model, images, labels, rng())
    first, all_five = (model(found).argmax(dim=1) != labels for found in (once, often))
    assert bool((all_five | ~first).all())
    assert int(all_five.sum()) > int(first.sum())
    loss = functional.cross_entropy
    same = ~first & ~all_five
    before, after = (loss(model(found), labels, reduction="none")[same] for found in (once, often))
    assert bool((after >= before).all())  # of those never fooled, the largest loss is kept
    assert bool((after > before).any())


def test_restarts_of_a_targeted_attack_hit_more_often(digits: Digits) -> None:
    model, images, labels = digits
    wanted = (labels + 3) % 10
    attack = PGD(epsilon=0.15, step_size=0.05, steps=4, targeted=True, random_start=True)
    once, often = (replace(attack, restarts=n)(model, images, wanted, rng()) for n in (1, 5))
    first, all_five = (model(found).argmax(dim=1) == wanted for found in (once, often))
    assert bool((all_five | ~first).all())
    missed = ~all_five
    before, after = (functional.cross_entropy(model(x), wanted, reduction="none")[missed] for x in (once, often))
    assert bool((after <= before).all())
    assert bool((after < before).any())


@pytest.mark.lengthy
@pytest.mark.parametrize("attack", [FGSM, BIM, PGD])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_epsilon_zero_gives_the_clean_images_themselves(attack: Any, norm: Any, digits: Digits) -> None:
    for dtype in (torch.float32, torch.float16, torch.float64):
        images = digits.images[:5].to(dtype)
        found = attack(epsilon=0, norm=norm)(fitted().to(dtype), images, digits.labels[:5])
        assert torch.equal(found, images)
        assert found.data_ptr() != images.data_ptr()
    with pytest.raises(ConfigurationError, match=r"torch\.Generator"):  # asked for even then: settings decide
        attack(epsilon=0, norm=norm, random_start=True)(digits.model, digits.images[:5], digits.labels[:5])


def test_no_images_give_no_images(digits: Digits) -> None:
    none = PGD(random_start=True)(digits.model, digits.images[:0], digits.labels[:0], rng())
    assert none.shape == (0, 3, 8, 8)


# Random starts; on `Flat` the result is the start.


def assert_uniform(values: Tensor) -> None:
    """In [0, 1]; each of ten bins holds its share up to 5 standard deviations of a binomial count."""
    n = values.numel()
    assert float(values.min()) >= 0
    assert float(values.max()) <= 1
    counts = torch.histc(values.float(), bins=10, min=0, max=1)
    assert float((counts - n / 10).abs().max()) < 5 * math.sqrt(n * 0.1 * 0.9)


def test_random_starts_are_uniform_in_the_cube() -> None:
    images = torch.full((20, 3, 16, 16), 0.5)
    start = PGD(epsilon=0.1, random_start=True)(Flat(), images, torch.zeros(20, dtype=torch.int64), rng())
    assert float((start - images).abs().max()) <= 0.1 + ULP
    assert_uniform(((start - images) / 0.2 + 0.5).clamp(0, 1))  # rounding apart, as shown above
    assert not torch.equal(start[0], start[1])


def test_random_starts_are_uniform_in_the_ball() -> None:
    """In 6 dimensions: (length / epsilon)^6 is uniform, and no direction is preferred."""
    images = torch.full((4000, 3, 1, 2), 0.5)
    attack = PGD(epsilon=0.4, random_start=True, norm="l2")
    change = (attack(Flat(), images, torch.zeros(4000, dtype=torch.int64), rng()) - images).flatten(1)
    length = change.norm(dim=1)
    assert float(length.max()) <= 0.4 + 3 * ULP  # six roundings of half an ulp, added as squares
    assert_uniform((length / 0.4).clamp(max=1) ** 6)
    directions = change / length[:, None]
    deviation = math.sqrt(1 / 6 / 4000)  # of the mean of one coordinate of a unit vector
    assert float(directions.mean(dim=0).abs().max()) < 5 * deviation


def test_a_start_deviation_is_the_deviation_of_the_start() -> None:
    images = torch.full((20, 3, 16, 16), 0.5)
    labels = torch.zeros(20, dtype=torch.int64)
    noise = PGD(epsilon=0.4, start_deviation=0.01)(Flat(), images, labels, rng()) - images
    n = noise.numel()
    assert abs(float(noise.mean())) < 5 * 0.01 / math.sqrt(n)
    assert abs(float(noise.std()) - 0.01) < 5 * 0.01 / math.sqrt(2 * n)
    narrow = PGD(epsilon=0.01, start_deviation=0.01)(Flat(), images, labels, rng()) - images
    assert float(narrow.abs().max()) <= 0.01 + ULP
    torch.testing.assert_close(narrow, noise.clamp(-0.01, 0.01), rtol=0, atol=2 * ULP)


def test_starts_keep_to_the_range_of_pixels_and_follow_the_generator(digits: Digits) -> None:
    attack = PGD(epsilon=0.3, random_start=True, steps=1)
    found = [attack(Flat(), digits.images, digits.labels, rng(seed)) for seed in (0, 0, 1)]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert float(found[0].min()) == 0
    assert float(found[0].max()) == 1


# Precisions.


@pytest.mark.lengthy
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_half_precision_stays_in_the_ball(dtype: torch.dtype, norm: Any, digits: Digits) -> None:
    """Rounded toward the clean image: the ball is left by no more than the rounding of the float32 iterate."""
    model, images = fitted().to(dtype), digits.images[:100].to(dtype)
    for attack in (
        PGD(epsilon=0.05 if norm == "linf" else 0.5, step_size=0.02, norm=norm),
        FGSM(epsilon=0.05 if norm == "linf" else 0.5, norm=norm, random_start=True),
    ):
        found = attack(model, images, digits.labels[:100], rng())
        assert found.dtype == dtype
        change = (found.double() - images.double()).flatten(1)
        if norm == "linf":
            assert float(change.abs().max()) <= 0.05 + ULP
        else:
            assert float(change.norm(dim=1).max()) <= 0.5 * (1 + 1e-6)  # a length in float32 is right to 1e-7 each
        assert float(found.float().min()) >= 0
        assert float(found.float().max()) <= 1
        assert float(change.abs().max()) > 0.03


@pytest.mark.lengthy
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_images_that_were_stopped_are_fooled(dtype: torch.dtype, digits: Digits) -> None:
    """The image that is given back is the one that the model was asked about: the last iterate fools no more of them.

    Steps of about one neighbour in bfloat16, so that rounding decides.
    """
    model, images, labels = fitted().to(dtype), digits.images.to(dtype), digits.labels
    attack = PGD(epsilon=0.12, step_size=0.004, steps=40)
    last, stopped = (replace(attack, stop_when_fooled=stop)(model, images, labels) for stop in (False, True))
    by_last, by_any = (model(found).argmax(dim=1) != labels for found in (last, stopped))
    assert int(by_last.sum()) > 100
    assert bool((by_any | ~by_last).all())
    unfooled = torch.nonzero(~by_any).squeeze(1)
    assert torch.equal(stopped[unfooled], last[unfooled])  # they took every step


@pytest.mark.parametrize(("dtype", "neighbour"), [(torch.float16, 2**-11), (torch.bfloat16, 2**-8)])
@pytest.mark.parametrize(("stop", "moved"), [(False, 10), (True, 1)])
def test_steps_too_short_for_half_precision_add_up(
    dtype: torch.dtype, neighbour: float, stop: bool, moved: int
) -> None:
    """Forty steps of a quarter of the distance to the next value go ten of them; the first that shows fools."""
    clean = image(0.75, 0.75, 0.75).to(dtype)  # a tie, which is class 0
    attack = PGD(epsilon=10 * neighbour, step_size=neighbour / 4, steps=40, stop_when_fooled=stop)
    found = attack(Linear([1.0, -1.0, 0.0]).to(dtype), clean, torch.tensor([0]))
    assert torch.equal((found - clean).float(), image(moved, -moved, 0) * neighbour)  # powers of 2: all is exact


def test_float64_is_not_rounded(digits: Digits) -> None:
    model, images = fitted().double(), digits.images[:20].double() * 0.99 + 0.001
    found = FGSM(epsilon=0.1)(model, images, digits.labels[:20])
    assert found.dtype == torch.float64
    change = (found - images).abs()
    inside = (found > 0) & (found < 1) & (change > 0)
    assert int(inside.sum()) > 100
    assert float((change[inside] - 0.1).abs().max()) < 1e-15


@given(
    clean=st.floats(0, 1, width=16), changed=st.floats(0, 1, width=32), dtype=st.sampled_from(["float16", "bfloat16"])
)
@example(clean=0.0, changed=2**-149, dtype="bfloat16")
@example(clean=1.0, changed=1 - 2**-24, dtype="float16")
@example(clean=0.5, changed=0.5 + 2**-24, dtype="bfloat16")
def test_rounding_toward_the_clean_value(clean: float, changed: float, dtype: str) -> None:
    """The neighbour between both: never farther from the clean value, and the next one on would be.

    Distances are compared in float32, so they are known to half an ulp at 1, 2^-25.
    """
    kind = getattr(torch, dtype)
    before, after = torch.tensor([clean]).to(kind), torch.tensor([changed])
    rounded = toward(before, after)
    assert rounded.dtype == kind
    low, high = sorted((float(before), changed))
    assert low - 2**-25 <= float(rounded) <= high + 2**-25
    outward = torch.tensor([math.inf if changed > float(before) else -math.inf], dtype=kind)
    if changed != float(before):
        following = float(torch.nextafter(rounded, outward))
        assert float(rounded) == changed or not low <= following <= high


def test_bfloat16_gradients_find_the_same_error_to_half_a_point(digits: Digits) -> None:
    """Over 1,000 digits: half a point is 5 of them."""
    data = load_data("digits")
    parts = [pixels(part) for part in (data.test, data.validation, data.train)]
    images, labels = (torch.cat([part[i] for part in parts])[:1000] for i in (0, 1))
    model, wrong = digits.model, {}
    for precision in ("fp32", "bf16"):
        attack = PGD(epsilon=0.08, step_size=0.02, steps=10, stop_when_fooled=True, precision=precision)
        wrong[precision] = int((model(attack(model, images, labels)).argmax(dim=1) != labels).sum())
    assert 300 < wrong["fp32"] < 900
    assert abs(wrong["fp32"] - wrong["bf16"]) <= 5


@pytest.mark.lengthy
def test_what_bfloat16_calls_fooled_by_a_low_margin_is_asked_again() -> None:
    """Images that float32 gets right and bfloat16 wrong: without the second look each would be left as it is."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 48, bias=False), nn.Linear(48, 2)).eval()
    rounding, last = part_of(model, "1", nn.Linear), part_of(model, "2", nn.Linear)
    with torch.no_grad():
        rounding.weight.copy_(torch.eye(48))  # in bfloat16 this rounds the pixels
        last.weight.copy_(torch.randn(2, 48, generator=rng(1)))
    images = torch.rand(200_000, 3, 4, 4, generator=rng())
    labels = torch.ones(len(images), dtype=torch.int64)  # a tie goes to class 0
    with torch.no_grad():
        last.bias.sub_(model(images).mean(dim=0))  # many near ties
        exact, fast = model(images), inference_copy(model, "bf16")(images)
    split = (exact.argmax(dim=1) == 1) & (fast.argmax(dim=1) == 0) & (exact.abs().amax(dim=1) > 1)
    images, labels = images[split], labels[split]
    assert len(images) > 20
    attack = PGD(epsilon=0.1, step_size=0.02, stop_when_fooled=True, precision="bf16")
    found = attack(model, images, labels)
    assert bool((model(found).argmax(dim=1) != labels).all())


@pytest.mark.parametrize("stop", [False, True])
def test_bfloat16_gradients_of_float64_images(stop: bool, digits: Digits) -> None:
    images = digits.images[:20].double()
    attack = PGD(epsilon=0.1, step_size=0.03, precision="bf16", stop_when_fooled=stop)
    found = attack(fitted().double(), images, digits.labels[:20])
    assert found.dtype == torch.float64
    assert float((found - images).abs().max()) <= 0.1 + 1e-12


# What does not fit.


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        (PGD, {"steps": 0}, "steps >= 1, got 0.00784"),
        (PGD, {"step_size": 0.0}, "step_size > 0"),
        (BIM, {"step_size": math.inf}, "step_size > 0"),
        (PGD, {"step_size": math.nan}, "step_size > 0"),
        (FGSM, {"epsilon": -0.1}, "epsilon in [0, 1]"),
        (FGSM, {"norm": "l1"}, "expected norm linf or l2, got 'l1'"),
        (FGSM, {"precision": "fp16"}, "expected precision fp32 or bf16, got 'fp16'"),
        (PGD, {"restarts": 0, "random_start": True}, "restarts >= 1"),
        (PGD, {"restarts": 2}, "expected random_start or start_deviation with restarts"),
        (PGD, {"random_start": True, "start_deviation": 0.1}, "got both"),
        (PGD, {"start_deviation": -0.1}, "start_deviation >= 0"),
        (PGD, {"start_deviation": math.nan}, "start_deviation >= 0"),
        (PGD, {"loss": "kl"}, "its gradient at the clean image is 0"),
        (PGD, {"loss": "kl", "targeted": True, "random_start": True}, "expected loss kl untargeted"),
    ],
)
def test_settings_that_make_no_sense(kind: Any, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        kind(**settings)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_unknown_loss_lists_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="unknown attack loss 'hinge'; known: cross_entropy, kl, margin"):
        PGD(loss="hinge")  # type: ignore[arg-type]


def test_every_start_that_is_drawn_needs_a_generator(digits: Digits) -> None:
    for attack in (PGD(random_start=True), PGD(start_deviation=0.01)):
        with pytest.raises(ConfigurationError, match=r"expected a torch\.Generator for PGD's start, got None"):
            attack(digits.model, digits.images, digits.labels)


def test_networks_that_cannot_be_attacked(digits: Digits) -> None:
    images, labels = digits.images[:4], digits.labels[:4]
    with pytest.raises(DivergedError, match="not finite"):
        PGD()(nn.Sequential(digits.model, nn.Threshold(-math.inf, 0), Times(math.nan)), images, labels)
    with pytest.raises(ConfigurationError, match=r"expected labels below the 3 classes, got 9"):
        FGSM()(Flat(3), images, torch.tensor([0, 1, 2, 9]))
    with pytest.raises(ConfigurationError, match=r"expected \(4, K\) logits from the model, got \(4, 12, 4, 4\)"):
        FGSM()(next(digits.model.children())[0], images, labels)  # type: ignore[index]


class Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def test_margins_by_hand() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.0], [1.0, 1.0, 0.0], [0.0, 5.0, 1.0]])
    found = margins(logits.bfloat16(), torch.tensor([0, 1, 2]))
    assert found.dtype == torch.float32
    assert found.tolist() == [1.0, 0.0, -4.0]


def test_inputs_are_checked_before_anything_else() -> None:
    good = torch.rand(2, 3, 4, 4, generator=rng())
    labels = torch.tensor([0, 1])
    check_inputs(good, labels)
    check_inputs(good[:0], labels[:0])
    check_logits(torch.zeros(2, 2), labels)
    with pytest.raises(ConfigurationError, match=r"expected labels >= 0, got -1"):
        check_inputs(good, torch.tensor([0, -1]))
    with pytest.raises(ConfigurationError, match=r"a \(2, 3, 4, 4\) tensor of uint8; divide 8-bit images by 255"):
        check_inputs((good * 255).byte(), labels)
    with pytest.raises(ConfigurationError, match=r"expected labels as a \(2\,\) int64 tensor .* of int32"):
        check_inputs(good, labels.int())
    with pytest.raises(ConfigurationError, match=r"expected images in \[0, 1\], got values from nan to nan"):
        check_inputs(good * math.nan, labels)


def test_a_model_is_put_back_even_after_an_error() -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.Dropout())
    model[1].eval()
    model[0].weight.requires_grad_(False)
    with frozen(model) as inside:
        assert inside is model
        assert not any(module.training for module in model.modules())
        assert not any(parameter.requires_grad for parameter in model.parameters())
    with pytest.raises(ZeroDivisionError), frozen(model):
        raise ZeroDivisionError
    assert [module.training for module in model.modules()] == [True, True, False, True]
    assert [parameter.requires_grad for parameter in model.parameters()] == [False, True, True, True]
