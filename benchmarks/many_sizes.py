"""One search that delivers several cells beside as many single searches for networks of the same sizes.

    python benchmarks/many_sizes.py                                 # digits, minutes
    EVONAS_DATA=... python benchmarks/many_sizes.py --data cifar10 --images 800 --train-limit 2000 --eval-epochs 6

Both sides descend the validation loss and the expected size of the delivered network on the same supernet, for equally
many epochs each: one search with --preferences, and one search with `--size delivered` for each of the sizes that its
preference vectors point to. All cells found are trained alike, once each, and scored on the validation part. A row has
the cells of one side: sizes in thousands of parameters, errors, how many are not dominated, the hypervolume of (error,
share of the range of sizes) up to (1, 1), and seconds of the searches (processor time). Below: ratios, in the mean over
seeds. Ends with 1 unless one search has nine tenths of the single ones' hypervolume in half of their time.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from evonas.data import Augmentation, Dataset, DevicePart, load_data
from evonas.evaluation import Evaluator, TrainFromScratch
from evonas.executors import ignore
from evonas.gradient import (
    DeliveredCost,
    DeliveredShare,
    GradientSearch,
    Method,
    Mgda,
    SearchData,
    darts,
    e2rnas_v1,
    halves,
    with_preferences,
)
from evonas.networks.darts import Genotype
from evonas.objectives import CleanError
from evonas.search import hypervolume, non_dominated
from evonas.spaces import DartsSpace
from evonas.training import TrainingConfig
from evonas.types import arch_id

CPU = torch.device("cpu")


class Side(NamedTuple):
    """Results of the searches of one side with a seed."""

    volume: float
    seconds: float
    cells: int
    on_front: int


def compare(args: argparse.Namespace) -> bool:
    data = load_data(args.data, None, 0, args.train_limit, args.val_limit)
    space = DartsSpace(args.eval_channels, args.eval_layers, image_size=data.image_size)
    size = DeliveredShare(
        channels=args.eval_channels, layers=args.eval_layers, image_size=data.image_size, n_classes=data.n_classes
    )
    least, most = size.sizes
    shares = [(number + 1) / (args.preferences + 1) for number in range(args.preferences)]
    limits = [least + share * (most - least) for share in shares]
    base = small(darts(), args)
    several = with_preferences(base, size, args.preferences)
    singles = [single(base, limit, size) for limit in limits]
    print(
        f"{args.data}: {args.preferences} cells, searches of {args.epochs} epochs on {args.images} images, networks of "
        f"{1e3 * least:.1f} to {1e3 * most:.1f} thousand parameters trained for {args.eval_epochs} epochs",
        flush=True,
    )
    sides: dict[str, list[Side]] = {"one search": [], "single searches": []}
    for seed in range(args.seed, args.seed + args.seeds):
        for name, methods in (("one search", [several]), ("single searches", singles)):
            found, seconds = searched(methods, data, args, seed)
            side = scored(found, seconds, size, space, data, args, f"{name}, seed {seed}")
            sides[name].append(side)
    ones, others = sides.values()
    volume = sum(each.volume for each in ones) / sum(each.volume for each in others)
    seconds = sum(each.seconds for each in ones) / sum(each.seconds for each in others)
    holds = volume >= 0.9 and seconds <= 0.5
    words = "holds" if holds else "FAILS"
    print(f"one search over single searches: hypervolume x{volume:.2f}, seconds x{seconds:.2f}: {words}")
    return holds


def small(method: Method, args: argparse.Namespace) -> Method:
    stage = replace(method.stages[0], epochs=args.epochs, channels=args.channels, layers=args.layers)
    config = replace(method.config, search_batch_size=args.batch_size, alpha_lr=args.alpha_lr)
    return replace(method, stages=(stage,), config=config)


def single(base: Method, limit: float, size: DeliveredShare) -> Method:
    """A search for a network of a size, in millions: E2RNAS's first version with clean images below."""
    cost = DeliveredCost(
        limit=limit,
        channels=size.channels,
        layers=size.layers,
        image_size=size.image_size,
        n_classes=size.n_classes,
    )
    both = Mgda(normalisation="l2", applied_to="normalised")
    return e2rnas_v1(base, limit, adversarial=False, combine=both, sizes=(cost,))


def searched(
    methods: Sequence[Method], data: Dataset, args: argparse.Namespace, seed: int
) -> tuple[list[Genotype], float]:
    """The cells of all searches, and their seconds of processor time together."""
    part = DevicePart(data.train, CPU)
    below, above = halves(DevicePart.of(part.images[: args.images], part.labels[: args.images]), 0.5)
    images = SearchData(below, above, None, Augmentation(flip=data.flip), data.n_classes, data.normalization)
    started, found = time.process_time(), []
    for method in methods:
        search = GradientSearch(method, images, seed, CPU)
        while not search.done:
            search.run_epoch()
        found += search.genotypes
    return found, time.process_time() - started


def scored(
    found: Sequence[Genotype],
    seconds: float,
    size: DeliveredShare,
    space: DartsSpace,
    data: Dataset,
    args: argparse.Namespace,
    label: str,
) -> Side:
    """Train every cell once and measure the front; prints a row."""
    training = TrainingConfig(epochs=args.eval_epochs, batch_size=32, lr=0.05, precision="fp32")
    evaluate = Evaluator(TrainFromScratch(space, data, training), (CleanError(),), threads=1).make_evaluate(ignore)
    distinct = {arch_id(genome): genome for genome in (space.canonical(space.from_genotype(each)) for each in found)}
    (least, most), points, words = size.sizes, [], []
    for genome in sorted(distinct.values(), key=lambda each: space.cost(each, data.n_classes).params):
        objectives = evaluate(genome, 0).objectives
        points.append((objectives["clean_error"], (objectives["params"] / 1e6 - least) / (most - least)))
        words.append(f"{objectives['params'] / 1e3:.1f}k {100 * objectives['clean_error']:.1f}%")
    volume = hypervolume(points, (1.0, 1.0))
    side = Side(volume, seconds, len(points), len(non_dominated(points)))
    print(
        f"{label}: {', '.join(words)}; {side.on_front} of {side.cells} on the front, hypervolume {volume:.3f}, "
        f"{seconds:.0f} s of searching",
        flush=True,
    )
    return side


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--images", type=int, default=400, help="of the search, half at each level")
    parser.add_argument("--train-limit", type=int, default=800, help="training images of the cells found")
    parser.add_argument("--val-limit", type=int, default=400, help="images that they are scored on")
    parser.add_argument("--preferences", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--channels", type=int, default=4, help="of the supernet")
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--alpha-lr", type=float, default=0.02)
    parser.add_argument("--eval-channels", type=int, default=8)
    parser.add_argument("--eval-layers", type=int, default=3)
    parser.add_argument("--eval-epochs", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    return 0 if compare(args) else 1


if __name__ == "__main__":
    sys.exit(main())
