"""How long a search of the paper's size takes on a GPU.

    python benchmarks/gpu_search.py                                                        # on the first GPU
    python benchmarks/gpu_search.py --device cpu --epochs 1 --train-limit 500 --val-limit 200   # to try it anywhere

Eight networks of 16 channels, the published NSGA-Net one and seven random ones, are trained for 25 epochs on 42,500
images and scored on 5,000, first one after another in one process, then by 4 processes that share the device. Printed
are the seconds of each evaluation (training and scoring) and the device's memory at its peak; the hours of 840
evaluations (population 40, 20 generations) follow from the time of all eight. Images are CIFAR-10 where its files are,
else random bytes of the same size, which take as long.

With fewer epochs or images the hours are scaled up in proportion to training steps, and the screen says so.
"""

import math
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

from evonas.data import Dataset, Part, load_data, resolve_data
from evonas.errors import ConfigurationError, EvonasError
from evonas.evaluation import Evaluator, TrainFromScratch
from evonas.graphs import SWITCH
from evonas.objectives import CleanError
from evonas.runs import guarded
from evonas.runs.execution import resolve_device
from evonas.search import EvolutionConfig
from evonas.seeding import generator
from evonas.spaces import NSGANET, PhaseSpace
from evonas.training import TrainingConfig, resolve_precision
from evonas.types import Genome

PAPER = TrainingConfig()
TRAIN, VALIDATION = 42_500, 5_000


@dataclass(frozen=True, kw_only=True)
class Args:
    """Seconds of an evaluation and hours of a search, alone and with several processes on one device."""

    device: str = "cuda"
    """cuda, cuda:N or cpu."""
    data_root: Path | None = None
    """Where CIFAR-10 lies; else the variable EVONAS_DATA, else ./data. It is not downloaded."""
    epochs: int = PAPER.epochs
    train_limit: int = TRAIN
    val_limit: int = VALIDATION
    channels: int = 16
    genomes: int = 8
    processes: int = 4
    """At once, in the second measurement; they share the genomes equally."""
    threads: int = 1
    """CPU threads of one evaluation."""
    graphs: Literal["auto", "off"] = "auto"
    """CUDA graphs: off takes every step as it is."""

    def __post_init__(self) -> None:
        if not 1 <= self.processes <= self.genomes or self.genomes % self.processes:
            raise ConfigurationError(
                f"expected genomes to be a multiple of processes >= 1, got {self.genomes} and {self.processes}"
            )
        if self.threads < 1:
            raise ConfigurationError(f"expected threads >= 1, got {self.threads}")

    @property
    def training(self) -> TrainingConfig:
        precision, _ = resolve_precision("auto", torch.device(self.device))
        return replace(PAPER, epochs=self.epochs, precision=precision)


def steps(epochs: int, train: int, batch_size: int = PAPER.batch_size) -> int:
    """Training steps of one evaluation with so many images."""
    return epochs * math.ceil(train / batch_size)


@dataclass(frozen=True)
class Evaluation:
    """One evaluation, timed from outside."""

    seconds: float
    error: float


@dataclass(frozen=True)
class Share:
    """What one process did."""

    evaluations: list[Evaluation]
    started: float
    ended: float
    peak_bytes: int
    """Device memory that torch's allocator held at its peak; without the driver's own. 0 on a CPU."""


@dataclass(frozen=True)
class Measured:
    """All genomes, by some number of processes."""

    shares: list[Share]

    @property
    def evaluations(self) -> list[Evaluation]:
        return [evaluation for share in self.shares for evaluation in share.evaluations]

    @property
    def seconds(self) -> float:
        """From the first start to the last end."""
        return max(share.ended for share in self.shares) - min(share.started for share in self.shares)

    @property
    def peak_bytes(self) -> int:
        return sum(share.peak_bytes for share in self.shares)


def images(args: Args) -> Dataset:
    """CIFAR-10 where it is, else random images of its size; the same in every process."""
    if resolve_data("auto", args.data_root)[0] == "cifar10":
        return load_data("cifar10", args.data_root, 0, args.train_limit, args.val_limit)
    rng = generator("synthetic images")

    def part(size: int) -> Part:
        return Part(rng.integers(256, size=(size, 3, 32, 32), dtype=np.uint8), np.arange(size) % 10)

    limits = min(args.train_limit, TRAIN), min(args.val_limit, VALIDATION)
    train, validation, empty = part(limits[0]), part(limits[1]), part(0)
    half = (0.5, 0.5, 0.5)
    return Dataset("synthetic", 10, train, validation, empty, empty, half, half, flip=True)


def chosen(args: Args) -> list[Genome]:
    """The published genome, then random ones."""
    space = PhaseSpace()
    random = space.sample(args.genomes - 1, generator("genomes of the benchmark"))
    return [space.canonical(genome) for genome in (PhaseSpace.from_lists(NSGANET), *random)]


def run_share(args: Args, numbered: Sequence[tuple[int, Genome]]) -> Share:
    """Evaluate some genomes, after everybody has warmed up."""
    os.environ[SWITCH] = args.graphs
    device = torch.device(args.device)
    data = images(args)
    space = PhaseSpace(channels=args.channels)

    def evaluator(data: Dataset, training: TrainingConfig) -> Evaluator:
        return Evaluator(TrainFromScratch(space, data, training, args.device), (CleanError(),), args.threads)

    few = data.limited(256, 256, generator("warm-up"))
    evaluator(few, replace(args.training, epochs=1)).make_evaluate(_ignore)(numbered[0][1], 0)
    evaluate = evaluator(data, args.training).make_evaluate(_ignore)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    _everybody.wait(timeout=600)
    started, evaluations = time.time(), []
    for seed, genome in numbered:
        before = time.perf_counter()
        result = evaluate(genome, seed)  # ends with errors counted on the CPU, so the device is done, too
        if not result.ok:
            raise EvonasError(f"expected every evaluation to succeed, got: {result.reason}")
        evaluations.append(Evaluation(time.perf_counter() - before, result.objectives["clean_error"]))
    ended = time.time()
    peak = torch.cuda.max_memory_reserved(device) if device.type == "cuda" else 0
    return Share(evaluations, started, ended, peak)


_everybody: Barrier
"""Of a worker process: passed when all of them are ready."""


def _start_worker(barrier: Barrier) -> None:
    global _everybody
    _everybody = barrier


def _ignore(event: object) -> None: ...


def measure(args: Args, processes: int) -> Measured:
    """Evaluate all genomes with so many processes at once, each of which takes an equal share of them."""
    context = multiprocessing.get_context("spawn")
    genomes, size = list(enumerate(chosen(args))), args.genomes // processes
    shares = [genomes[i * size : (i + 1) * size] for i in range(processes)]
    with ProcessPoolExecutor(processes, context, _start_worker, (context.Barrier(processes),)) as pool:
        return Measured(list(pool.map(run_share, [args] * processes, shares)))


def show(args: Args, alone: Measured, together: Measured, console: Console) -> None:
    """Print both measurements and the hours of a whole search."""
    at_once = f"{args.processes} at once"
    table = Table(title=f"seconds an evaluation: {args.epochs} epoch(s) of {args.train_limit:,} images, then scoring")
    for heading in ("network", "parameters", "MACs", "alone", at_once, f"{at_once} / alone", "error"):
        table.add_column(heading, justify="right", no_wrap=True)
    space = PhaseSpace(channels=args.channels)
    for number, (genome, one, shared) in enumerate(
        zip(chosen(args), alone.evaluations, together.evaluations, strict=True)
    ):
        cost, ratio = space.cost(genome), shared.seconds / one.seconds
        table.add_row(
            "NSGA-Net" if number == 0 else f"random {number}",
            f"{cost.params:,}",
            f"{cost.macs:,}",
            f"{one.seconds:.2f}",
            f"{shared.seconds:.2f}",
            f"{ratio:.2f}",
            f"{one.error:.3f}",
        )
    console.print(table)

    evaluations = EvolutionConfig().evaluations
    scale = steps(PAPER.epochs, TRAIN) / steps(args.epochs, args.train_limit)
    projected = Table(title=f"a search of {evaluations} evaluations")
    for heading in ("", f"seconds of all {args.genomes}", "evaluations an hour", "hours", "peak memory, GiB"):
        projected.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for name, measured in (("alone", alone), (at_once, together)):
        seconds = measured.seconds / args.genomes * scale
        memory = f"{measured.peak_bytes / 2**30:.2f}" if measured.peak_bytes else "not measured"
        row = (f"{measured.seconds:.1f}", f"{3600 / seconds:.0f}", f"{evaluations * seconds / 3600:.2f}", memory)
        projected.add_row(name, *row)
    console.print(projected)
    if scale != 1:
        console.print(
            f"projected: {args.epochs} epoch(s) of {args.train_limit:,} images were measured; hours and evaluations an "
            f"hour are for {PAPER.epochs} epochs of {TRAIN:,}, {scale:.1f} times the training steps",
            highlight=False,
        )
    console.print(f"{at_once}: {alone.seconds / together.seconds:.2f} times the evaluations an hour", highlight=False)


def main() -> int:
    def run() -> None:
        args = tyro.cli(Args, description=__doc__)
        resolve_device(args.device)  # a clear line where it is not there
        console = Console(width=120)
        data, device = images(args), torch.device(args.device)
        args = replace(args, train_limit=len(data.train), val_limit=len(data.validation))
        what = torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"
        why = "" if data.name == "cifar10" else "random images of CIFAR-10's size, because CIFAR-10 is not there; "
        console.print(
            f"device: {what}; data: {data.name}, {why}{args.train_limit:,} to train on and {args.val_limit:,} to score "
            f"on; precision: {args.training.precision}; channels: {args.channels}",
            highlight=False,
        )
        show(args, measure(args, 1), measure(args, args.processes), console)

    return guarded(run)


if __name__ == "__main__":
    sys.exit(main())
