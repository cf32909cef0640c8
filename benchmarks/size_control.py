"""Sizes asked for and those of the networks that searches deliver: the papers' N-hat beside the derived cells.

    EVONAS_DATA=... python benchmarks/size_control.py --data cifar10           # 10 searches with either term
    EVONAS_DATA=... python benchmarks/size_control.py --data digits --version 2 --base pcdarts

Small searches of E2RNAS on real images, each with N-hat and with the expected size of the derived network, for the same
L and from the same beginning. A row has L; N-hat at the end, and the network of 36 channels and 20 cells that the cells
found there make; then, of the other search, the expected size, the derived network, and the one that is delivered.
Below: mean absolute distances of these networks from L, and their ratios. Ends with 1 where a delivered network is
further than 2% from its L.
"""

import argparse
import sys
from dataclasses import replace

import torch

from evonas.data import Augmentation, DevicePart, load_data
from evonas.data.out_of_distribution import load_ood_data
from evonas.gradient import (
    METHODS,
    DeliveredCost,
    ExpectedCost,
    GradientSearch,
    Method,
    Mgda,
    SearchData,
    e2rnas_v1,
    e2rnas_v2,
    halves,
)
from evonas.seeding import generator

CPU = torch.device("cpu")


def images(args: argparse.Namespace) -> SearchData:
    data = load_data(args.data, None, 0, args.images)
    below, above = halves(DevicePart(data.train, CPU), 0.5)
    ood = load_ood_data("noise", data, None, 0).limited(args.images, None, generator("benchmark", 0))
    augmentation = Augmentation(flip=data.flip)
    return SearchData(below, above, DevicePart(ood.train, CPU), augmentation, data.n_classes, data.normalization)


def searched(method: Method, args: argparse.Namespace, data: SearchData, seed: int) -> GradientSearch:
    """A small search to its end."""
    stages = tuple(
        replace(stage, epochs=args.epochs, channels=args.channels, layers=args.layers, weights_only=0)
        for stage in method.stages
    )
    config = replace(
        method.config, search_batch_size=args.batch_size, alpha_lr=args.alpha_lr, begin_with="weights", order=1
    )
    search = GradientSearch(replace(method, stages=stages, config=config), data, seed, CPU)
    while not search.done:
        search.run_epoch()
    return search


def sizes(args: argparse.Namespace, data: SearchData, number: int, limit: float) -> tuple[float, float, float]:
    """Two searches and a line on them; millions of parameters: with N-hat, derived, delivered."""
    base, size = METHODS[args.base](), DeliveredCost(limit=limit, n_classes=data.n_classes)
    if args.version == 1:
        adversarial = args.adversarial
        both = Mgda(normalisation="l2", applied_to="normalised")
        methods = e2rnas_v1(base, limit, adversarial), e2rnas_v1(base, limit, adversarial, combine=both, sizes=(size,))
    else:
        methods = e2rnas_v2(base, limit, 158 * limit), e2rnas_v2(base, limit, sizes=(size,))
    old, new = (searched(method, args, data, args.seed + number) for method in methods)
    n_hat = float(ExpectedCost().expected(old.history[-1].double()))
    of_n_hat, (expected, derived, delivered) = size.of(old.genotype), new.sizes(1.0)[0].values()
    changed = f"{size.changed(new.derived, new.genotype)} of {2 * len(new.genotype.normal)}"
    held = f"{expected:8.3f} {derived:10.3f} {delivered:10.3f} {changed:>11}"
    print(f"{limit:6.2f} | {n_hat:9.3f} {of_n_hat:13.3f} | {held}", flush=True)
    return of_n_hat, derived, delivered


def compare(args: argparse.Namespace, data: SearchData) -> bool:
    print(f"{args.searches} searches of E2RNAS v{args.version}, {args.base}, {args.images} images of {args.data}")
    print(f"{'':6} | {'with N-hat':^23} | {'with the derived cells':^42}")
    print("     L |     N-hat   its network | expected    derived  delivered  exchanged", flush=True)
    limits = [args.limits[number % len(args.limits)] for number in range(args.searches)]
    apart = []
    for number, limit in enumerate(limits):
        found = sizes(args, data, number, limit)
        apart.append([abs(each - limit) for each in found])
    of_n_hat, derived, delivered = (sum(column) / len(apart) for column in zip(*apart, strict=True))
    print(
        f"mean distance from L: {of_n_hat:.3f}M with N-hat, {derived:.3f}M of the derived cells, {delivered:.4f}M of "
        f"the delivered ones: ratios of {of_n_hat / derived:.1f} and {of_n_hat / delivered:.0f}"
    )
    worst = max(row[-1] / limit for row, limit in zip(apart, limits, strict=True))
    print(f"{'holds' if worst <= 0.02 else 'FAILS'}: delivered within 2% of L (the furthest {100 * worst:.2f}%)")
    return bool(worst <= 0.02)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--version", type=int, choices=(1, 2), default=1)
    parser.add_argument("--adversarial", action="store_true", help="adversarial training of weights in version 1")
    parser.add_argument("--base", choices=tuple(METHODS), default="darts")
    parser.add_argument("--limits", type=float, nargs="+", default=(1.7, 2.1, 2.5, 3.0, 3.4), help="L, in millions")
    parser.add_argument("--searches", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the first search; the next one has the next seed")
    parser.add_argument("--channels", type=int, default=4)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--alpha-lr", type=float, default=0.05)
    args = parser.parse_args()
    torch.set_num_threads(1)
    return 0 if compare(args, images(args)) else 1


if __name__ == "__main__":
    sys.exit(main())
