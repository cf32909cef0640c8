"""DSRNA on real images: does the metric that is searched with improve, and more than without it?

    EVONAS_DATA=... python benchmarks/dsrna.py --data cifar10 --metric jacobian
    EVONAS_DATA=... python benchmarks/dsrna.py --data cifar10 --metric bound --base darts --gamma 0.1

For each seed a search with the metric and the same search without it (same rates, batches and images; gamma = 0). The
metric is taken on images of the upper level that are the same for all, at one radius: at the beginning; at the end;
and at the end with the first architecture in place of the last one, which tells what the architecture did from what
training did to the weights. What comes out is printed, whichever way it goes.

    EVONAS_DATA=... python benchmarks/dsrna.py --data cifar10 --metric bound --ratio --channels 16 --layers 8

For each seed, how many times as long the gradient of gamma R is as the loss's at the search's first step, at the
epsilon that the search begins with (0.03, as in the paper), in first and in second order.

    python benchmarks/dsrna.py --data digits --metric bound --ratio --after 3 --epochs 4 --weights-only 0 --images 256

The same at the first step of every epoch, until so many of a first-order search have ended; its epsilon beside it.

    python benchmarks/dsrna.py --data digits --metric bound --combine

For each seed a search by each way of combining metric and loss, from the same beginning: the metric's share of the
architecture's step (by gamma at the first step of an epoch, else the mean of its steps) in the first and in the last
epoch that moves the architecture, and R and the clean loss at the end, in the mean over seeds and over those by gamma.
"""

import argparse
import statistics
import time
from dataclasses import replace
from typing import Literal, get_args

import torch
from torch.nn import functional

from evonas.data import Augmentation, DevicePart, batches, load_data
from evonas.gradient import (
    METHODS,
    BoundLoss,
    CrossEntropy,
    GradientSearch,
    JacobianLoss,
    Method,
    SearchData,
    Sum,
    dsrna,
    halves,
)
from evonas.gradient.architecture import Mixture
from evonas.gradient.dsrna import Combination
from evonas.gradient.forward import SupernetForward, eval_mode
from evonas.gradient.losses import Batch

CPU = torch.device("cpu")
ORDERS: tuple[Literal[1, 2], ...] = (1, 2)


def images(args: argparse.Namespace, seed: int) -> SearchData:
    data = load_data(args.data, None, seed, args.images)
    below, above = halves(DevicePart(data.train, CPU), 0.5)
    return SearchData(below, above, None, Augmentation(flip=data.flip), data.n_classes, data.normalization)


def small(method: Method, args: argparse.Namespace) -> Method:
    stages = tuple(
        replace(stage, epochs=args.epochs, weights_only=args.weights_only, channels=args.channels, layers=args.layers)
        for stage in method.stages
    )
    config = replace(
        method.config, search_batch_size=args.batch_size, alpha_lr=args.alpha_lr, search_lr=args.lr, order=1
    )
    return replace(method, stages=stages, config=config)


def measured(
    search: GradientSearch, metric: BoundLoss | JacobianLoss, mixture: Mixture, args: argparse.Namespace
) -> tuple[float, float]:
    """R of the first images of the upper level, larger is more robust; and their cross-entropy, in eval mode."""
    pixels, labels = next(iter(batches(search.data.above, args.measured)))
    forward = SupernetForward(search.levels.supernet, mixture, "fp32")
    with torch.no_grad():
        batch = Batch(pixels, labels, epsilon=args.epsilon)
        loss = replace(metric, gamma=1.0, images=None)(forward, torch.empty(0), batch)
        with eval_mode(forward) as network:
            error = functional.cross_entropy(network(pixels), labels)
    return -float(loss), float(error)


def searched(
    method: Method, data: SearchData, metric: BoundLoss | JacobianLoss, seed: int, args: argparse.Namespace
) -> list[tuple[float, float]]:
    """(R, cross-entropy) at the beginning, at the end, and at the end with the first architecture."""
    search = GradientSearch(method, data, seed, CPU)
    with torch.no_grad():
        first = search.levels.architecture()
    found = [measured(search, metric, first, args)]
    started = time.perf_counter()
    while not search.done:
        search.run_epoch()
    seconds = time.perf_counter() - started
    with torch.no_grad():
        found += [measured(search, metric, mixture, args) for mixture in (search.levels.architecture(), first)]
    words = "; ".join(
        f"{label} R {r:.4g}, loss {loss:.3f}"
        for label, (r, loss) in zip(("begun", "ended", "ended with the first architecture"), found, strict=True)
    )
    print(f"  seed {seed}, {method.name}: {words} ({seconds:.0f} s)", flush=True)
    return found


def combined(
    combine: Combination, metric: BoundLoss | JacobianLoss, data: SearchData, seed: int, args: argparse.Namespace
) -> tuple[float, float, float, float]:
    """Shares of the metric in the first and in the last epoch, R and clean loss at the end."""
    search = GradientSearch(small(dsrna(METHODS[args.base](), metric, combine=combine), args), data, seed, CPU)
    name, shares, started = f"share_{metric.name}", [], time.perf_counter()
    while not search.done:
        row = search.run_epoch()
        shares += [row[name]] if name in row else []
    seconds = time.perf_counter() - started
    with torch.no_grad():
        r, loss = measured(search, metric, search.levels.architecture(), args)
    words = f"share {shares[0]:.3f} to {shares[-1]:.3f}, R {r:.4g}, loss {loss:.3f}"
    print(f"  seed {seed}, {combine}: {words} ({seconds:.0f} s)", flush=True)
    return shares[0], shares[-1], r, loss


def compare_combinations(metric: BoundLoss | JacobianLoss, args: argparse.Namespace) -> None:
    """A Markdown table of the means over seeds."""
    ways: tuple[Combination, ...] = get_args(Combination)
    found = {way: [combined(way, metric, images(args, seed), seed, args) for seed in range(args.seeds)] for way in ways}
    means = {way: [statistics.fmean(column) for column in zip(*rows, strict=True)] for way, rows in found.items()}
    *_, usual_r, usual_loss = means["gamma"]
    print("| `--combine` | share, first epoch | last epoch | R at the end | over gamma's | clean loss | over gamma's |")
    print("|---|---|---|---|---|---|---|")
    for way, (first, last, r, loss) in means.items():
        ratios = f"{r:.4g} | {r / usual_r:.3g} | {loss:.3f} | {loss / usual_loss:.3g}"
        print(f"| `{way}` | {first:.3f} | {last:.3f} | {ratios} |")


def begun(method: Method, data: SearchData, seed: int, order: Literal[1, 2]) -> GradientSearch:
    return GradientSearch(replace(method, config=replace(method.config, order=order)), data, seed, CPU)


def ratio(search: GradientSearch) -> float:
    """Length of the metric's gradient over that of the loss, at the first step of the next epoch."""
    (upper,) = search.method.upper
    assert isinstance(upper, Sum)
    below, above = next(search.batches())
    above = replace(above, epsilon=search.levels.epsilon)
    gradients = search.levels.upper_gradients(below, above, upper.parts).gradients
    metric, loss = torch.linalg.vector_norm(gradients, dim=1).tolist()
    return float(metric / loss)


def ratios(method: Method, data: SearchData, seed: int, after: int) -> str:
    """Ratios at the first step: in both orders, or in the first one at epoch after epoch."""
    if not after:
        return ", ".join(f"order {order}: {ratio(begun(method, data, seed, order)):.3g}" for order in ORDERS)
    search, words = begun(method, data, seed, 1), []
    for epoch in range(after + 1):
        words.append(f"after epoch {epoch}: {ratio(search):.3g} at epsilon {search.levels.epsilon:.3g}")
        if epoch < after:
            search.run_epoch()
    return ", ".join(words)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--metric", choices=["bound", "jacobian"], default="jacobian")
    parser.add_argument("--base", choices=sorted(METHODS), default="pcdarts")
    parser.add_argument("--gamma", type=float, default=0.01)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--metric-images", type=int, default=4)
    parser.add_argument("--measured", type=int, default=32, help="images that R is measured on in the end")
    parser.add_argument("--epsilon", type=float, default=0.5 / 255, help="radius that the bound is measured at")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--weights-only", type=int, default=1)
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--alpha-lr", type=float, default=0.02)
    parser.add_argument("--ratio", action="store_true", help="measure the lengths of the first step's gradients alone")
    parser.add_argument("--after", type=int, default=0, help="with --ratio: epochs until the last ratio")
    parser.add_argument("--combine", action="store_true", help="compare the ways of combining metric and loss")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    metric = (
        BoundLoss(gamma=args.gamma, images=args.metric_images)
        if args.metric == "bound"
        else JacobianLoss(gamma=args.gamma, images=args.metric_images)
    )
    own = small(dsrna(METHODS[args.base](), metric), args)
    without = replace(own, name=f"{args.base} without it", upper=(CrossEntropy(),))
    print(f"{args.images} images of {args.data}, {args.channels} channels, {args.layers} cells, gamma {args.gamma:g}")
    if args.ratio:
        for seed in range(args.seeds):
            data = images(args, seed)
            started = time.perf_counter()
            found = ratios(own, data, seed, args.after)
            print(f"seed {seed}, {args.metric} over loss, {found} ({time.perf_counter() - started:.0f} s)", flush=True)
        return
    if args.combine:
        compare_combinations(metric, args)
        return
    rises, gains = [], []
    for seed in range(args.seeds):
        data = images(args, seed)
        with_it, alone = (searched(method, data, metric, seed, args) for method in (own, without))
        rises.append((with_it[1][0] - with_it[0][0], with_it[1][0] - with_it[2][0]))
        gains.append(with_it[1][0] - alone[1][0])
    for label, values in (
        ("R over the run", [rise for rise, _ in rises]),
        ("R by the architecture alone, at the last weights", [rise for _, rise in rises]),
        (f"R beyond {without.name}", gains),
    ):
        spread = statistics.stdev(values) if len(values) > 1 else float("nan")
        shown = ", ".join(f"{value:+.4g}" for value in values)
        better = sum(value > 0 for value in values)
        mean = f"mean {statistics.fmean(values):+.4g} +- {spread:.2g}"
        print(f"{label}: {shown}; {mean}; better in {better} of {len(values)}")


if __name__ == "__main__":
    main()
