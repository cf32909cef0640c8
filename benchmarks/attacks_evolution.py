"""Pixel and threshold attacks against the adversarial robustness toolbox (ART): times and success side by side.

    python benchmarks/attacks.py evolution [--data cifar10] [--only 'pixel, th 1'] [--real-images 16]

Claim: at least 3 times ART's speed on the CPU, at the same budget, with a success that is no lower. One network of the
phase space is trained here on real images. `sure` is that network with 1,000 added to the logit of the true class:
it computes as much and is never fooled, so that every image costs its whole budget. `real` is the network itself.

Both sides get the same images, individuals and generations, run in turns in this process, and leave an image when it is
fooled; evaluations are counted, not assumed. What ART does otherwise, and what it gets:

- It minimises what the network gives for the true class: it gets a softmax behind the network. Its CMA-ES stops at
  once where all probabilities are 1: on the sure network it gets the logits. Its DE takes those for converged, since
  they are large, and keeps the softmax.
- Its CMA-ES always draws 4 + 3 ln(3072) = 28 individuals a generation, scores them one at a time and learns a full
  covariance; ours gets 28, too. It is seeded by the clock.
- Its DE draws max(1, 400 // genes) * genes individuals, 3,072 for the threshold attack, as ours does; it does not look
  whether its first population fools the network.
- Its predictions get the batch size that is fastest here, measured first.
"""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from art.attacks.evasion import PixelAttack as ArtPixel
from art.attacks.evasion import ThresholdAttack as ArtThreshold
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from evonas.attacks import PixelAttack, ThresholdAttack
from evonas.attacks.inference import Precision
from evonas.data import DeviceData, load_data
from evonas.networks.blocks import seeded
from evonas.spaces import NSGANET, PhaseSpace
from evonas.training import TrainingConfig, resolve_precision, standard, train

WANTED = 3.0
TURNS = 4
"""Parts of the images; each side runs once on each."""
PRECISIONS = "bf16 against fp32"
Ours = PixelAttack | ThresholdAttack


@dataclass(frozen=True, kw_only=True)
class EvolutionArgs:
    """Pixel and threshold attacks against ART."""

    data: str = "cifar10"
    only: str = ""
    """Part of a title: the other cases are left out."""
    sure_images: int = 2
    """Images of the network that is never fooled."""
    real_images: int = 16
    """Images of the trained network, all of which it gets right."""
    precision_images: int = 60
    """Images of the comparison of bf16 and fp32; ours alone."""
    generations: int = 100
    """Of the pixel attack on the network that is never fooled; other cases take a part of it, as they say."""
    train_images: int = 10000
    epochs: int = 4
    threads: int = 2
    seed: int = 0


class Sure(nn.Module):
    """The network, and 1,000 more for class 0."""

    bonus: Tensor

    def __init__(self, network: nn.Module, n_classes: int) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("bonus", 1000.0 * (torch.arange(n_classes) == 0))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        return logits + self.bonus


class Counted(PyTorchClassifier):  # type: ignore[misc]
    """ART's classifier, which counts what it predicts and has another batch size."""

    batch_size = 128
    evaluations = 0

    def predict(self, x: Any, **options: Any) -> Any:
        self.evaluations += len(x)
        return super().predict(x, batch_size=self.batch_size, **options)


@dataclass
class Outcome:
    """What one side did."""

    seconds: float
    cpu_seconds: float
    """Of all threads: steadier than `seconds` where other programs run."""
    success: float
    """Share of images that are fooled, by the network itself."""
    evaluations: int


class Clock:
    """Runs from when it is made."""

    def __init__(self) -> None:
        self.started, self.cpu_started = time.perf_counter(), time.process_time()

    @torch.no_grad()
    def stop(self, network: nn.Module, found: Tensor, labels: Tensor, evaluations: int) -> Outcome:
        seconds, cpu_seconds = time.perf_counter() - self.started, time.process_time() - self.cpu_started
        fooled = network(found).argmax(dim=1) != labels
        return Outcome(seconds, cpu_seconds, float(fooled.float().mean()), evaluations)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One attack of both sides."""

    title: str
    ours: Ours
    art: type
    es: int
    """ART's evolution strategy: 0 is CMA-ES, 1 is DE."""

    def with_art(self, classifier: Counted, network: nn.Module, images: Tensor, labels: Tensor) -> Outcome:
        th, rounds = self.ours.threshold, self.ours.generations
        attack = self.art(classifier, th=th, es=self.es, max_iter=rounds, verbose=False)
        classifier.evaluations = 0
        clock = Clock()
        found = torch.from_numpy(attack.generate(images.numpy(), labels.numpy()))
        return clock.stop(network, found, labels, classifier.evaluations)

    def with_ours(self, network: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Outcome:
        clock = Clock()
        result = self.ours.run(network, images, labels, torch.Generator().manual_seed(seed))
        return clock.stop(network, result.images, labels, int(result.evaluations.sum()))


def trained(args: EvolutionArgs) -> tuple[nn.Module, Tensor, Tensor, int]:
    """A network of the phase space; images of the adversarial part that it gets right, with their labels."""
    data = load_data(args.data, seed=args.seed, train_limit=args.train_images)
    on_device = DeviceData(data, torch.device("cpu"))
    space, genome = PhaseSpace(), PhaseSpace.from_lists(NSGANET)
    network = seeded(lambda: space.build(genome, data.n_classes, normalization=data.normalization), args.seed)
    precision, _ = resolve_precision("auto", on_device.device)
    config = TrainingConfig(epochs=args.epochs, batch_size=64, lr=0.05, precision=precision)
    rng = torch.Generator().manual_seed(args.seed)
    train(network, on_device.train, on_device.augmentation, config, standard, rng)
    network = network.to(memory_format=torch.contiguous_format)
    images = torch.from_numpy(data.adversarial.images[:1000]).float() / 255
    labels = torch.from_numpy(data.adversarial.labels[:1000])
    with torch.no_grad():
        right = network(images).argmax(dim=1) == labels
    print(f"{args.data}: {float(right.float().mean()):.1%} of 1,000 images right, {args.threads} threads", flush=True)
    return network, images[right], labels[right], data.n_classes


def classifier_of(network: nn.Module, n_classes: int, es: int, image: Tensor) -> Counted:
    """ART's view of a network, with the fastest of a few batch sizes for 400 images."""
    shape = tuple(image.shape)
    last = nn.Identity() if isinstance(network, Sure) and es == 0 else nn.Softmax(dim=1)
    classifier = Counted(
        nn.Sequential(network, last).eval(),
        loss=nn.CrossEntropyLoss(),
        input_shape=shape,
        nb_classes=n_classes,
        clip_values=(0, 1),
        device_type="cpu",
    )
    population = np.repeat(image.numpy()[None], 400, axis=0)
    seconds = {}
    for size in (32, 64, 128, 256, 400):
        classifier.batch_size = size
        seconds[size] = min(spent(lambda: classifier.predict(population)) for _ in range(3))
    classifier.batch_size = min(seconds, key=lambda size: seconds[size])
    return classifier


def spent(run: Callable[[], Any]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def compare(case: Case, network: nn.Module, n_classes: int, images: Tensor, labels: Tensor, seed: int) -> bool:
    """Print both sides of a case, run in turns on parts of the images; whether the claim holds."""
    classifier = classifier_of(network, n_classes, case.es, images[0])
    sides: dict[str, list[Outcome]] = {"ART": [], "evonas fp32": [], "evonas bf16": []}
    parts = torch.split(torch.arange(len(images)), max(1, len(images) // TURNS))
    for turn, rows in enumerate(parts):
        some, classes = images[rows], labels[rows]
        for name in sides if turn % 2 == 0 else reversed(sides):
            if name == "ART":
                done = case.with_art(classifier, network, some, classes)
            else:
                precision: Precision = "bf16" if name.endswith("bf16") else "fp32"
                ours = replace(case, ours=replace(case.ours, precision=precision))
                done = ours.with_ours(network, some, classes, seed)
            sides[name].append(done)
    print(f"\n{case.title}, {len(images)} images; ART predicts {classifier.batch_size} at a time")
    sizes = [len(each) for each in parts]
    art, *others = [summary(name, done, sides["ART"], sizes) for name, done in sides.items()]
    noise = 2 * (art.success * (1 - art.success) * 2 / len(images)) ** 0.5  # two standard errors of a difference
    best = max(others, key=lambda row: row.ratio)
    holds = best.ratio >= WANTED and all(row.success >= art.success - noise for row in others)
    print(
        f"  {'holds' if holds else 'fails'}: {best.name} has {best.ratio:.2f} times ART's speed, wanted {WANTED}; "
        f"success may be {noise:.1%} lower by chance",
        flush=True,
    )
    return holds


class Row(NamedTuple):
    """One side of a case over all parts."""

    name: str
    success: float
    ratio: float
    """Times ART's speed by the wall clock."""


def summary(name: str, done: list[Outcome], theirs: list[Outcome], sizes: list[int]) -> Row:
    """Print and return one side."""
    seconds, evaluations = sum(each.seconds for each in done), sum(each.evaluations for each in done)
    ratio = sum(each.seconds for each in theirs) / seconds
    by_cpu = sum(each.cpu_seconds for each in theirs) / sum(each.cpu_seconds for each in done)
    ratios = [art.seconds / ours.seconds for art, ours in zip(theirs, done, strict=True)]
    success = sum(each.success * size for each, size in zip(done, sizes, strict=True)) / sum(sizes)
    print(
        f"  {name:12s} {seconds:7.1f} s   {evaluations:7d} evaluations of {1000 * seconds / evaluations:6.3f} ms"
        f"   success {success:6.1%}   {ratio:6.2f} times ART's speed ({min(ratios):.2f} to {max(ratios):.2f};"
        f" by CPU time {by_cpu:.2f})"
    )
    return Row(name, success, ratio)


def cases(args: EvolutionArgs) -> list[tuple[str, Case]]:
    """(network, case)."""
    full, some = args.generations, max(1, args.generations // 5)

    def pixel(network: str, th: int, rounds: int) -> tuple[str, Case]:
        attack = PixelAttack(threshold=th, population=400, generations=rounds)
        title = f"pixel, th {th}, DE with 400 individuals, {rounds} generations, {network} network"
        return network, Case(title=title, ours=attack, art=ArtPixel, es=1)

    def threshold(network: str, th: int, algorithm: Literal["cma", "de"], rounds: int) -> tuple[str, Case]:
        population = 28 if algorithm == "cma" else 400
        attack = ThresholdAttack(threshold=th, algorithm=algorithm, population=population, generations=rounds)
        title = f"threshold, th {th}, {algorithm}, {rounds} generations, {network} network"
        return network, Case(title=title, ours=attack, art=ArtThreshold, es=int(algorithm == "de"))

    return [
        pixel("sure", 1, full),
        pixel("real", 1, some),
        pixel("real", 5, some),
        threshold("sure", 1, "cma", some),
        threshold("real", 10, "cma", some),
        threshold("sure", 1, "de", 3),
    ]


def compare_precisions(network: nn.Module, images: Tensor, labels: Tensor, seed: int) -> None:
    """Success of ours in fp32 and bf16, each with the model's own confirmation."""
    print(f"\n{PRECISIONS} on {len(images)} images, 400 individuals, 10 generations")
    for title, attack in (
        ("pixel, th 1", PixelAttack(threshold=1, generations=10)),
        ("pixel, th 5", PixelAttack(threshold=5, generations=10)),
        ("threshold, th 5", ThresholdAttack(threshold=5, generations=10)),
    ):
        line = f"  {title:16s}"
        for precision in ("fp32", "bf16"):
            case = Case(title=title, ours=replace(attack, precision=precision), art=object, es=0)
            done = case.with_ours(network, images, labels, seed)
            line += f"   {precision} {done.success:6.1%} in {done.seconds:6.1f} s, {done.evaluations} evaluations"
        print(line, flush=True)


def run_evolution(args: EvolutionArgs) -> int:
    """Every case; 0 where all claims hold."""
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore", module="cma")  # ART hands it arrays of one value
    warnings.filterwarnings("ignore", module="art")  # and divides by a spread of 0
    network, images, labels, n_classes = trained(args)
    np.random.seed(args.seed)  # noqa: NPY002 - the generator that ART's DE draws from
    holds = True
    for which, case in cases(args):
        if args.only not in case.title:
            continue
        if which == "real":
            some, classes = images[: args.real_images], labels[: args.real_images]
            holds &= compare(case, network, n_classes, some, classes, args.seed)
        else:
            some = images[: args.sure_images]
            classes = torch.zeros(len(some), dtype=torch.int64)
            holds &= compare(case, Sure(network, n_classes).eval(), n_classes, some, classes, args.seed)
    if args.only in PRECISIONS:
        compare_precisions(network, images[: args.precision_images], labels[: args.precision_images], args.seed)
    return int(not holds)
