"""TAM-NAS: what an attack step of TRADES-YOPO costs, what a candidate costs, and what the recipe gains.

    python benchmarks/tam.py step        # TRADES-YOPO-5-3 against itself taken step by step, and against PGD-10
    python benchmarks/tam.py candidate   # seconds of a candidate: recalibration, clean error, PGD error
    EVONAS_DATA=... python benchmarks/tam.py robustness --data cifar10   # against plain training, equal wall time

step: all ways run alternately in one process, on the same network and images, by time of the processor; networks have
batch statistics of their own. It asks for twice the speed of one gradient of the first layer for every inner step, and
of PGD-10 training, and ends with 1 where that is not reached, as on two CPU cores; docs/papers/tam-nas.md has the
figures. The perturbations are compared in float64: in float32 the signs of slopes near 0 hang on rounding, and what
five passes through a deep network make of them.
robustness: PGD-20 error after equal seconds of training, for several seeds, whatever comes out; no claim.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from evonas.attacks import PGD
from evonas.data import DeviceData, batches, load_data, training_batches
from evonas.evaluation import recalibrate
from evonas.objectives.scoring import error_under
from evonas.spaces import ShuffleSpace
from evonas.training import Recipe, TradesYopo, standard
from evonas.training.attacking import attacking
from evonas.training.fast_layers import fast_layers
from evonas.training.trades import Trades, start, trades_loss
from evonas.training.yopo import split_first_layer, trades_yopo_perturbation

LOOPS = (5, 3, 0.007, 8 / 255)
"""m, n, step and epsilon of TRADES-YOPO-5-3."""

PGD10 = Trades(epsilon=8 / 255, steps=10)


class ClosedClamp(torch.autograd.Function):
    """Clamping to [0, 1] whose gradient passes on the closed interval, on every version of torch."""

    @staticmethod
    def forward(ctx: Any, pixels: Tensor) -> Tensor:
        ctx.save_for_backward(pixels)
        return pixels.clamp(0, 1)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        (pixels,) = ctx.saved_tensors
        return torch.where((pixels < 0) | (pixels > 1), 0, slopes[0])


def step_by_step(
    first_layer: Callable[[Tensor], Tensor],
    rest: Callable[[Tensor], Tensor],
    images: Tensor,
    probabilities: Tensor,
    eta0: Tensor,
    m: int,
    n: int,
    step: float,
    epsilon: float,
) -> Tensor:
    """TRADES-YOPO-m-n as its equations read: a gradient of the Hamiltonian for every inner step."""
    eta = eta0
    for _ in range(m):
        maps = first_layer(images + eta).detach().requires_grad_()
        apart = functional.kl_div(functional.log_softmax(rest(maps), dim=1), probabilities, reduction="sum")
        p = -torch.autograd.grad(apart, maps)[0]
        for _ in range(n):
            eta = eta.detach().requires_grad_()
            hamiltonian = (first_layer(ClosedClamp.apply(images + eta)) * p).sum()
            (gradient,) = torch.autograd.grad(hamiltonian, eta)
            eta = (eta - step * gradient.sign()).clamp(-epsilon, epsilon).detach()
            eta = (images + eta).clamp(0, 1) - images
    return eta


def timed(seconds: list[float], run: Callable[..., Any], *given: Any) -> Any:
    """What `run` returns; the processor's time for it goes into `seconds`."""
    started = time.process_time()
    found = run(*given)
    seconds.append(time.process_time() - started)
    return found


def train_step(network: nn.Module, recipe: Recipe, images: Tensor, labels: Tensor) -> None:
    loss = recipe(network, images, labels, torch.Generator().manual_seed(0))
    network.zero_grad()
    loss.backward()


def plain_step(network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """The loss of TRADES-YOPO-5-3 with its attack taken step by step, on the network as torch has it."""
    network.eval()
    eta = plain_attack(network, images, generator)
    network.train()
    clean = network(images)
    return trades_loss(network((images + eta).clamp(0, 1)), clean, labels)


def plain_attack(network: nn.Module, images: Tensor, generator: torch.Generator) -> Tensor:
    with torch.no_grad():
        probabilities = functional.softmax(network(images), dim=1)
    first_layer, rest = split_first_layer(network, images)
    return step_by_step(first_layer, rest, images, probabilities, start(images, generator), *LOOPS)


def our_attack(network: nn.Module, images: Tensor, generator: torch.Generator) -> Tensor:
    """As `TradesYopo` takes it."""
    with fast_layers(network), attacking(network):
        with torch.no_grad():
            probabilities = functional.softmax(network(images), dim=1)
        first_layer, rest = split_first_layer(network, images)
        return trades_yopo_perturbation(first_layer, rest, images, probabilities, start(images, generator), *LOOPS)


def compare_steps(args: argparse.Namespace) -> bool:
    space = ShuffleSpace(args.width, args.depth)
    images = torch.rand(args.batch_size, 32, 32, 3).permute(0, 3, 1, 2)  # channels_last, as the loader gives them
    labels = torch.randint(10, (args.batch_size,))
    attacks: dict[str, list[float]] = {"ours": [], "step by step": []}
    steps: dict[str, list[float]] = {"TRADES-YOPO-5-3": [], "step by step": [], "TRADES with PGD-10": []}
    recipes: dict[str, Recipe] = {
        "TRADES-YOPO-5-3": TradesYopo(),
        "step by step": plain_step,
        "TRADES with PGD-10": PGD10,
    }
    for number, genome in enumerate(space.sample(args.rounds + 1, np.random.default_rng(0))):
        network = space.build(genome).to(memory_format=torch.channels_last)
        recalibrate(network, [images])
        for name, attack in (("ours", our_attack), ("step by step", plain_attack)):
            timed(attacks[name], attack, network, images, torch.Generator().manual_seed(number))
        for name, recipe in recipes.items():
            timed(steps[name], train_step, network, recipe, images, labels)
    doubles = network.double().eval(), images[:8].double()
    ours, plain = (attack(*doubles, torch.Generator().manual_seed(0)) for attack in (our_attack, plain_attack))
    apart = float((ours - plain).abs().max())
    for values in (*attacks.values(), *steps.values()):
        del values[0]  # the first network is a warm-up
    print(f"{args.rounds} networks, batches of {args.batch_size}, {args.threads} threads, width {args.width:g}")
    ratios = [
        *table("attack of TRADES-YOPO-5-3, seconds", attacks).values(),
        *table("training step, seconds", steps).values(),
    ]
    print(f"perturbations in float64 differ by {apart:.1e} at most, {'within' if apart <= 1e-6 else 'MORE THAN'} 1e-6")
    print(f"at least 2 times as fast: {', '.join('yes' if ratio >= 2 else 'NO' for ratio in ratios)}")
    return apart <= 1e-6 and min(ratios) >= 2


def table(title: str, measured: dict[str, list[float]]) -> dict[str, float]:
    """Print ways of which the first is ours; the median ratio of each other one to it."""
    ours, *others = measured
    print(title)
    print(f"  {ours:22s} {statistics.median(measured[ours]):8.3f}")
    found = {}
    for name in others:
        ratios = sorted(b / a for a, b in zip(measured[ours], measured[name], strict=True))
        found[name] = statistics.median(ratios)
        spread = f"({ratios[0]:.2f} to {ratios[-1]:.2f})"
        print(f"  {name:22s} {statistics.median(measured[name]):8.3f}   ratio {found[name]:.2f} {spread}")
    return found


def time_candidates(args: argparse.Namespace) -> bool:
    space = ShuffleSpace(args.width, args.depth)
    data = DeviceData(load_data(args.data, None, 0, 2000, 250), torch.device("cpu"))
    supernet = space.supernet(data.n_classes).eval()
    taken: dict[str, list[float]] = {"slicing": [], "recalibration": [], "clean": [], "PGD-10": []}
    for genome in space.sample(args.rounds, np.random.default_rng(0)):
        network = timed(taken["slicing"], supernet.network, space.units(genome), True)
        images = (images for images, _ in batches(data.train, args.batch_size))
        timed(taken["recalibration"], recalibrate, network, islice(images, args.recalibration))
        for name, attack in (("clean", None), ("PGD-10", PGD(stop_when_fooled=True))):
            timed(taken[name], error_under, network, batches(data.validation, args.batch_size), attack)
    print(f"{args.rounds} candidates: {args.recalibration} batches of {args.batch_size}, {len(data.validation)} images")
    for name, values in taken.items():
        print(f"  {name:14s} {statistics.median(values):7.3f} s ({min(values):.3f} to {max(values):.3f})")
    return True


def compare_robustness(args: argparse.Namespace) -> bool:
    space = ShuffleSpace(args.width, args.depth)
    genome = space.sample(1, np.random.default_rng(0))[0]
    attack = PGD(steps=20, precision="fp32")
    found: dict[str, list[tuple[float, float, int]]] = {"plain": [], "TRADES-YOPO": []}
    recipes: dict[str, Recipe] = {"plain": standard, "TRADES-YOPO": TradesYopo(m=args.m, n=args.n)}
    for seed in range(args.seeds):
        data = DeviceData(load_data(args.data, None, seed, args.images, 500), torch.device("cpu"))
        for name, recipe in recipes.items():
            torch.manual_seed(seed)
            network = space.build(genome, data.n_classes)
            epochs = train_for(network, recipe, data, args, seed)
            clean, attacked = (error_under(network, batches(data.validation, 250), one) for one in (None, attack))
            found[name].append((clean, attacked, epochs))
            print(f"seed {seed}, {name:12s} clean {clean:6.1%}, PGD-20 {attacked:6.1%}, {epochs} epochs", flush=True)
    for name, values in found.items():
        every_clean, every_attacked, _ = zip(*values, strict=True)
        spread = statistics.stdev(every_attacked) if len(values) > 1 else float("nan")
        means = statistics.mean(every_clean), statistics.mean(every_attacked)
        print(f"{name:12s} clean {means[0]:.1%}, PGD-20 {means[1]:.1%} +- {spread:.1%}")
    return True


def train_for(network: nn.Module, recipe: Recipe, data: DeviceData, args: argparse.Namespace, seed: int) -> int:
    """Train for so many seconds with a rate that falls to 0 along them; whole epochs that were done."""
    network.to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    drawn, started, done = torch.Generator().manual_seed(seed), time.perf_counter(), 0
    while True:
        for images, labels in _epoch(data, args.batch_size, drawn):
            share = (time.perf_counter() - started) / args.seconds
            if share >= 1:
                network.eval()
                return done
            optimiser.param_groups[0]["lr"] = 0.1 * (1 + np.cos(np.pi * share)) / 2
            optimiser.zero_grad()
            recipe(network, images, labels, drawn).backward()
            optimiser.step()
        done += 1


def _epoch(data: DeviceData, batch_size: int, drawn: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    return training_batches(data.train, batch_size, data.augmentation, drawn)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = {"step": compare_steps, "candidate": time_candidates, "robustness": compare_robustness}
    parser.add_argument("part", choices=parts)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--depth", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--data", default="digits")
    parser.add_argument("--recalibration", type=int, default=20, help="batches")
    parser.add_argument("--seconds", type=float, default=60.0, help="of training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--m", type=int, default=5)
    parser.add_argument("--n", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    return 0 if parts[args.part](args) else 1


if __name__ == "__main__":
    sys.exit(main())
