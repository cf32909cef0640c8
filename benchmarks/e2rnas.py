"""E2RNAS on real images: where the expected parameters go, and which ways of weighting objectives descend them all.

    EVONAS_DATA=... python benchmarks/e2rnas.py limits --data cifar10    # N-hat against L, both versions
    EVONAS_DATA=... python benchmarks/e2rnas.py sides --data cifar10     # version 2 where L alone pulls
    EVONAS_DATA=... python benchmarks/e2rnas.py descent --data cifar10 --layers 3 --batch-size 8     # five objectives

limits: v1 with L below N-hat lowers it; with L above it the architecture's path is that of the validation loss alone,
bit for bit; v2 moves N-hat to the side where both L and F are. Ends with 1 where any of this does not hold.
sides: F stays where F-hat begins, so that L alone pulls: v2 moves N-hat toward L from both sides, further than with L
where N-hat begins. Ends with 1 where it does not; with `--weights-on raw`, as the paper's authors weight, it does not.
descent: at several points of a search, in float64, each objective's slope along the steps of MGDA in its modes and of
equal weights, and the objectives themselves before and after steps of several lengths, on the same images, attacked
once. Ends with 1 where a mode that is sure to descend raises an objective, by its slope or by the shortest step, and
where equal weights never do. Convolutions in float64 are slow.
"""

import argparse
import copy
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from evonas.data import Augmentation, DevicePart, load_data
from evonas.data.out_of_distribution import load_ood_data, resolve_ood_data
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
from evonas.gradient.bilevel import direct_gradient
from evonas.gradient.losses import Batch, LevelLoss
from evonas.gradient.method import Combine
from evonas.seeding import generator

CPU = torch.device("cpu")
LENGTHS = (1e-1, 1e-4, 1e-7)
"""Of steps of all alphas together."""
WAYS: dict[str, tuple[Combine, bool]] = {
    "none, exact": (Mgda(), True),
    "l2, exact, on normalised": (Mgda(normalisation="l2", applied_to="normalised"), True),
    "loss+, exact, on normalised": (Mgda(normalisation="loss+", applied_to="normalised"), True),
    "l2, frank_wolfe, on raw": (Mgda(normalisation="l2", solver="frank_wolfe"), False),
    "equal weights": (FixedWeights(), False),
}
"""Name -> how gradients are weighted, and whether a short step is sure to lower every objective."""


def images(args: argparse.Namespace) -> SearchData:
    data = load_data(args.data, None, args.seed, args.images)
    name, _ = resolve_ood_data("auto", data.name)
    ood_data = load_ood_data(name, data, None, args.seed).limited(args.images, None, generator("benchmark", args.seed))
    below, above = halves(DevicePart(data.train, CPU), 0.5)
    print(f"{args.images} images of {data.name}, OoD images: {name}; {args.channels} channels, {args.layers} cells")
    return SearchData(
        below, above, DevicePart(ood_data.train, CPU), Augmentation(flip=data.flip), data.n_classes, data.normalization
    )


def small(method: Method, args: argparse.Namespace) -> Method:
    stages = tuple(
        replace(stage, epochs=args.epochs, channels=args.channels, layers=args.layers) for stage in method.stages
    )
    config = replace(
        method.config, search_batch_size=args.batch_size, alpha_lr=args.alpha_lr, begin_with="weights", order=args.order
    )
    return replace(method, stages=stages, config=config)


class Limits:
    """Searches from one beginning, and what is claimed of their ends."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.data, self.held = args, images(args), True
        begun = GradientSearch(small(darts(), args), self.data, args.seed, CPU).probabilities().detach().double()
        self.params, self.flops = (float(ExpectedCost(kind=kind).expected(begun)) for kind in ("params", "flops"))
        print(f"at the beginning N-hat is {self.params:.4f}M, F-hat {self.flops:.1f}M")

    def ends(self, what: str, method: Method) -> tuple[float, Tensor]:
        """N-hat at the end, and the (epochs, 2, edges, 8) probabilities."""
        started = time.perf_counter()
        search = GradientSearch(small(method, self.args), self.data, self.args.seed, CPU)
        while not search.done:
            search.run_epoch()
        path = torch.stack(search.history).double()
        params, flops = (float(ExpectedCost(kind=kind).expected(path[-1])) for kind in ("params", "flops"))
        seconds = time.perf_counter() - started
        print(f"{what}: N-hat {params:.4f}M, F-hat {flops:.1f}M ({seconds:.0f} s)", flush=True)
        return params, path

    def claim(self, text: str, holds: bool) -> None:
        self.held &= holds
        print(f"  {'holds' if holds else 'FAILS'}: {text}")


def compare_limits(args: argparse.Namespace) -> bool:
    limits, base = Limits(args), darts()
    alone, path = limits.ends("v1, validation loss alone", e2rnas_v1(base, count_params=False))
    low, _ = limits.ends("v1, L = 1", e2rnas_v1(base, 1.0))
    limits.claim(
        "L below N-hat lowers N-hat, and below that of the validation loss alone", low < min(limits.params, alone)
    )
    _, free = limits.ends("v1, L = 6", e2rnas_v1(base, 6.0))
    limits.claim("L above N-hat leaves the path of the validation loss, bit for bit", torch.equal(free, path))

    for limit, flops, sign in ((1.0, 200.0, -1), (4.0, 800.0, 1)):
        mgda = Mgda(normalisation="l2", solver="frank_wolfe", applied_to=args.weights_on)
        method = e2rnas_v2(base, limit, flops, combine=mgda)
        end, _ = limits.ends(f"v2, L = {limit:g}, F = {flops:g}, weights on {args.weights_on}", method)
        limits.claim("L and F on one side move N-hat there", sign * end > sign * limits.params)
    return limits.held


def compare_sides(args: argparse.Namespace) -> bool:
    limits = Limits(args)
    mgda = Mgda(normalisation="l2", solver="frank_wolfe", applied_to=args.weights_on)

    def end(limit: float) -> float:
        method = e2rnas_v2(darts(), limit, limits.flops, combine=mgda)
        return limits.ends(f"v2, L = {limit:.4g}, F = {limits.flops:.1f}, weights on {args.weights_on}", method)[0]

    low, middle, high = end(1.0), end(limits.params), end(4.0)
    limits.claim("from above N-hat comes nearer to L, and below where L keeps it", low < min(limits.params, middle))
    limits.claim("from below N-hat comes nearer to L, and above where L keeps it", high > max(limits.params, middle))
    return limits.held


class Point:
    """Five objectives in float64, as the architecture of a search now has them, on images that are attacked once."""

    def __init__(self, search: GradientSearch, above: Batch) -> None:
        assert above.ood_data is not None
        self.supernet = copy.deepcopy(search.levels.supernet).double()
        self.architecture = copy.deepcopy(search.levels.architecture).double()
        self.alphas = list(self.architecture.parameters())
        drawn = torch.Generator().manual_seed(search.epoch)
        batch = Batch(above.images.double(), above.labels, above.ood_data.double())
        self.losses = [(loss, loss.prepare(self._forward, batch, drawn)) for loss in search.method.upper]

    def _forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.supernet(images, self.architecture())
        return logits

    def _value(self, loss: LevelLoss, batch: Batch) -> Tensor:
        return loss(self._forward, self.architecture.probabilities(), batch)

    def gradients(self) -> tuple[Tensor, Tensor]:
        """(5,) losses and their (5, n) gradients."""
        losses = [lambda loss=loss, batch=batch: self._value(loss, batch) for loss, batch in self.losses]
        found = direct_gradient(losses, list(self.supernet.parameters()), self.alphas)
        return found.losses, found.gradients

    @torch.no_grad()
    def after(self, step: Tensor) -> Tensor:
        """(5,) losses after a step of the architecture, which is then taken back."""
        before = [alpha.clone() for alpha in self.alphas]
        parts = torch.split(step, [alpha.numel() for alpha in self.alphas])
        for alpha, part in zip(self.alphas, parts, strict=True):
            alpha.add_(part.view_as(alpha))
        found = torch.stack([self._value(loss, batch) for loss, batch in self.losses])
        for alpha, value in zip(self.alphas, before, strict=True):
            alpha.copy_(value)
        return found


def points(search: GradientSearch, args: argparse.Namespace) -> Iterator[Point]:
    while not search.done:
        search.run_epoch()
        for _, above in list(search.batches())[: args.points]:
            yield Point(search, above)


def compare_descent(args: argparse.Namespace) -> bool:
    search = GradientSearch(small(e2rnas_v2(darts(), 1.0, 800.0), args), images(args), args.seed, CPU)
    by_slope = dict.fromkeys(WAYS, 0)
    by_step = {(name, length): 0 for name in WAYS for length in LENGTHS}
    names, count = [loss.name for loss in search.method.upper], 0
    for count, point in enumerate(points(search, args), start=1):
        losses, gradients = point.gradients()
        for name, (combine, _) in WAYS.items():
            direction = combine(gradients, losses) @ gradients
            direction = direction / direction.norm()
            slopes = -(gradients @ direction)
            by_slope[name] += bool((slopes > 1e-9 * gradients.norm(dim=1)).any())
            for length in LENGTHS:
                change = point.after(-length * direction) - losses
                by_step[name, length] += bool((change > 1e-13 * (1 + losses.abs())).any())  # above rounding
            if count == 1:  # the last of the lengths
                told = zip(names, slopes.tolist(), (change / length).tolist(), strict=True)
                print(f"  {name}: " + ", ".join(f"{n} {slope:+.2e} (step {real:+.2e})" for n, slope, real in told))
    print(f"of {count} steps, so many raise at least one objective: by its slope; after steps of length")
    print(f"  {'':28s}  slope " + "".join(f"{length:>8.0e}" for length in LENGTHS))
    for name, (_, sure) in WAYS.items():
        steps = "".join(f"{by_step[name, length]:8d}" for length in LENGTHS)
        print(f"  {name:28s} {by_slope[name]:6d} {steps}{'  sure to descend' if sure else ''}")
    rising: Callable[[str], int] = lambda name: min(by_slope[name], by_step[name, LENGTHS[-1]])  # noqa: E731
    falls = not any(by_slope[name] or by_step[name, LENGTHS[-1]] for name, (_, sure) in WAYS.items() if sure)
    print(f"{'holds' if falls else 'FAILS'}: modes that are sure to descend do, by slope and by the shortest step")
    rises = rising("equal weights") > 0
    print(f"{'holds' if rises else 'FAILS'}: equal weights raise an objective, by slope and by the shortest step")
    return falls and rises


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = {"limits": compare_limits, "sides": compare_sides, "descent": compare_descent}
    parser.add_argument("part", choices=parts)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--images", type=int, default=800)
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--alpha-lr", type=float, default=0.02)
    parser.add_argument("--order", type=int, default=1, help="of the searches; slopes are of first order")
    parser.add_argument("--points", type=int, default=5, help="batches an epoch at which steps are compared")
    parser.add_argument(
        "--weights-on", choices=("raw", "normalised"), default="normalised", help="of `limits` and `sides`"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    return 0 if parts[args.part](args) else 1


if __name__ == "__main__":
    sys.exit(main())
