"""Passes that are saved: each piece of work as it is done, against the same work without the saving, in one process.

    python benchmarks/passes.py [--only grid] [--rounds 5]

scoring: clean error and PGD-10 error of a full TAM-NAS network with bf16 gradients, batch after batch; before, every
         batch made a fast copy of the network.
grid:    errors under PGD-10, PGD-30 and PGD-50 of one radius; before, each took a pass of its own.
yopo:    a training step of TRADES-YOPO-5-3; before, every inner step took a gradient of the first layer.

Both ways run in turn, first one and then the other leading; seconds are processor time of this process, medians over
rounds. The results are compared, too: equal bit for bit, or the benchmark ends with 1. Perturbations of TRADES-YOPO are
compared in float64, to 1e-6.
"""

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tam
import torch
from torch import Tensor, nn
from torch.nn import functional

from evonas.attacks import PGD, FixedModel
from evonas.data import DeviceData, DevicePart, batches, load_data
from evonas.evaluation import recalibrate
from evonas.networks.blocks import seeded
from evonas.objectives.scoring import error_under, errors_after, first_images
from evonas.spaces import ShuffleSpace
from evonas.training import TradesYopo

STEPS = (10, 30, 50)
"""Of TAM-NAS's grid, Tables II to V."""


class Ways(NamedTuple):
    """A piece of work, done in two ways that give the same."""

    what: str
    before: Callable[[], object]
    now: Callable[[], object]
    apart: Callable[[], float] = lambda: 0.0
    """How far what they do not return is apart, at most 1e-6."""


def tam_network(args: argparse.Namespace) -> tuple[nn.Module, DevicePart]:
    """A full network whose last layer alone is trained, in closed form, and images with the classes that it sees."""
    data = DeviceData(load_data(args.data, None, 0, 500, args.images), torch.device("cpu"))
    space = ShuffleSpace()
    network = seeded(lambda: space.build(space.sample(1, np.random.default_rng(0))[0], data.n_classes), 0)
    recalibrate(network, (images for images, _ in batches(data.train, 100)))
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    seen: list[Tensor] = []
    handle = last.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        for images, _ in batches(data.train, 100):
            network(images)
        handle.remove()
        x = functional.pad(torch.cat(seen), (0, 1), value=1.0).double()
        wanted = 20 * functional.one_hot(data.train.labels, data.n_classes).double() - 10
        ridge = 10 * x.square().mean() * torch.eye(x.shape[1], dtype=torch.float64) * len(x)
        solution = torch.linalg.solve(x.T @ x + ridge, x.T @ wanted).float()
        last.weight.copy_(solution[:-1].T)
        last.bias.copy_(solution[-1])
        part = first_images(data.validation, args.images)
        labels = torch.cat([network(images).argmax(dim=1) for images, _ in batches(part, 50)])
    return network, DevicePart.of(part.images, labels)


def scoring(args: argparse.Namespace) -> Ways:
    network, part = tam_network(args)
    attack = PGD(stop_when_fooled=True, precision="bf16")

    def errors(attacked: nn.Module) -> list[float]:
        return [
            error_under(network, batches(part, args.batch_size)),
            error_under(attacked, batches(part, args.batch_size), attack),
        ]

    what = f"scoring of a TAM candidate, {len(part)} images in batches of {args.batch_size}"
    return Ways(what, lambda: errors(network), lambda: errors(FixedModel(network)))


def grid(args: argparse.Namespace) -> Ways:
    network, part = tam_network(args)
    few = first_images(part, args.grid_images)

    def images() -> list[tuple[Tensor, Tensor]]:
        return list(batches(few, args.batch_size))

    def alone() -> list[float]:
        return [error_under(network, images(), PGD(steps=steps)) for steps in STEPS]

    what = f"PGD of {', '.join(map(str, STEPS))} steps on it, {len(few)} images"
    return Ways(what, alone, lambda: errors_after(network, images(), PGD(), STEPS))


def yopo(args: argparse.Namespace) -> Ways:
    network, part = tam_network(args)
    images, labels = next(batches(part, args.batch_size))

    def apart() -> float:
        given = copy.deepcopy(network).double().eval(), images[:4].double()
        one, other = (attack(*given, torch.Generator().manual_seed(0)) for attack in (tam.our_attack, tam.plain_attack))
        return float((one - other).abs().max())

    return Ways(
        f"training step of TRADES-YOPO-5-3 on it, {len(images)} images",
        lambda: tam.train_step(network, tam.plain_step, images, labels),
        lambda: tam.train_step(network, TradesYopo(), images, labels),
        apart,
    )


ROWS: dict[str, Callable[[argparse.Namespace], Ways]] = {"scoring": scoring, "grid": grid, "yopo": yopo}


def timed(work: Callable[[], object]) -> tuple[float, object]:
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def compare(ways: Ways, rounds: int) -> bool:
    """Print a row; whether both ways have given the same in every round."""
    seconds: dict[str, list[float]] = {"before": [], "now": []}
    results = []
    for number in range(-1, rounds):
        order = ("before", "now") if number % 2 else ("now", "before")
        for name in order:
            taken, result = timed(getattr(ways, name))
            results.append(result)
            if number >= 0:  # the first round warms up
                seconds[name].append(taken)
    before, now = (statistics.median(values) for values in seconds.values())
    ratios = [one / other for one, other in zip(*seconds.values(), strict=True)]
    same = all(result == results[0] for result in results) and ways.apart() <= 1e-6
    said = "the same" if same else f"OTHERS: {results}, {ways.apart():g} apart"
    print(
        f"| {ways.what} | {before:.2f} | {now:.2f} | {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f}) | {said} |",
        flush=True,
    )
    return same


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=ROWS)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--images", type=int, default=60, help="that a candidate is scored on")
    parser.add_argument("--batch-size", type=int, default=20)
    parser.add_argument("--grid-images", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"torch {torch.__version__}, threads: {args.threads}, {args.rounds} rounds, seconds of processor time\n")
    print("| work | before | now | times as fast | results |\n|---|---|---|---|---|")
    same = [compare(ROWS[name](args), args.rounds) for name in ROWS if args.only in (None, name)]
    return 0 if all(same) else 1


if __name__ == "__main__":
    sys.exit(main())
