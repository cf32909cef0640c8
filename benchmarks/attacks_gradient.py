"""PGD-10 against foolbox: the same network, images and steps, run in turns; times and errors side by side.

    python benchmarks/attacks.py gradient [--data cifar10] [--images 500] [--rounds 5]

The network is trained here, on real images. Two cases: an epsilon so small that nobody is fooled, with
`stop_when_fooled` off, so that every image takes every step; and an epsilon at which about 70% of the images are wrong,
with it on. foolbox gets the network in eval mode, as its own documentation has it, and once more with parameters that
ask for no gradients. Ours computes gradients in bf16 on a folded copy, and in fp32 on the network itself.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import foolbox
import torch
from torch import Tensor, nn

from evonas.attacks import PGD
from evonas.attacks.inference import Precision
from evonas.data import DeviceData, batches, load_data
from evonas.networks.blocks import seeded
from evonas.spaces import PhaseSpace
from evonas.training import TrainingConfig, resolve_precision, standard, train

STEPS = 10


@dataclass(frozen=True, kw_only=True)
class GradientArgs:
    """PGD against foolbox."""

    data: str = "cifar10"
    images: int = 500
    """Validation images that are attacked."""
    batch_size: int = 250
    rounds: int = 5
    """Each side runs so often; ratios are medians over rounds."""
    train_images: int = 10000
    epochs: int = 5
    threads: int = 2
    seed: int = 0


def trained(args: GradientArgs) -> tuple[nn.Module, list[tuple[Tensor, Tensor]]]:
    """A network of the phase space, trained; and batches of validation images."""
    data = DeviceData(
        load_data(args.data, seed=args.seed, train_limit=args.train_images, val_limit=args.images), torch.device("cpu")
    )
    space = PhaseSpace()
    genome = space.designs()["residual"]
    network = seeded(lambda: space.build(genome, data.n_classes, normalization=data.normalization), args.seed)
    precision, _ = resolve_precision("auto", data.device)
    config = TrainingConfig(epochs=args.epochs, batch_size=64, lr=0.05, precision=precision)
    train(network, data.train, data.augmentation, config, standard, torch.Generator().manual_seed(args.seed))
    plain = network.to(memory_format=torch.contiguous_format)
    return plain, [(images.contiguous(), labels) for images, labels in batches(data.validation, args.batch_size)]


@torch.no_grad()
def error(network: nn.Module, attacked: list[Tensor], part: list[tuple[Tensor, Tensor]]) -> float:
    """Share of the attacked images that the network gets wrong, in float32."""
    wrong = sum(int((network(x).argmax(1) != labels).sum()) for x, (_, labels) in zip(attacked, part, strict=True))
    return wrong / sum(len(labels) for _, labels in part)


def with_foolbox(network: nn.Module, epsilon: float, step: float) -> Callable[[Tensor, Tensor], Tensor]:
    model = foolbox.PyTorchModel(network, bounds=(0, 1))
    attack = foolbox.attacks.LinfPGD(abs_stepsize=step, steps=STEPS, random_start=False)

    def run(images: Tensor, labels: Tensor) -> Tensor:
        found: Tensor = attack(model, images, foolbox.criteria.Misclassification(labels), epsilons=epsilon)[1]
        return found

    return run


def with_foolbox_frozen(network: nn.Module, epsilon: float, step: float) -> Callable[[Tensor, Tensor], Tensor]:
    attack = with_foolbox(network, epsilon, step)

    def run(images: Tensor, labels: Tensor) -> Tensor:
        network.requires_grad_(False)
        try:
            return attack(images, labels)
        finally:
            network.requires_grad_(True)

    return run


def with_ours(
    network: nn.Module, epsilon: float, step: float, precision: Precision, stop: bool
) -> Callable[[Tensor, Tensor], Tensor]:
    attack = PGD(epsilon=epsilon, step_size=step, steps=STEPS, precision=precision, stop_when_fooled=stop)
    return lambda images, labels: attack(network, images, labels)


def epsilon_for(network: nn.Module, part: list[tuple[Tensor, Tensor]], wanted: float) -> float:
    """An epsilon at which foolbox's error is about `wanted`, by bisection."""
    low, high = 0.0, 8 / 255
    for _ in range(5):
        middle = (low + high) / 2
        run = with_foolbox(network, middle, middle / 8)
        if error(network, [run(*each) for each in part], part) < wanted:
            low = middle
        else:
            high = middle
    return high


def case(
    network: nn.Module, part: list[tuple[Tensor, Tensor]], epsilon: float, stop: bool, rounds: int, claim: float
) -> bool:
    """Print a table of times, ratios and errors; whether bf16 is `claim` times as fast with the same error."""
    step = epsilon / 8
    sides = {
        "foolbox": with_foolbox(network, epsilon, step),
        "foolbox, frozen parameters": with_foolbox_frozen(network, epsilon, step),
        "evonas fp32": with_ours(network, epsilon, step, "fp32", stop),
        "evonas bf16": with_ours(network, epsilon, step, "bf16", stop),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    errors: dict[str, float] = {}
    for each in range(rounds):
        order = list(sides) if each % 2 == 0 else list(reversed(sides))
        for name in order:
            started = time.perf_counter()
            attacked = [sides[name](images, labels) for images, labels in part]
            seconds[name].append(time.perf_counter() - started)
            errors[name] = error(network, attacked, part)
    for name in sides:
        ratios = [a / b for a, b in zip(seconds["foolbox"], seconds[name], strict=True)]
        print(
            f"  {name:28s} {median(seconds[name]):7.2f} s   error {errors[name]:7.2%}   "
            f"{errors[name] - errors['foolbox']:+7.2%}   {median(ratios):5.2f} times foolbox's speed "
            f"({min(ratios):.2f} to {max(ratios):.2f})"
        )
    ratio = median(a / b for a, b in zip(seconds["foolbox"], seconds["evonas bf16"], strict=True))
    holds = ratio >= claim and abs(errors["evonas bf16"] - errors["foolbox"]) <= 0.005
    verdict = "holds" if holds else "DOES NOT HOLD"
    print(f"  claim, {claim:g} times foolbox's speed with its error to 0.5 points: {verdict}")
    return holds


def run_gradient(args: GradientArgs) -> int:
    """Both cases; 1 where a claim does not hold."""
    torch.set_num_threads(args.threads)
    network, part = trained(args)
    clean = error(network, [images for images, _ in part], part)
    total = sum(len(labels) for _, labels in part)
    print(f"{args.data}, {total} images, clean error {clean:.2%}, {args.threads} threads, {args.rounds} rounds")
    with torch.no_grad():
        right = [network(images).argmax(1) == labels for images, labels in part]
    kept = [(images[ok], labels[ok]) for (images, labels), ok in zip(part, right, strict=True)]
    print("nobody is fooled: images that the network gets right, epsilon 0.01/255, every image takes every step")
    first = case(network, kept, 0.01 / 255, stop=False, rounds=args.rounds, claim=3)
    epsilon = epsilon_for(network, part, 0.7)
    print(f"about 70% are wrong: epsilon {epsilon * 255:.2f}/255, steps of epsilon / 8, evonas with stop_when_fooled")
    second = case(network, part, epsilon, stop=True, rounds=args.rounds, claim=6)
    return 0 if first and second else 1
