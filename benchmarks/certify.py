"""Seconds, memory and radius of the three kinds of bounds, on networks of more and more ReLUs; and what a search step
with a certified bound costs against one with a Jacobian norm.

    python benchmarks/certify.py bounds    # 10^4 to 10^6 ReLUs; full linear bounds up to 10^5
    python benchmarks/certify.py patches # patches of maps against whole maps, in turns in one process
    python benchmarks/certify.py step      # a step of the architecture with the bound, with the Jacobian, with neither

`bounds`: one network of NSGA-Net's space at three widths. Each is trained for some steps, so that its answers are more
than chance, and is certified for the answers that it gives. Every row has a process of its own: seconds of one pass of
bounds for a batch, divided by its images, and the most memory that was resident, less what was before (Linux).
The mean radius is by log-space bisection with the same number of steps for every kind; where one bound takes longer
than `--radius-seconds` an image, none is searched for.

`step`: the ways take turns in one process, and the metrics see the same images. The search takes the Jacobian as slopes
of a piecewise linear network, whose gradient needs no second derivative of convolutions; the usual way is beside it.
"""

import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional

from evonas.certify import (
    certified_radius,
    interval_bounds,
    jacobian_norm_bound,
    linear_bounds,
    margin_bounds,
    piecewise_jacobian,
)
from evonas.certify.recording import in_eval_mode
from evonas.certify.settings import Intermediate
from evonas.data import load_data
from evonas.errors import ConfigurationError
from evonas.gradient import Architecture, DartsSupernet, SupernetPlan
from evonas.networks.blocks import seeded
from evonas.runs import guarded
from evonas.spaces import PhaseSpace

KINDS = ("intervals", "linear over intervals", "linear up to the signs", "full linear")
INTERMEDIATE: dict[str, Intermediate] = dict(zip(KINDS[1:], ("interval", "signs", "linear"), strict=True))
DENSE = [[[1], [1, 1], [1, 1, 1], [0]]] * 3
"""Three phases of four nodes, each of which reads all before it."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Three kinds of bounds on networks of 10^4 to 10^6 ReLUs."""

    channels: tuple[int, ...] = (1, 13, 130)
    """Widths of the first phase; 1 channel has about 7,700 ReLUs."""
    images: int = 2
    """In a batch that is bounded."""
    epsilon: float = 0.0005
    """Radius of the l-inf ball whose bounds are timed, pixels in [0, 1]."""
    full_up_to: int = 110_000
    """ReLUs above which there are no full linear bounds."""
    radius_steps: int = 10
    radius_seconds: float = 10.0
    """Search for a radius where one bound takes at most so long an image."""
    train_steps: int = 40
    data: str = "cifar10"
    data_root: Path | None = None
    seed: int = 0
    threads: int = 0
    """Of each process; 0: torch's own choice."""


@dataclass(frozen=True, kw_only=True)
class Patches(Bounds):
    """Full linear bounds on patches of the maps, on whole maps, up to the signs, and rounded outwards."""

    channels: tuple[int, ...] = (4,)
    images: int = 1
    rounds: int = 3
    """In which the ways take turns."""
    gradients: bool = False
    """Time the gradient of the mean width with respect to all weights, too, together with the bounds."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step of the architecture with each metric."""

    channels: int = 8
    layers: int = 5
    partial: int = 4
    """PC-DARTS's K."""
    batch_size: int = 64
    metric_images: int = 8
    """That each metric sees."""
    rounds: int = 5
    seed: int = 0
    threads: int = 0


@dataclass(frozen=True)
class Row:
    relus: int
    kind: str
    seconds: float
    """Of one pass, an image."""
    memory: int
    """Bytes, an image."""
    width: float
    """Mean difference of upper and lower bounds."""
    radius: float | None


def main() -> int:
    return guarded(run)


def run() -> None:
    commands: dict[str, Callable[..., Any]] = {"bounds": Bounds, "patches": Patches, "step": Step}
    args = tyro.extras.subcommand_cli_from_dict(commands, description=__doc__)
    console = Console()
    if isinstance(args, Step):
        step(args, console)
        return
    if isinstance(args, Patches):
        patches(args, console)
        return
    table = Table("ReLUs", "bounds", "s an image", "MiB an image", "mean width", "mean radius")
    for channels in args.channels:
        for kind in KINDS:
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                row = pool.submit(bounded, args, channels, kind).result()
            if row is None:
                continue
            radius = "-" if row.radius is None else f"{row.radius:.2g}"
            memory = f"{row.memory / 2**20:,.0f}"
            table.add_row(f"{row.relus:,}", kind, f"{row.seconds:.3g}", memory, f"{row.width:.3g}", radius)
            console.print(f"{row.relus:,} ReLUs, {kind}: {row.seconds:.3g} s an image")
    console.print(table)


def patches(args: Patches, console: Console) -> None:
    """A table of the ways, each in seconds of processor time, which other processes disturb less than a clock's."""
    if args.threads:
        torch.set_num_threads(args.threads)
    table = Table("ReLUs", "way", "s an image", "min", "max", "ratio to patches", "mean width")
    for channels in args.channels:
        network, images = trained(args, channels)
        ways: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
            "patches": linear_bounds,
            "whole maps": on_whole_maps,
            "patches, up to the signs": partial(linear_bounds, intermediate="signs"),
            "patches, rounded outwards": partial(linear_bounds, rounding="outward"),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        widths: dict[str, float] = {}
        for _ in range(args.rounds):
            for name, way in ways.items():
                started = time.process_time()
                widths[name] = mean_width(way, network, images, args)
                seconds[name].append((time.process_time() - started) / len(images))
        base = statistics.median(seconds["patches"])
        for name, values in seconds.items():
            middle = statistics.median(values)
            row = [f"{each:.3g}" for each in (middle, min(values), max(values))]
            relus = f"{count_relus(network, images[:1]):,}"
            table.add_row(relus, name, *row, f"{middle / base:.2f}", f"{widths[name]:.5g}")
    console.print(table)


def mean_width(
    bounds: Callable[..., tuple[Tensor, Tensor]], network: nn.Module, images: Tensor, args: Patches
) -> float:
    with torch.set_grad_enabled(args.gradients):
        lower, upper = bounds(network, images, args.epsilon)
        width = (upper - lower).mean()
        if args.gradients:
            torch.autograd.grad(width, list(network.parameters()), allow_unused=True)
    return float(width)


def on_whole_maps(network: nn.Module, images: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Linear bounds as if no values had positions."""
    with mock.patch("evonas.certify.linear.is_map", return_value=False):
        return linear_bounds(network, images, epsilon)


def bounded(args: Bounds, channels: int, kind: str) -> Row | None:
    """One row, in a process of its own; None where it would be too large."""
    if args.threads:
        torch.set_num_threads(args.threads)
    network, images = trained(args, channels)
    relus = count_relus(network, images[:1])
    if kind in KINDS[2:] and relus > args.full_up_to:
        return None
    with torch.no_grad():
        Path("/proc/self/clear_refs").write_text("5")  # what was highest before, while training, does not count
        before, started = resident(), time.perf_counter()
        lower, upper = bounds_of(kind)(network, images, args.epsilon)
        seconds = (time.perf_counter() - started) / len(images)
        peak = highest() - before
        radius = None
        if seconds <= args.radius_seconds:
            labels = network(images).argmax(dim=1)
            radius = float(mean_radius(kind, network, images, labels, args.radius_steps))
    return Row(relus, kind, seconds, max(0, peak) // len(images), float((upper - lower).mean()), radius)


def bounds_of(kind: str) -> Callable[[nn.Module, Tensor, float], tuple[Tensor, Tensor]]:
    if kind == KINDS[0]:
        return interval_bounds
    intermediate = INTERMEDIATE[kind]
    return lambda network, images, epsilon: linear_bounds(network, images, epsilon, intermediate=intermediate)


def mean_radius(kind: str, network: nn.Module, images: Tensor, labels: Tensor, steps: int) -> Tensor:
    if kind != KINDS[0]:
        radii = certified_radius(network, images, labels, intermediate=INTERMEDIATE[kind], start=0.001, steps=steps)
        return radii.mean()
    pairs = zip(images, labels, strict=True)
    return torch.tensor([interval_radius(network, image[None], int(label), steps) for image, label in pairs]).mean()


def interval_radius(network: nn.Module, image: Tensor, label: int, steps: int) -> float:
    """As `certified_radius`, of intervals alone."""
    held, failed, tried = float("-inf"), float("inf"), torch.tensor(0.001).log().item()
    for _ in range(steps):
        lower, upper = interval_bounds(network, image, float(torch.tensor(tried).exp()))
        rivals = torch.cat([upper[0, :label], upper[0, label + 1 :]])
        if bool(lower[0, label] > rivals.max()):
            held = max(held, tried)
            tried = min(tried + 1, (held + failed) / 2)
        else:
            failed = min(failed, tried)
            tried = max(tried - 1, (held + failed) / 2)
    return float(torch.tensor(held).exp())


def trained(args: Bounds, channels: int) -> tuple[nn.Module, Tensor]:
    """The network after some steps, in eval mode, and images that it has not seen."""
    data = load_data(args.data, root=args.data_root, seed=args.seed)
    space = PhaseSpace(phases=3, nodes=4)
    genome = PhaseSpace.from_lists(DENSE)
    network = seeded(lambda: space.build(genome, channels=channels, normalization=data.normalization), args.seed)
    network.to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9)
    drawn = torch.Generator().manual_seed(args.seed)
    for _ in range(args.train_steps):
        chosen = torch.randint(len(data.train), (32,), generator=drawn)
        images, labels = (torch.from_numpy(each[chosen.numpy()]) for each in (data.train.images, data.train.labels))
        loss = functional.cross_entropy(network(images.float().div(255)), labels.long())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.eval(), torch.from_numpy(data.validation.images[: args.images]).float().div(255)


def count_relus(network: nn.Module, image: Tensor) -> int:
    found: list[int] = []
    hooks = [
        module.register_forward_hook(lambda _, __, out: found.append(out.numel()))
        for module in network.modules()
        if isinstance(module, nn.ReLU)
    ]
    with torch.no_grad():
        network(image)
    for hook in hooks:
        hook.remove()
    return sum(found)


def resident() -> int:
    return status("VmRSS")


def highest() -> int:
    return status("VmHWM")


def status(name: str) -> int:
    """Bytes, as Linux says of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def step(args: Step, console: Console) -> None:
    if args.rounds < 1 or args.metric_images > args.batch_size:
        raise ConfigurationError("expected rounds >= 1 and at most as many metric images as the batch has")
    if args.threads:
        torch.set_num_threads(args.threads)
    plan = SupernetPlan(
        channels=args.channels, layers=args.layers, partial=args.partial, edge_normalisation=args.partial > 1
    )
    supernet = seeded(lambda: DartsSupernet(plan), args.seed).to(memory_format=torch.channels_last)
    drawn = torch.Generator().manual_seed(args.seed)
    architecture = Architecture(plan, drawn)
    images = torch.rand(args.batch_size, 3, 32, 32, generator=drawn)
    labels = torch.randint(10, (args.batch_size,), generator=drawn)
    with torch.no_grad():
        supernet(images, architecture())  # normalisations see something
    supernet.requires_grad_(False)
    few, few_labels = images[: args.metric_images], labels[: args.metric_images]

    def forward(given: Tensor) -> Tensor:
        logits: Tensor = supernet(given, architecture())
        return logits

    def frozen(metric: Callable[[], Tensor]) -> Tensor:
        with in_eval_mode(supernet):
            return metric()

    metrics: dict[str, Callable[[], Tensor]] = {
        "validation loss": lambda: functional.cross_entropy(forward(images), labels),
        "Jacobian norm": lambda: frozen(lambda: piecewise_jacobian(forward, few).flatten(2).abs().sum(dim=2).mean()),
        "the same by two derivatives": lambda: frozen(lambda: jacobian_norm_bound(forward, few, 1)),
        "certified bound": lambda: frozen(
            lambda: margin_bounds(forward, few, few_labels, 0.03, intermediate="interval").amin(dim=1).mean()
        ),
    }
    seconds: dict[str, list[float]] = {name: [] for name in metrics}
    for number in range(args.rounds + 1):
        for name, metric in metrics.items():
            started = time.perf_counter()
            torch.autograd.grad(metric(), list(architecture.parameters()))
            if number:  # the first is to warm up
                seconds[name].append(time.perf_counter() - started)
    table = Table("gradient of", "images", "s a step", "min", "max", "ratio to the Jacobian")
    for name, row in rows(seconds):
        count = args.batch_size if name == "validation loss" else args.metric_images
        table.add_row(name, str(count), *row)
    console.print(table)


def rows(seconds: dict[str, list[float]]) -> Iterator[tuple[str, list[str]]]:
    base = statistics.median(seconds["Jacobian norm"])
    for name, values in seconds.items():
        middle = statistics.median(values)
        yield name, [f"{middle:.3f}", f"{min(values):.3f}", f"{max(values):.3f}", f"{middle / base:.2f}"]


if __name__ == "__main__":
    raise SystemExit(main())
