"""E2RNAS on real images: where the expected parameters go, and which ways of weighting objectives descend them all.

    EVONAS_DATA=... python benchmarks/e2rnas.py limits --data cifar10    # N-hat against L, both versions
    EVONAS_DATA=... python benchmarks/e2rnas.py descent --data cifar10   # slopes of five objectives along each step

limits: v1 with L below N-hat lowers it; with L above it the architecture's path is that of the validation loss alone,
bit for bit; v2 moves N-hat toward L from both sides. Ends with 1 where any of this does not hold.
descent: at several points of a search, the slope of each objective along the steps of MGDA in its modes and of equal
weights; negative is descent. Ends with 1 where a mode that is sure to descend does not.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from evonas.data import Augmentation, DevicePart, load_data
from evonas.data.out_of_distribution import load_others, resolve_others
from evonas.gradient import (
    ExpectedCost,
    FixedWeights,
    GradientSearch,
    Method,
    Mgda,
    SearchData,
    darts,
    e2rnas_v1,
    e2rnas_v2,
    halves,
)
from evonas.seeding import generator

CPU = torch.device("cpu")


def images(args: argparse.Namespace) -> SearchData:
    data = load_data(args.data, None, args.seed, args.images)
    name, _ = resolve_others("auto", data.name)
    others = load_others(name, data, None, args.seed).limited(args.images, None, generator("benchmark", args.seed))
    below, above = halves(DevicePart(data.train, CPU), 0.5)
    print(f"{args.images} images of {data.name}, others: {name}; {args.channels} channels, {args.layers} cells")
    return SearchData(
        below, above, DevicePart(others.train, CPU), Augmentation(flip=data.flip), data.n_classes, data.normalization
    )


def small(method: Method, args: argparse.Namespace) -> Method:
    stages = tuple(
        replace(stage, epochs=args.epochs, channels=args.channels, layers=args.layers) for stage in method.stages
    )
    config = replace(
        method.config, search_batch_size=args.batch_size, alpha_lr=args.alpha_lr, begin_with="weights", order=args.order
    )
    return replace(method, stages=stages, config=config)


def path(method: Method, data: SearchData, args: argparse.Namespace) -> Tensor:
    """(epochs, 2, edges, 8) probabilities."""
    search = GradientSearch(small(method, args), data, args.seed, CPU)
    while not search.done:
        search.run_epoch()
    return torch.stack(search.history).double()


def compare_limits(args: argparse.Namespace) -> bool:
    data, base = images(args), darts()
    search = GradientSearch(small(base, args), data, args.seed, CPU)
    start = float(ExpectedCost().expected(search.probabilities().detach()))
    print(f"N-hat at the beginning: {start:.4f}M")
    held = []

    def told(what: str, method: Method, holds: Callable[[float], bool]) -> Tensor:
        begun = time.perf_counter()
        found = path(method, data, args)
        end = float(ExpectedCost().expected(found[-1]))
        held.append(holds(end))
        print(
            f"{what}: N-hat {end:.4f}M, {'yes' if held[-1] else 'NO'} ({time.perf_counter() - begun:.0f} s)", flush=True
        )
        return found

    alone = told("validation loss alone", e2rnas_v1(base, count_params=False), lambda end: True)
    without = float(ExpectedCost().expected(alone[-1]))
    told(
        "v1, L = 1, below N-hat: lower than alone, and falling",
        e2rnas_v1(base, 1.0),
        lambda end: end < min(start, without),
    )
    below = told(
        "v1, L = 6, above N-hat: the path of the validation loss", e2rnas_v1(base, 6.0), lambda end: end == without
    )
    held.append(torch.equal(below, alone))
    print(f"  bit for bit: {'yes' if held[-1] else 'NO'}")
    for limit, flops in ((1.0, 200.0), (4.0, 800.0)):
        method = e2rnas_v2(base, limit, flops)
        told(
            f"v2, L = {limit:g}, F = {flops:g}: toward L",
            method,
            lambda end, limit=limit: abs(end - limit) < abs(start - limit),
        )
    return all(held)


def compare_descent(args: argparse.Namespace) -> bool:
    data = images(args)
    search = GradientSearch(small(e2rnas_v2(darts(), 1.0, 800.0), args), data, args.seed, CPU)
    ways = {
        "none, exact": (Mgda(), True),
        "l2, exact, on normalised": (Mgda(normalisation="l2", applied_to="normalised"), True),
        "loss+, exact, on normalised": (Mgda(normalisation="loss+", applied_to="normalised"), True),
        "l2, exact, on raw": (Mgda(normalisation="l2"), False),
        "l2, frank_wolfe, on raw": (Mgda(normalisation="l2", solver="frank_wolfe"), False),
        "equal weights": (FixedWeights(), False),
    }
    rising = dict.fromkeys(ways, 0)
    names = [loss.name for loss in search.method.upper]
    points = 0
    while not search.done:
        search.run_epoch()
        search.levels.begin_epoch(0.0, 0.0, torch.Generator().manual_seed(search.epoch))
        for below, above in list(search.batches())[: args.points]:
            found = search.levels.upper_gradients(below, above)
            gradients = found.gradients.double()
            points += 1
            for name, (combine, _) in ways.items():
                step = combine(found.gradients, found.losses) @ gradients
                slopes = -(gradients @ step) / step.norm()
                rising[name] += bool((slopes > 1e-9 * gradients.norm(dim=1)).any())
                if points == 1:
                    print(
                        f"  {name:28s}", ", ".join(f"{n} {float(s):+.2e}" for n, s in zip(names, slopes, strict=True))
                    )
    print(f"of {points} steps, so many raise at least one objective to first order:")
    for name, count in rising.items():
        print(f"  {name:28s} {count}{' (sure to descend)' if ways[name][1] else ''}")
    return not any(count for name, count in rising.items() if ways[name][1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = {"limits": compare_limits, "descent": compare_descent}
    parser.add_argument("part", choices=parts)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--images", type=int, default=800)
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--alpha-lr", type=float, default=0.02)
    parser.add_argument("--order", type=int, default=1)
    parser.add_argument("--points", type=int, default=5, help="batches an epoch at which steps are compared")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    return 0 if parts[args.part](args) else 1


if __name__ == "__main__":
    sys.exit(main())
